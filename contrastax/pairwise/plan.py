"""How reductions over all pairs are carried out; never what they give."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax
from jax.sharding import Mesh

from contrastax.core import UserError
from contrastax.pairwise.inputs import check_mesh

# Beyond this many pairs (8 MB of float32 on a device) tiles are no slower and need less memory.
_DENSE_PAIRS = 2**21


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a reduction over all pairs is carried out. The result is the same but for rounding.

  block: "dense": the [n, m] matrix at once; b or (rows, columns): tiles of that size, and the
    backward pass computes them again, so memory is linear in n + m; None: by size, dense up
    to two million pairs on a device, then tiles.
  mesh, axis: a mesh, over whose `axis` anchors and candidates are divided. Tiles then are
    computed in a ring: each device keeps its anchors, candidates travel. Without a mesh, or
    dense, communication is left to the compiler, which for tiles on several devices is
    right but makes every device compute every tile.
  """

  block: int | tuple[int, int] | Literal["dense"] | None = None
  mesh: Mesh | None = None
  axis: str = "data"

  def __post_init__(self):
    if self.mesh is not None:
      if not isinstance(self.mesh, Mesh):
        raise UserError(
          f"mesh is a jax.sharding.Mesh, not {self.mesh!r}; training.make_mesh() makes one"
        )
      check_mesh("the plan", self.mesh)
      if self.axis not in self.mesh.axis_names:
        raise UserError(
          f"axis {self.axis!r} is not in the mesh, whose axes are {self.mesh.axis_names}"
        )
    sizes = self.block if isinstance(self.block, tuple) else (self.block, self.block)
    told = len(sizes) == 2 and all(type(size) is int and size > 0 for size in sizes)
    if not (self.block in (None, "dense") or told):
      raise UserError(f'block is "dense", None, b or (rows, columns), not {self.block!r}')

  @property
  def devices(self) -> int:
    return 1 if self.mesh is None else self.mesh.shape[self.axis]

  def blocks(self, n: int, m: int, both: bool = False) -> tuple[int, int] | None:
    """The largest tile for n anchors and m candidates in all, of one role or both; None: dense."""
    if self.block is None:
      small = n * m <= _DENSE_PAIRS * self.devices
      # A tile of 512 stays in a CPU's cache; an accelerator wants fewer, larger kernels.
      side = 512 if jax.default_backend() == "cpu" else 4096
      # Twice as wide where it serves its candidates too, whose states are read and written again.
      return None if small else (side, side * (1 + both))
    if self.block == "dense":
      return None
    return self.block if isinstance(self.block, tuple) else (self.block, self.block)


def even(size: int, largest: int) -> tuple[int, int]:
  """(number, size) of equal blocks that cover `size` with the least padding, none above `largest`."""
  number = math.ceil(size / largest)
  return number, math.ceil(size / number)
