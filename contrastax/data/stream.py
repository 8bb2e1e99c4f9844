"""A source that reads each batch when it is needed."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Self

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
  def _begin(self) -> None:
    # The iterator of the batches that threads read ahead, or nothing.
    self._next, self._ahead = 0, []
    weakref.finalize(self, _close, self._ahead)

  @override
  def replace(
    self,
    *,
    order: Order | None = None,
    related: Mapping[str, Array | np.ndarray | Related] | None = None,
  ) -> Self:
    new = super().replace(order=order, related=related)
    new._begin()  # The batches that were read ahead are those of this source.
    return new

  @override
  def batch(self, step: Any) -> Batch:
    rows = self.order(step)
    step, expected = int(step), self._next
    self._next = step + 1
    if step != expected:
      # Batches are read ahead only for a caller that takes one after another.
      _close(self._ahead)
      return jax.device_put(_read(self._host_arrays, self._related, rows), self._sharding)
    if not self._ahead:
      self._ahead.append(self._read_ahead(step))
    try:
      return next(self._ahead[0])
    except BaseException:
      _close(self._ahead)  # The next batch of the iterator need not be that of the next step.
      raise

  def _read_ahead(self, start: int) -> Any:
    """Returns an iterator of the batches from a step on, which threads read in advance."""
    import grain

    # The threads hold no reference to the source, so they end when it is deleted.
    arrays, related, order = self._host_arrays, self._related, self.order
    batches = grain.MapDataset.range(start, MOST).map(
      lambda step: _read(arrays, related, order(step))
    )
    options = grain.ReadOptions(self._threads, prefetch_buffer_size=self._threads)
    return iter(
      grain.experimental.device_put(
        batches.to_iter_dataset(options), self._sharding, cpu_buffer_size=1, device_buffer_size=1
      )
    )


def _close(ahead: list[Any]) -> None:
  """Ends the threads that read ahead, and removes their iterator from the list."""
  while ahead:
    close = ahead.pop().close
    if threading.current_thread() is threading.main_thread():
      close()
    else:  # The garbage collector may run in one of these threads, which cannot wait for itself.
      threading.Thread(target=close).start()


def _read(
  arrays: Mapping[str, Any], related: Mapping[str, Related], rows: np.ndarray
) -> dict[str, Any]:
  """Returns the batch of the examples `rows`, [b] or [b, T], as NumPy arrays."""
  batch = _rows_of(arrays, rows)
  batch["index"] = rows if rows.ndim == 1 else rows[:, 0]
  for name, each in related.items():
    index = np.asarray(each.places)[rows]
    fields = {field: arrays[field] for field in each.fields or ()}
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
