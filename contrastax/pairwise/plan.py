"""How reductions over all pairs are computed. A plan does not change the result."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax
from jax.sharding import Mesh

from contrastax.core import UserError
from contrastax.pairwise.inputs import check_mesh

# Above this number of pairs (8 MB of float32 on a device) tiles are as fast and need less memory.
_DENSE_PAIRS = 2**21


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a reduction over all pairs is computed. Results differ by rounding errors only.

  Args:
    block: "dense" computes the whole [n, m] matrix at once. A size b, or sizes (rows, columns),
      computes tiles of that size. The backward pass computes the tiles again, so memory is linear
      in n + m. None selects by size: dense up to two million pairs on a device, and tiles for more
      pairs.
    mesh: the mesh. Anchors and candidates are divided over its axis `axis`. Tiles are then computed
      around a ring: each device keeps its anchors, and the candidates travel from device to device.
      Without a mesh, and for "dense", the compiler inserts the communication. For tiles on several
      devices the result is then correct, but every device computes every tile.
    axis: the name of the mesh axis.

  Raises:
    UserError: `block` has another value, the mesh has no axis of this name, or its axes are
      Explicit.

  Example:
    >>> from contrastax.pairwise import Plan
    >>> Plan().blocks(1_000, 1_000) is None  # dense
    True
    >>> Plan(block=256).blocks(1_000, 1_000)
    (256, 256)
  """

  block: int | tuple[int, int] | Literal["dense"] | None = None
  mesh: Mesh | None = None
  axis: str = "data"

  def __post_init__(self):
    if self.mesh is not None:
      if not isinstance(self.mesh, Mesh):
        raise UserError(
          f"mesh must be a jax.sharding.Mesh, not {self.mesh!r}; use training.make_mesh()"
        )
      check_mesh("the plan", self.mesh)
      if self.axis not in self.mesh.axis_names:
        raise UserError(
          f"axis {self.axis!r} is not in the mesh, whose axes are {self.mesh.axis_names}"
        )
    sizes = self.block if isinstance(self.block, tuple) else (self.block, self.block)
    valid = len(sizes) == 2 and all(type(size) is int and size > 0 for size in sizes)
    if not (self.block in (None, "dense") or valid):
      raise UserError(f'block must be "dense", None, b or (rows, columns), not {self.block!r}')

  @property
  def devices(self) -> int:
    """The number of devices on the mesh axis; 1 without a mesh."""
    return 1 if self.mesh is None else self.mesh.shape[self.axis]

  def blocks(self, n: int, m: int, both: bool = False) -> tuple[int, int] | None:
    """Returns the largest size of a tile, or None for a dense evaluation.

    Args:
      n: the number of anchors, on all devices.
      m: the number of candidates, on all devices.
      both: whether the scores are also reduced with the roles of anchors and candidates exchanged.

    Returns:
      (rows, columns), or None.
    """
    if self.block is None:
      small = n * m <= _DENSE_PAIRS * self.devices
      # A tile of 512 stays in a CPU's cache. An accelerator runs best with few, large kernels.
      side = 512 if jax.default_backend() == "cpu" else 4096
      # With `both`, every tile also reads and writes the states of its candidates. So tiles are
      # twice as wide, and there are half as many.
      return None if small else (side, side * (1 + both))
    if self.block == "dense":
      return None
    return self.block if isinstance(self.block, tuple) else (self.block, self.block)


def even(size: int, largest: int) -> tuple[int, int]:
  """Divides a size into equal blocks with the least padding.

  Args:
    size: the number of rows.
    largest: the largest size of a block.

  Returns:
    (number of blocks, size of a block).
  """
  number = math.ceil(size / largest)
  return number, math.ceil(size / number)
