"""Orders by a value of each example: class-balanced batches, and batches of one group."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
from typing_extensions import override

from contrastax.core import UserError, check_integer, check_seed
from contrastax.data.orders import Epochs, Order, check_batch_size, integers, store
from contrastax.labels import NONE


@dataclasses.dataclass(frozen=True, eq=False)
class balanced(Order):
  """Draws batches with exactly K examples of each of exactly P classes.

  The batch size is P · K, and the K examples of a class are adjacent in the batch. Classes are
  visited equally often. Their order consists of random permutations of all classes, which are
  divided into batches. If a batch spans two permutations, the second one is arranged so that no
  class occurs twice in the batch. Within a class the examples are also visited in random
  permutations, K at a time. Fewer than K examples can remain at the end of a permutation; they
  are left out of it.

  Args:
    by: integers [size], the class of each example. Examples with −1 are left out.
    classes: P, from 1 to the number of classes.
    per_class: K, from 1 to the size of the smallest class.
    seed: 0 to 2³² − 1.

  Raises:
    UserError: an argument is out of range, or a class has fewer than K examples.

  Example:
    >>> import numpy as np
    >>> from contrastax import data
    >>> label = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    >>> order = data.balanced(label, classes=2, per_class=2)
    >>> sorted(np.unique(label[order(0)], return_counts=True)[1].tolist())
    [2, 2]
  """

  by: np.ndarray
  classes: int
  per_class: int
  seed: int = 0
  size: int = dataclasses.field(init=False)
  batch_size: int = dataclasses.field(init=False)

  def __post_init__(self):
    by = integers("balanced: by", self.by)
    chosen = check_integer("balanced: classes", self.classes, 1)
    each = check_integer("balanced: per_class", self.per_class, 1)
    values, starts, members = _members_of(by)
    if chosen > len(values):
      raise UserError(
        f"balanced: classes is {chosen}, but by has {len(values)} values besides -1; lower classes"
      )
    sizes = np.diff([*starts, len(members)])
    if sizes.min() < each:
      small = int(sizes.argmin())
      raise UserError(
        f"balanced: the value {values[small]} of by has {sizes[small]} examples, fewer than "
        f"per_class = {each} ({(sizes < each).sum()} of {len(sizes)} values have fewer); lower "
        "per_class, or set such values to -1 to leave them out"
      )
    store(self, by=by, classes=chosen, per_class=each, seed=check_seed(self.seed))
    store(self, size=len(by), batch_size=chosen * each)

  @override
  def indices(self, step: int) -> np.ndarray:
    count, chosen, each = len(self._members), self.classes, self.per_class
    # A cycle is the smallest number of permutations of the classes that fills whole batches.
    permutations = chosen // math.gcd(count, chosen)
    cycle, place = divmod(step, permutations * count // chosen)
    positions = np.arange(place * chosen, (place + 1) * chosen)
    visits = cycle * permutations + positions // count  # earlier visits of each class
    rows = []
    for number, visit in zip(self._cycle(cycle)[positions].tolist(), visits.tolist(), strict=True):
      passed, block = divmod(visit, len(self._members[number]) // each)
      rows.append(self._pass(number, passed)[block * each : (block + 1) * each])
    return np.concatenate(rows).astype(np.int32)

  @functools.cached_property
  def _members(self) -> list[np.ndarray]:
    _, starts, members = _members_of(self.by)
    return np.split(members, starts[1:])

  @functools.cached_property
  def _cycle(self) -> Callable[[int], np.ndarray]:
    return functools.lru_cache(maxsize=2)(self._draw)

  @functools.cached_property
  def _passes(self) -> dict[int, tuple[int, np.ndarray]]:
    return {}

  def _draw(self, cycle: int) -> np.ndarray:
    """Returns the classes of a cycle in the order of their visits."""
    count, chosen = len(self._members), self.classes
    rng = np.random.default_rng((self.seed, 0, cycle))
    permutations = [rng.permutation(count)]
    for number in range(1, chosen // math.gcd(count, chosen)):
      begun = number * count % chosen  # classes in the batch that spans both permutations
      taken, fresh = permutations[-1][count - begun :], rng.permutation(count)
      head = fresh[~np.isin(fresh, taken)][: chosen - begun]
      permutations.append(np.concatenate([head, fresh[~np.isin(fresh, head)]]))
    return np.concatenate(permutations)

  def _pass(self, number: int, passed: int) -> np.ndarray:
    """Returns the examples of a class in the order of one pass, and caches the last pass drawn."""
    cached = self._passes.get(number)
    if cached is None or cached[0] != passed:
      rng = np.random.default_rng((self.seed, number + 1, passed))
      cached = self._passes[number] = passed, rng.permutation(self._members[number])
    return cached[1]


@dataclasses.dataclass(frozen=True, eq=False)
class grouped(Epochs):
  """Draws each batch from one group, such as a cluster, a task or a domain.

  In each epoch the examples of a group are shuffled and divided into batches, and the batches of
  all groups are shuffled. So the number of batches of a group is proportional to its size. Examples
  that do not fill a batch of their group are left out of that epoch. Groups with fewer than
  `batch_size` examples are always left out.

  Args:
    by: integers [size], the group of each example. Examples with −1 are left out.
    batch_size: 1 to the size of the largest group.
    seed: 0 to 2³² − 1.

  Raises:
    UserError: an argument is out of range, or no group has `batch_size` examples.

  Example:
    >>> import numpy as np
    >>> from contrastax import data
    >>> task = np.array([0, 1, 0, 1, 0, 1])
    >>> order = data.grouped(task, batch_size=3)
    >>> len(np.unique(task[order(0)]))
    1
  """

  by: np.ndarray
  batch_size: int
  seed: int = 0
  size: int = dataclasses.field(init=False)

  def __post_init__(self):
    by = integers("grouped: by", self.by)
    _, starts, members = _members_of(by)
    largest = int(np.diff([*starts, len(members)]).max(initial=0))
    if not largest:
      raise UserError("grouped: all values of by are -1; give some examples a group")
    text = f"the {largest} examples of the largest group"
    batch_size = check_batch_size(self.batch_size, largest, text)
    store(self, by=by, batch_size=batch_size, seed=check_seed(self.seed), size=len(by))

  @functools.cached_property
  def _full(self) -> np.ndarray:
    """A mask of the positions, in examples sorted by group, that fill whole batches."""
    _, starts, members = _members_of(self.by)
    sizes = np.diff([*starts, len(members)])
    rank = np.arange(len(members)) - np.repeat(starts, sizes)
    return rank < np.repeat(sizes // self.batch_size * self.batch_size, sizes)

  @functools.cached_property
  @override
  def _batches(self) -> int:
    return int(self._full.sum()) // self.batch_size

  @override
  def _draw(self, epoch: int) -> np.ndarray:
    rng = np.random.default_rng((self.seed, epoch))
    rows = rng.permutation(np.flatnonzero(self.by != NONE))
    rows = rows[np.argsort(self.by[rows], kind="stable")]  # by group, randomly within each
    return rng.permutation(rows[self._full].reshape(-1, self.batch_size)).astype(np.int32)


def _members_of(by: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the values except −1, the start of each one, and the examples sorted by value."""
  members = np.flatnonzero(by != NONE)
  members = members[np.argsort(by[members], kind="stable")]
  values, starts = np.unique(by[members], return_index=True)
  return values, starts, members
