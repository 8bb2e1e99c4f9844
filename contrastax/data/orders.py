"""Orders: functions from the step to the indices of the examples of a batch.

An order has no state, so a resumed run needs only the number of its next step. An order in epochs
draws one epoch at a time and caches two, so a batch costs O(batch size) on average.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from typing_extensions import override

from contrastax.core import Array, UserError, check_integer, check_seed
from contrastax.labels import NONE

MOST = 2**31 - 1  # Indices are int32.


class Order:
  """Base class of orders, which are frozen dataclasses.

  An order is called with a step and returns the indices of that step's examples. The result depends
  only on the step and on the order's fields. A subclass implements `indices`.

  Attributes:
    size: number of examples in the data set.
    batch_size: b, the number of examples or windows in a batch.
  """

  size: int
  batch_size: int

  def __call__(self, step: Any) -> np.ndarray:
    """Returns the indices of a step's examples.

    Args:
      step: an integer of 0 or more, or an array with one.

    Returns:
      int32 [b], or [b, T] if each row is a window of T successive examples.

    Raises:
      UserError: `step` is not such an integer.
    """
    try:
      number = operator.index(step)
    except TypeError:
      number = -1
    if number < 0:
      raise UserError(f"the step of a batch must be an integer of 0 or more, not {step!r}")
    return self.indices(number)

  def indices(self, step: int) -> np.ndarray:
    """Returns the indices of a valid step's examples, int32 [b] or [b, T]."""
    raise NotImplementedError

  @functools.cached_property
  def fingerprint(self) -> int:
    """A 32-bit checksum of the order's class name and of all its fields."""
    code = zlib.crc32(type(self).__name__.encode())
    for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]  # in subclasses
      value = getattr(self, field.name)
      if isinstance(value, np.ndarray):
        code = checksum(f"{field.name} {value.dtype} {value.shape}", value, code)
      else:
        code = zlib.crc32(f"{field.name} {value!r}".encode(), code)
    return code


class Epochs(Order):
  """Base class of orders that draw a whole epoch at a time.

  A subclass implements `_batches`, the number of batches in an epoch, and `_draw`.
  """

  @override
  def indices(self, step: int) -> np.ndarray:
    epoch, place = divmod(step, self._batches)
    return self._epoch(epoch)[place]

  @functools.cached_property
  def _batches(self) -> int:
    raise NotImplementedError

  @functools.cached_property
  def _epoch(self) -> Callable[[int], np.ndarray]:
    return functools.lru_cache(maxsize=2)(self._draw)

  def _draw(self, epoch: int) -> np.ndarray:
    """Returns the batches of an epoch, int32 [batches, b]."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class shuffled(Epochs):
  """Visits every example once per epoch, in a new random order in each epoch.

  Examples that do not fill a batch at the end of an epoch are left out of that epoch.

  Args:
    size: number of examples in the data set.
    batch_size: 1 to `size`.
    seed: 0 to 2³² − 1.

  Raises:
    UserError: an argument is out of range.

  Example:
    >>> from contrastax import data
    >>> order = data.shuffled(6, batch_size=3, seed=0)
    >>> sorted([*order(0).tolist(), *order(1).tolist()])
    [0, 1, 2, 3, 4, 5]
  """

  size: int
  batch_size: int
  seed: int = 0

  def __post_init__(self):
    size = check_integer("size", self.size, 1, MOST)
    batch_size = check_batch_size(self.batch_size, size, f"the data's {size}")
    store(self, size=size, batch_size=batch_size, seed=check_seed(self.seed))

  @functools.cached_property
  @override
  def _batches(self) -> int:
    return self.size // self.batch_size

  @override
  def _draw(self, epoch: int) -> np.ndarray:
    rows = np.random.default_rng((self.seed, epoch)).permutation(self.size).astype(np.int32)
    return rows[: self._batches * self.batch_size].reshape(-1, self.batch_size)


@dataclasses.dataclass(frozen=True)
class in_order(Order):
  """Visits the examples in the order of their indices, in consecutive blocks.

  The block of step t begins at (t · batch_size) mod size. A block that reaches the end of the data
  continues with the first examples.

  Args:
    size: number of examples in the data set.
    batch_size: 1 to `size`. None means `size`: each batch has all examples, such as the nodes of
      one graph.

  Raises:
    UserError: an argument is out of range.

  Example:
    >>> from contrastax import data
    >>> order = data.in_order(5, batch_size=3)
    >>> print(order(0), order(1))
    [0 1 2] [3 4 0]
  """

  size: int
  batch_size: int = None  # pyright: ignore[reportAssignmentType]  # an integer after __post_init__

  def __post_init__(self):
    size = check_integer("size", self.size, 1, MOST)
    value = size if self.batch_size is None else self.batch_size
    store(self, size=size, batch_size=check_batch_size(value, size, f"the data's {size}"))

  @override
  def indices(self, step: int) -> np.ndarray:
    rows = step * self.batch_size % self.size + np.arange(self.batch_size)
    return (rows % self.size).astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class windows(Epochs):
  """Visits windows of successive examples that lie within one episode.

  A window begins at each example that is followed by T − 1 more examples of its episode. In each
  epoch all windows are shuffled. Windows that do not fill a batch are left out of that epoch. A
  batch has indices [b, T].

  Args:
    episode: integers [size]. Successive examples with equal values form one episode. An example
      with −1 is in no window.
    length: T, 1 or more.
    batch_size: 1 to the number of windows.
    seed: 0 to 2³² − 1.

  Raises:
    UserError: an argument is out of range, or no episode has `length` examples.

  Example:
    >>> import numpy as np
    >>> from contrastax import data
    >>> order = data.windows(np.array([0, 0, 0, 1, 1]), length=2, batch_size=3)
    >>> print(sorted(order(0).tolist()))
    [[0, 1], [1, 2], [3, 4]]
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
      raise UserError(
        f"windows: no episode has length = {length} successive examples; lower length"
      )
    text = f"the data's {count} windows of length {length}"
    store(self, batch_size=check_batch_size(self.batch_size, count, text))

  @functools.cached_property
  def _starts(self) -> np.ndarray:
    # An episode is a run of equal values, because a value may occur again after another episode.
    run = np.cumsum(np.diff(self.episode, prepend=self.episode[:1]) != 0)
    first, last = slice(max(0, self.size - self.length + 1)), slice(self.length - 1, None)
    return np.flatnonzero((run[first] == run[last]) & (self.episode[first] != NONE))

  @functools.cached_property
  @override
  def _batches(self) -> int:
    return len(self._starts) // self.batch_size

  @override
  def _draw(self, epoch: int) -> np.ndarray:
    rows = np.random.default_rng((self.seed, epoch)).permutation(self._starts).astype(np.int32)
    return rows[: self._batches * self.batch_size].reshape(-1, self.batch_size)

  @override
  def indices(self, step: int) -> np.ndarray:
    return super().indices(step)[:, None] + np.arange(self.length, dtype=np.int32)


def checksum(text: str, values: Array | np.ndarray, code: int) -> int:
  """Continues the 32-bit checksum `code` with a text and the bytes of an array."""
  code = zlib.crc32(text.encode(), code)
  return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data, code)


def store(order: Order, **fields: Any) -> None:
  """Sets fields of a frozen order to their checked values."""
  for name, value in fields.items():
    object.__setattr__(order, name, value)


def check_batch_size(value: Any, most: int, what: str) -> int:
  """Returns the batch size as a Python integer.

  Raises:
    UserError: the value is not an integer from 1 to `most`, which is `what` in the message.
  """
  fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not (fits and 0 < value <= most):
    raise UserError(f"batch_size must be between 1 and {what}, not {value!r}")
  return int(value)


def check_divisible(batch_size: int, devices: int) -> None:
  """Checks that a batch can be divided among devices.

  Raises:
    UserError: the number of devices does not divide the batch size.
  """
  if batch_size % devices:
    raise UserError(
      f"batch_size {batch_size} is not divisible by the {devices} devices; "
      f"{batch_size - batch_size % devices or devices} is"
    )


def integers(name: str, values: Any) -> np.ndarray:
  """Returns a read-only int64 copy of integers [size].

  Raises:
    UserError: `values` are not such integers. The message contains `name`.
  """
  array = np.asarray(values)
  if array.ndim != 1 or array.dtype.kind not in "iub" or not 0 < array.size <= MOST:
    raise UserError(
      f"{name} must be integers [size], one for each example, not {array.dtype} "
      f"{list(array.shape)}; np.unique(…, return_inverse=True)[1] numbers other values"
    )
  array = np.array(array, np.int64)
  array.flags.writeable = False
  return array
