"""Orders: which examples each batch holds, as pure functions of (seed, step).

Nothing about the iteration is ever saved: a resumed run asks for the batch of its next step. Each
order draws one epoch at a time and keeps the last two, so a batch costs O(batch size) on average.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import zlib
from typing import Any

import numpy as np

from contrastax.core import Array, UserError, check_integer, check_seed
from contrastax.labels import NONE

MOST = 2**31 - 1  # indices are int32


class Order:
  """Which examples each batch holds: the base of frozen dataclasses.

  An order is called with the step and returns the numbers of the examples, int32 [b], or [b, T]
  where a row is T successive examples. The result depends on the fields and the step only. A
  subclass defines `indices`.

  size: the number of examples in the data set. batch_size: b.
  """

  size: int
  batch_size: int

  def __call__(self, step: Any) -> np.ndarray:
    """The indices of a step, an integer of 0 or more; raises UserError for any other step."""
    try:
      number = operator.index(step)
    except TypeError:
      number = -1
    if number < 0:
      raise UserError(f"batch takes a step, an integer of 0 or more, not {step!r}")
    return self.indices(number)

  def indices(self, step: int) -> np.ndarray:
    raise NotImplementedError

  @functools.cached_property
  def fingerprint(self) -> int:
    """A 32-bit checksum of the kind of order and of all its fields: numbers, texts and arrays."""
    found = zlib.crc32(type(self).__name__.encode())
    for field in dataclasses.fields(self):  # type: ignore[arg-type]
      value = getattr(self, field.name)
      if isinstance(value, np.ndarray):
        found = checksum(f"{field.name} {value.dtype} {value.shape}", value, found)
      else:
        found = zlib.crc32(f"{field.name} {value!r}".encode(), found)
    return found


class Epochs(Order):
  """An order whose epochs are drawn as a whole: `_draw(epoch)` returns its batches, [batches, b]."""

  def indices(self, step):
    epoch, place = divmod(step, self._batches)
    return self._epoch(epoch)[place]

  @functools.cached_property
  def _batches(self) -> int:
    raise NotImplementedError

  @functools.cached_property
  def _epoch(self):
    return functools.lru_cache(maxsize=2)(self._draw)

  def _draw(self, epoch: int) -> np.ndarray:
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class shuffled(Epochs):
  """Every example once in an epoch, in a new random order each epoch.

  Examples that do not fill a batch at the end of an epoch are left out of that epoch.

  Args:
    size: the number of examples in the data set.
    batch_size: 1 to `size`.
    seed: 0 to 2³² − 1.

  Raises:
    UserError: an argument is out of range.
  """

  size: int
  batch_size: int
  seed: int = 0

  def __post_init__(self):
    size = check_integer("size", self.size, 1, MOST)
    batch_size = check_batch_size(self.batch_size, size, f"the data's {size}")
    store(self, size=size, batch_size=batch_size, seed=check_seed(self.seed))

  @functools.cached_property
  def _batches(self):
    return self.size // self.batch_size

  def _draw(self, epoch):
    rows = np.random.default_rng((self.seed, epoch)).permutation(self.size).astype(np.int32)
    return rows[: self._batches * self.batch_size].reshape(-1, self.batch_size)


@dataclasses.dataclass(frozen=True)
class in_order(Order):
  """The examples as they lie: all of them in each batch, or consecutive blocks.

  The block of step t begins at (t · batch_size) mod size; a block that reaches the end of the data
  continues with the first examples.

  Args:
    size: the number of examples in the data set.
    batch_size: 1 to `size`; None is all examples, such as the nodes of one graph.

  Raises:
    UserError: an argument is out of range.
  """

  size: int
  batch_size: int = None  # type: ignore[assignment]

  def __post_init__(self):
    size = check_integer("size", self.size, 1, MOST)
    given = size if self.batch_size is None else self.batch_size
    store(self, size=size, batch_size=check_batch_size(given, size, f"the data's {size}"))

  def indices(self, step):
    rows = step * self.batch_size % self.size + np.arange(self.batch_size)
    return (rows % self.size).astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class windows(Epochs):
  """Windows of successive examples, [b, T], of which none crosses the end of an episode.

  In each epoch all windows of the data, one for each example that has T − 1 successors, are
  shuffled. Windows that do not fill a batch are left out of that epoch.

  Args:
    episode: integers [size]; successive examples with equal values are one episode. −1 is no
      episode, and the example is in no window.
    length: T, 1 or more.
    batch_size: 1 to the number of windows.
    seed: 0 to 2³² − 1.

  Raises:
    UserError: an argument is out of range, or no episode has `length` examples.
  """

  episode: np.ndarray
  length: int
  batch_size: int
  seed: int = 0
  size: int = dataclasses.field(init=False)

  def __post_init__(self):
    episode = integers("windows: episode", self.episode)
    length = check_integer("windows: length", self.length, 1)
    store(self, episode=episode, length=length, size=len(episode), seed=check_seed(self.seed))
    count = len(self._starts)
    if not count:
      raise UserError(f"windows: no episode has length = {length} successive examples; give less")
    text = f"the data's {count} windows of length {length}"
    store(self, batch_size=check_batch_size(self.batch_size, count, text))

  @functools.cached_property
  def _starts(self):
    # By runs, not by values: a value may return after another episode.
    run = np.cumsum(np.diff(self.episode, prepend=self.episode[:1]) != 0)
    first, last = slice(max(0, self.size - self.length + 1)), slice(self.length - 1, None)
    return np.flatnonzero((run[first] == run[last]) & (self.episode[first] != NONE))

  @functools.cached_property
  def _batches(self):
    return len(self._starts) // self.batch_size

  def _draw(self, epoch):
    rows = np.random.default_rng((self.seed, epoch)).permutation(self._starts).astype(np.int32)
    return rows[: self._batches * self.batch_size].reshape(-1, self.batch_size)

  def indices(self, step):
    return super().indices(step)[:, None] + np.arange(self.length, dtype=np.int32)


def checksum(text: str, values: Array | np.ndarray, found: int) -> int:
  """The 32-bit checksum `found` continued by a text and the bytes of an array."""
  found = zlib.crc32(text.encode(), found)
  return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8), found)


def store(order: Order, **fields: Any) -> None:
  """Sets checked fields of a frozen order."""
  for name, value in fields.items():
    object.__setattr__(order, name, value)


def check_batch_size(value: Any, most: int, what: str) -> int:
  """The batch size as a Python integer; raises UserError unless it is 1 to `most`, called `what`."""
  fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not (fits and 0 < value <= most):
    raise UserError(f"batch_size must be between 1 and {what}, not {value!r}")
  return int(value)


def integers(name: str, values: Any) -> np.ndarray:
  """A copy of integers [size], one for each example, that cannot be written to."""
  found = np.asarray(values)
  if found.ndim != 1 or found.dtype.kind not in "iub" or not 0 < found.size <= MOST:
    raise UserError(
      f"{name} must be integers [size], one for each example, not {found.dtype} "
      f"{list(found.shape)}; np.unique(…, return_inverse=True)[1] numbers other values"
    )
  found = np.array(found, np.int64)
  found.flags.writeable = False
  return found
