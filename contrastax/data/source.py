"""What the sources have in common: their fields, order, related examples and fingerprint."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import zlib
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastax.core import Array, Batch, UserError
from contrastax.data.columns import Column
from contrastax.data.fields import Related, check_fields, check_related, leaves
from contrastax.data.orders import Order, check_batch_size, check_divisible, checksum, shuffled


class OrderedSource:
  """Base class of sources. A subclass implements `batch`.

  The arguments are those of `Resident`.

  Attributes:
    size: number of examples.
    order: the order of the examples.
    batch_size: number of examples in a batch.
  """

  def __init__(
    self,
    arrays: Mapping[str, Any],
    *,
    batch_size: int | None = None,
    seed: int = 0,
    order: Order | None = None,
    related: Mapping[str, Array | np.ndarray | Related] | None = None,
    sharding: NamedSharding | None = None,
  ):
    self.size = check_fields(arrays)
    self.order = _make_order(order, self.size, batch_size, seed)
    self.batch_size, self._host_arrays = self.order.batch_size, dict(arrays)
    replicated, self._mesh_context = None, contextlib.nullcontext
    if sharding is not None:
      mesh = _with_automatic_axes(sharding)
      sharding = NamedSharding(mesh, sharding.spec)
      check_divisible(self.batch_size, _count_parts(sharding))
      replicated = NamedSharding(mesh, PartitionSpec())
      # The caller may have set another mesh by jax.set_mesh, whose axes may be explicit.
      self._mesh_context = functools.partial(jax.set_mesh, mesh)
    self._sharding, self._replicated = sharding, replicated
    self._begin()
    self._set_related({} if related is None else related)

  def _begin(self) -> None:
    """Prepares the fields, before the related examples are set."""

  def batch(self, step: Any) -> Batch:
    """Returns the batch of a step.

    Args:
      step: an integer of 0 or more, or an array with one, such as `state.step`.

    Returns:
      The fields, related fields and `index` of the batch by name.

    Raises:
      UserError: `step` is not such an integer.
    """
    raise NotImplementedError

  @property
  def arrays(self) -> Mapping[str, Any]:
    """The fields of all examples, as they were passed."""
    return self._host_arrays

  def replace(
    self,
    *,
    order: Order | None = None,
    related: Mapping[str, Array | np.ndarray | Related] | None = None,
  ) -> Self:
    """Returns a source of the same data with another order or other related examples.

    The data on the device are shared, not copied.

    Args:
      order: an order of the same batch size. None keeps the order.
      related: related examples, which are added or replace those of the same name.

    Returns:
      A new source.

    Raises:
      UserError: an argument is invalid.
    """
    new = copy.copy(self)
    new.__dict__.pop("_fingerprint", None)
    if order is not None:
      new.order = _make_order(order, self.size, None, 0)
      if order.batch_size != self.batch_size:
        raise UserError(
          f"the new order has batch size {order.batch_size}, but the source has {self.batch_size}"
        )
    if related is not None:
      new._set_related({**self._related, **related})
    return new

  def _set_related(self, related: Mapping[str, Any]) -> None:
    self._related = check_related(related, self._host_arrays, self.size)

  @property
  def fingerprint(self) -> int:
    """A 32-bit checksum of the arrays, the order and the related examples.

    The order `shuffled` does not affect it, so a run may resume with another batch size.
    """
    return self._fingerprint

  @functools.cached_property
  def _fingerprint(self) -> int:
    code = 0
    for path, values in leaves(self._host_arrays):
      # A column has checksums of its files, so it is not read.
      content = np.array(values.checksum) if isinstance(values, Column) else values
      code = checksum(f"{path} {values.dtype} {values.shape}", content, code)
    if type(self.order) is not shuffled:
      code = zlib.crc32(f"order {self.order.fingerprint}".encode(), code)
    for name in sorted(self._related):
      places, fields = self._related[name].places, self._related[name].fields
      code = checksum(f"related {name} {fields} {places.shape}", places, code)
    return code


def _make_order(order: Order | None, size: int, batch_size: int | None, seed: int) -> Order:
  """Checks the order; without one, returns `shuffled`."""
  if order is None:
    return shuffled(size, check_batch_size(batch_size, size, f"the data's {size}"), seed)
  if not isinstance(order, Order):
    raise UserError(f"order must be an order, such as data.balanced(…), not {order!r}")
  if batch_size is not None or seed != 0:
    raise UserError("the order has its own batch_size and seed; do not pass these to Resident")
  if order.size != size:
    raise UserError(f"the order is for {order.size} examples, but the data have {size}")
  return order


def _with_automatic_axes(sharding: Any) -> Mesh:
  """Returns the mesh of a sharding with automatic axes, unlike `jax.make_mesh`."""
  if not isinstance(sharding, NamedSharding):
    raise UserError(f"sharding must be training.sharded(mesh), not {type(sharding).__name__}")
  mesh = sharding.mesh
  if not isinstance(mesh, Mesh):
    raise UserError("sharding must have a mesh of devices, not an abstract mesh")
  return Mesh(mesh.devices, mesh.axis_names)


def _count_parts(sharding: NamedSharding) -> int:
  """Returns the number of parts into which the first axis is divided."""
  axes = sharding.spec[0] if len(sharding.spec) else ()
  axes = axes if isinstance(axes, tuple) else (axes,)
  return math.prod(sharding.mesh.shape[axis] for axis in axes if axis is not None)
