"""A source that keeps all examples on the device."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import override

from contrastax.core import Array, Batch
from contrastax.data.columns import Column
from contrastax.data.source import OrderedSource


class Resident(OrderedSource):
  """A source that keeps all examples on the device.

  Batch t is a pure function of the order and of t. By default the order is `shuffled`: each epoch
  of size // batch_size steps has its own permutation, and examples that do not fill a batch at its
  end are left out of that epoch. Images stay uint8; views are drawn in the step.

  A batch has the fields of the data, [b, …], and `index` [b], the indices of its examples. An order
  of windows gives fields [b, T, …], and `index` is the first example of each window.

  Args:
    arrays: fields by name. A field is an array of booleans, integers or floating point with one
      example per row, a `Column`, or a tree (dicts and tuples) of these. An array `image` with four axes
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

  @override
  def _begin(self) -> None:
    arrays = jax.tree.map(
      lambda x: np.asarray(x) if isinstance(x, Column) else x, self._host_arrays
    )
    self._arrays, self._fields = jax.device_put(arrays, self._replicated), None

  @override
  def _set_related(self, related: Mapping[str, Any]) -> None:
    super()._set_related(related)
    places = {name: related.places for name, related in self._related.items()}
    self._places = jax.device_put(places, self._replicated)
    fields = {name: related.fields or () for name, related in self._related.items()}
    # If only indices change, as after a refresh, nothing is compiled again.
    if fields != self._fields:
      self._fields = fields
      self._take = jax.jit(functools.partial(_take, fields), out_shardings=self._sharding)

  @override
  def batch(self, step: Any) -> Batch:
    rows = self.order(step)
    with self._mesh_context():
      return self._take(self._arrays, self._places, rows)


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
