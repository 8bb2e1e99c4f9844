"""A source that reads each batch when it is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from typing_extensions import override

from contrastax.core import Array, Batch, check_integer
from contrastax.data.columns import Column
from contrastax.data.fields import Related
from contrastax.data.orders import MOST, Order
from contrastax.data.source import OrderedSource


class Stream(OrderedSource):
  """A source that reads each batch when it is needed, so the data may be larger than the memory.

  Its batches are those of `Resident` with the same arguments, and its fingerprint is the same. A
  run can resume with the other source. While a step runs, threads read the next batches and copy
  them to the device. The memory is that of a few batches.

  Args:
    arrays: fields by name, see `Resident`. Fields that are columns, such as the images of
      `data.load("folder:…")`, are read in batches.
    batch_size: number of examples in a batch, 1 to the number of examples.
    seed: 0 to 2³² − 1.
    order: an order, instead of `batch_size` and `seed`.
    related: related examples by name, see `Resident`.
    sharding: layout of a batch on several devices, such as `training.sharded(mesh)`.
    threads: number of batches that are read at the same time. None means the number of processor
      cores.

  Raises:
    UserError: an argument is invalid, or a file cannot be read.

  Example:
    >>> import numpy as np
    >>> from contrastax import data
    >>> source = data.Stream({"x": np.arange(6.0)}, batch_size=2)
    >>> source.batch(0)["x"].shape
    (2,)
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
    threads: int | None = None,
  ):
    threads = os.cpu_count() or 1 if threads is None else threads
    self._threads = check_integer("threads", threads, 1)
    super().__init__(
      arrays, batch_size=batch_size, seed=seed, order=order, related=related, sharding=sharding
    )

  @override
  def _set_related(self, related: Mapping[str, Any]) -> None:
    super()._set_related(related)
    self._last, self._batches = -1, None

  @override
  def batch(self, step: Any) -> Batch:
    rows = self.order(step)
    step = int(step)
    successive, self._last = step == self._last + 1, step
    if not successive:
      # Batches are read ahead only for a caller that takes one after another.
      self._batches = None
      return jax.device_put(self._read(rows), self._sharding)
    if self._batches is None:
      self._batches = self._read_ahead(step)
    return next(self._batches)

  def _read_ahead(self, start: int) -> Iterator[Batch]:
    """Returns the batches from a step on, which threads read in advance."""
    import grain

    batches = grain.MapDataset.range(start, MOST).map(lambda step: self._read(self.order(step)))
    options = grain.ReadOptions(self._threads, prefetch_buffer_size=self._threads)
    return iter(
      grain.experimental.device_put(
        batches.to_iter_dataset(options), self._sharding, cpu_buffer_size=1, device_buffer_size=1
      )
    )

  def _read(self, rows: np.ndarray) -> dict[str, Any]:
    """Returns the batch of the examples `rows`, [b] or [b, T], as NumPy arrays."""
    batch = _rows_of(self._host_arrays, rows)
    batch["index"] = rows if rows.ndim == 1 else rows[:, 0]
    for name, related in self._related.items():
      index = np.asarray(related.places)[rows]
      fields = {field: self._host_arrays[field] for field in related.fields or ()}
      gathered = _rows_of(fields, np.maximum(index, 0))
      batch |= {f"{name}_{field}": values for field, values in gathered.items()}
      batch[f"{name}_index"] = index
    return batch


def _rows_of(arrays: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
  def take(values: Any) -> np.ndarray:
    if not isinstance(values, Column):
      return np.asarray(values)[rows]
    # Grain reads several batches at the same time, so one batch is read by one thread.
    read = values.reader.read(values.rows[rows.reshape(-1)])
    return read.reshape(*rows.shape, *read.shape[1:])

  return jax.tree.map(take, dict(arrays))
