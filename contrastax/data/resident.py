"""A source whose examples all lie on the device."""

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
from contrastax.data.orders import Order, checksum, shuffled


class Resident:
  """Batches of arrays that lie on the device, in an order; they are augmented in the step.

  Batch t is a pure function of (order, t). By default the order is `shuffled`: epoch
  t // (size // batch_size) has its own permutation, and examples that do not fill a batch at its
  end are left out of that epoch. Images stay uint8.

  A batch has the fields of the data, [b, …], and `index` [b], the numbers of its examples. An order
  of windows gives fields [b, T, …], and `index` is the first example of each window.

  Args:
    arrays: by name, each with an example in each row: booleans, integers or floating point; or
      trees of such arrays, of dicts and tuples. An array called `image` with four axes is images,
      uint8 or float in [0, 1]. 64-bit arrays become 32-bit ones unless `jax_enable_x64` is set.
    batch_size: examples in a batch, 1 to the number of examples.
    seed: 0 to 2³² − 1.
    order: in place of `batch_size` and `seed`, such as `data.balanced(labels, 8, 4, seed=0)`.
    related: places of further examples, integers [size] or [size, k], or `data.Related`, by name.
      For a name `hard` the batch also has `hard_index`, the places of its examples, and `hard_image`
      of the field `image`, and so on, [b, …] or [b, k, …]. A place of −1 is none: its fields
      are those of example 0, and `hard_index` is −1, by which they are left out.
    sharding: how a batch is laid out on several devices, `training.sharded(mesh)`; all examples lie
      on each of them. A mesh of explicit axes is taken as one of automatic axes.

  Raises:
    UserError: an argument that is not so; integers that do not fit 32 bits; an order of another
      size than the data's.

  Example:
    data.Resident({"image": images, "label": labels}, batch_size=256, seed=0)
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
    self.order = _order(order, self.size, batch_size, seed)
    self.batch_size, self._given = self.order.batch_size, dict(arrays)
    everywhere, self._mesh = None, contextlib.nullcontext
    if sharding is not None:
      sharding = _automatic(sharding)
      parts = _parts(sharding)
      if self.batch_size % parts:
        raise UserError(
          f"batch_size {self.batch_size} is not divisible by the {parts} devices; "
          f"{self.batch_size - self.batch_size % parts or parts} is"
        )
      everywhere = NamedSharding(sharding.mesh, PartitionSpec())
      # Not a mesh that the caller gave jax.set_mesh, whose axes may be explicit.
      self._mesh = functools.partial(jax.set_mesh, sharding.mesh)
    self._sharding, self._everywhere, self._fields = sharding, everywhere, None
    self._arrays = jax.device_put(self._given, everywhere)
    self._relate({} if related is None else related)

  @property
  def arrays(self) -> Mapping[str, Any]:
    """The arrays as they were given."""
    return self._given

  def replace(
    self,
    *,
    order: Order | None = None,
    related: Mapping[str, Array | np.ndarray | Related] | None = None,
  ) -> Resident:
    """The source with another order, or with further related examples; the data stay on the device.

    Related examples of a name that the source has already take the place of those.
    """
    new = copy.copy(self)
    new.__dict__.pop("fingerprint", None)
    if order is not None:
      new.order = _order(order, self.size, None, 0)
      if order.batch_size != self.batch_size:
        raise UserError(f"the order's batch size is {order.batch_size}, and was {self.batch_size}")
    if related is not None:
      new._relate({**self._related, **related})
    return new

  def _relate(self, related):
    self._related = check_related(related, self._given, self.size)
    places = {name: related.places for name, related in self._related.items()}
    self._places = jax.device_put(places, self._everywhere)
    fields = {name: related.fields for name, related in self._related.items()}
    if fields != self._fields:  # other places alone, as after a refresh, need no other program
      self._fields = fields
      self._take = jax.jit(functools.partial(_take, fields), out_shardings=self._sharding)

  @functools.cached_property
  def fingerprint(self) -> int:
    """A 32-bit checksum of the data: arrays with their names, types and shapes, order and related.

    An order that is `shuffled` adds nothing, so a run may go on with another batch size.
    """
    found = 0
    for path, values in leaves(self._given):
      found = checksum(f"{path} {values.dtype} {values.shape}", values, found)
    if type(self.order) is not shuffled:
      found = zlib.crc32(f"order {self.order.fingerprint}".encode(), found)
    for name in sorted(self._related):
      places, fields = self._related[name].places, self._related[name].fields
      found = checksum(f"related {name} {fields} {places.shape}", places, found)
    return found

  def batch(self, step: int) -> Batch:
    """The batch of a step, 0 or more: a Python integer, or an array with one, such as `state.step`.

    Raises UserError for any other step.
    """
    rows = self.order(step)
    with self._mesh():
      return self._take(self._arrays, self._places, rows)


def _order(order, size, batch_size, seed):
  """The order of the data, `shuffled` where none is given."""
  if order is None:
    return shuffled(size, batch_size, seed)
  if not isinstance(order, Order):
    raise UserError(f"order must be one of contrastax.data, such as balanced, not {order!r}")
  if batch_size is not None or seed != 0:
    raise UserError("the order has a batch size and a seed of its own; give none besides order")
  if order.size != size:
    raise UserError(f"the order is of {order.size} examples, and the data have {size}")
  return order


def _take(fields, arrays, places, rows):
  """The batch of the examples `rows`, [b] or [b, T]."""
  batch = _rows_of(arrays, rows)
  batch["index"] = rows if rows.ndim == 1 else rows[:, 0]
  for name, of_all in places.items():
    at = jnp.take(of_all, rows, axis=0)
    found = _rows_of({field: arrays[field] for field in fields[name]}, jnp.maximum(at, 0))
    batch |= {f"{name}_{field}": values for field, values in found.items()}
    batch[f"{name}_index"] = at
  return batch


def _rows_of(arrays, rows):
  return jax.tree.map(lambda values: jnp.take(values, rows, axis=0), arrays)


def _automatic(sharding):
  """The same layout on a mesh of automatic axes; `jax.make_mesh` makes explicit ones."""
  if not isinstance(sharding, NamedSharding):
    raise UserError(f"sharding must be training.sharded(mesh), not {type(sharding).__name__}")
  return NamedSharding(Mesh(sharding.mesh.devices, sharding.mesh.axis_names), sharding.spec)


def _parts(sharding):
  """Into how many parts the first axis is divided."""
  axes = sharding.spec[0] if len(sharding.spec) else ()
  axes = axes if isinstance(axes, tuple) else (axes,)
  return math.prod(sharding.mesh.shape[axis] for axis in axes if axis is not None)
