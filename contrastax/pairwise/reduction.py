"""The base of reductions: the methods that the engine calls.

A reduction is a monoid: `Reduction.from_tile` reduces one tile to a state, and `Reduction.merge`
combines the states of disjoint sets of candidates. Every division into tiles, in every order, gives
the same result.
"""

from __future__ import annotations

import abc
from typing import Any

from contrastax.core import Array


class Reduction(abc.ABC):
  """The base of reductions, which are frozen dataclasses.

  A state is an array or a tuple of arrays, with one entry per row. A row is an anchor, or a
  candidate if the roles are exchanged.

  A row that has a NaN among its quantities has a NaN as result and as gradient. A test for a row
  without pairs should compare with the value that only such a row has (`== 0`, `== -inf`). The test
  `> 0` would be false for NaN too.

  Attributes:
    identity: the quantity of an ignored pair. It does not change the result.
    differentiable: whether the reduction has a gradient, and thus a method `vjp`.
  """

  identity: Any
  differentiable: bool = True

  @abc.abstractmethod
  def empty(self, like: Array) -> Any:
    """Returns the state of rows without pairs.

    Args:
      like: an array with one entry per row. The state has its shape and type.
    """

  @abc.abstractmethod
  def from_tile(self, x: Any, positions: Array, axis: int) -> Any:
    """Reduces one tile to a state.

    Args:
      x: the quantities of the tile.
      positions: the numbers of the tile's candidates, int32, which broadcast against x.
      axis: the axis of x along which the candidates vary.
    """

  @abc.abstractmethod
  def merge(self, a: Any, b: Any) -> Any:
    """Combines the states of two disjoint sets of candidates."""

  @abc.abstractmethod
  def finish(self, state: Any) -> Any:
    """Returns the result of a state."""

  def vjp(self, x: Any, positions: Array, state: Any, g: Any, axis: int) -> Any:
    """Returns the cotangent of one tile's quantities.

    An evaluation in tiles does not store x. It computes x again and calls this method.

    Args:
      x: the quantities of the tile.
      positions: as in `from_tile`.
      state: the final state, of all tiles.
      g: the cotangent of the result.
      axis: as in `from_tile`.
    """
    raise NotImplementedError
