"""A source that keeps all examples on the device."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastax.core import Array, Batch, UserError
from contrastax.data.fields import Related, check_fields, check_related, leaves
from contrastax.data.orders import Order, check_batch_size, check_divisible, checksum, shuffled


class Resident:
  """A source that keeps all examples on the device.

  Batch t is a pure function of the order and of t. By default the order is `shuffled`: each epoch
  of size // batch_size steps has its own permutation, and examples that do not fill a batch at its
  end are left out of that epoch. Images stay uint8; views are drawn in the step.

  A batch has the fields of the data, [b, …], and `index` [b], the indices of its examples. An order
  of windows gives fields [b, T, …], and `index` is the first example of each window.

  Args:
    arrays: fields by name. A field is an array of booleans, integers or floating point with one
      example per row, or a tree (dicts and tuples) of such arrays. An array `image` with four axes
      must contain images, uint8 or float in [0, 1]. 64-bit arrays become 32-bit ones unless
      `jax_enable_x64` is set.
    batch_size: number of examples in a batch, 1 to the number of examples.
    seed: 0 to 2³² − 1.
    order: an order, such as `data.balanced(labels, classes=8, per_class=4)`, instead of
      `batch_size` and `seed`.
    related: related examples by name: their indices [size] or [size, k], or a `data.Related`. For
      the name `hard` the batch also has `hard_index`, the indices of the related examples, and
      `hard_image` for the field `image` and so on, [b, …] or [b, k, …]. For an index of −1
      (none), the fields are those of example 0; parts ignore them because `hard_index` is −1.
    sharding: layout of a batch on several devices, such as `training.sharded(mesh)`. Every device
      keeps all examples. A mesh with explicit axes is treated as one with automatic axes.

  Attributes:
    size: number of examples.
    order: the order of the examples.
    batch_size: number of examples in a batch.

  Raises:
    UserError: an argument is invalid, an integer does not fit into 32 bits, or the order is for
      another number of examples.

  Example:
    >>> import numpy as np
    >>> from contrastax import data
    >>> arrays = {"image": np.zeros((10, 8, 8, 1), np.uint8), "label": np.arange(10)}
    >>> source = data.Resident(arrays, batch_size=4)
    >>> {name: values.shape for name, values in sorted(source.batch(0).items())}
    {'image': (4, 8, 8, 1), 'index': (4,), 'label': (4,)}
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
    self._sharding, self._replicated, self._fields = sharding, replicated, None
    self._arrays = jax.device_put(self._host_arrays, replicated)
    self._set_related({} if related is None else related)

  @property
  def arrays(self) -> Mapping[str, Any]:
    """The fields of all examples, as they were passed."""
    return self._host_arrays

  def replace(
    self,
    *,
    order: Order | None = None,
    related: Mapping[str, Array | np.ndarray | Related] | None = None,
  ) -> Resident:
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
    places = {name: related.places for name, related in self._related.items()}
    self._places = jax.device_put(places, self._replicated)
    fields = {name: related.fields or () for name, related in self._related.items()}
    # If only indices change, as after a refresh, nothing is compiled again.
    if fields != self._fields:
      self._fields = fields
      self._take = jax.jit(functools.partial(_take, fields), out_shardings=self._sharding)

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
      code = checksum(f"{path} {values.dtype} {values.shape}", values, code)
    if type(self.order) is not shuffled:
      code = zlib.crc32(f"order {self.order.fingerprint}".encode(), code)
    for name in sorted(self._related):
      places, fields = self._related[name].places, self._related[name].fields
      code = checksum(f"related {name} {fields} {places.shape}", places, code)
    return code

  def batch(self, step: Any) -> Batch:
    """Returns the batch of a step.

    Args:
      step: an integer of 0 or more, or an array with one, such as `state.step`.

    Returns:
      The fields, related fields and `index` of the batch by name.

    Raises:
      UserError: `step` is not such an integer.
    """
    rows = self.order(step)
    with self._mesh_context():
      return self._take(self._arrays, self._places, rows)


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


def _take(
  fields: Mapping[str, tuple[str, ...]],
  arrays: Mapping[str, Any],
  places: Mapping[str, Array],
  rows: Array,
) -> dict[str, Any]:
  """Returns the batch of the examples `rows`, [b] or [b, T]."""
  batch = _rows_of(arrays, rows)
  batch["index"] = rows if rows.ndim == 1 else rows[:, 0]
  for name, all_places in places.items():
    index = jnp.take(all_places, rows, axis=0)
    gathered = _rows_of({field: arrays[field] for field in fields[name]}, jnp.maximum(index, 0))
    batch |= {f"{name}_{field}": values for field, values in gathered.items()}
    batch[f"{name}_index"] = index
  return batch


def _rows_of(arrays: Mapping[str, Any], rows: Array) -> dict[str, Any]:
  return jax.tree.map(lambda values: jnp.take(values, rows, axis=0), dict(arrays))


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
