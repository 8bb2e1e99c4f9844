"""Orders by a value of each example: equal numbers of several classes, or one group."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from contrastax.core import UserError, check_integer, check_seed
from contrastax.data.orders import Epochs, Order, check_batch_size, integers, store
from contrastax.labels import NONE


@dataclasses.dataclass(frozen=True, eq=False)
class balanced(Order):
  """Exactly K examples of each of exactly P classes in every batch, b = P · K.

  The K examples of a class are successive in the batch. Both levels are visited evenly. The C
  classes follow each other in random permutations, which are cut into batches; where a batch spans
  two permutations, the second one is arranged so that no class is in the batch twice. The examples
  of a class are taken K at a time from a new random permutation in each pass over the class; those
  that do not fill K at its end are left out of that pass.

  Args:
    by: integers [size], the class of each example; −1 is no class, and the example is left out.
    classes: P, 1 to the number of classes C.
    per_class: K, 1 to the size of the smallest class.
    seed: 0 to 2³² − 1.

  Raises:
    UserError: an argument is out of range, or a class has fewer than K examples.

  Example:
    source = data.Resident(arrays, order=data.balanced(arrays["label"], classes=8, per_class=4))
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
        f"balanced: classes is {chosen}, but by has {len(values)} values besides -1; give at most "
        "as many"
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

  def indices(self, step):
    count, chosen, each = len(self._members), self.classes, self.per_class
    # A cycle is the smallest number of permutations of the classes that fills whole batches.
    permutations = chosen // math.gcd(count, chosen)
    cycle, place = divmod(step, permutations * count // chosen)
    at = np.arange(place * chosen, (place + 1) * chosen)
    visits = cycle * permutations + at // count  # how often each class was visited before
    rows = []
    for number, visit in zip(self._cycle(cycle)[at].tolist(), visits.tolist(), strict=True):
      passed, block = divmod(visit, len(self._members[number]) // each)
      rows.append(self._pass(number, passed)[block * each : (block + 1) * each])
    return np.concatenate(rows).astype(np.int32)

  @functools.cached_property
  def _members(self):
    _, starts, members = _members_of(self.by)
    return np.split(members, starts[1:])

  @functools.cached_property
  def _cycle(self):
    return functools.lru_cache(maxsize=2)(self._draw)

  @functools.cached_property
  def _passes(self) -> dict[int, tuple[int, np.ndarray]]:
    return {}

  def _draw(self, cycle):
    """The classes of a cycle, in the order of their visits."""
    count, chosen = len(self._members), self.classes
    rng = np.random.default_rng((self.seed, 0, cycle))
    found = [rng.permutation(count)]
    for number in range(1, chosen // math.gcd(count, chosen)):
      begun = number * count % chosen  # classes in the batch that spans both permutations
      taken, fresh = found[-1][count - begun :], rng.permutation(count)
      head = fresh[~np.isin(fresh, taken)][: chosen - begun]
      found.append(np.concatenate([head, fresh[~np.isin(fresh, head)]]))
    return np.concatenate(found)

  def _pass(self, number, passed):
    """The examples of a class in the order of one pass; the last one drawn is kept."""
    kept = self._passes.get(number)
    if kept is None or kept[0] != passed:
      rng = np.random.default_rng((self.seed, number + 1, passed))
      kept = self._passes[number] = passed, rng.permutation(self._members[number])
    return kept[1]


@dataclasses.dataclass(frozen=True, eq=False)
class grouped(Epochs):
  """Every batch from one group, such as one cluster, one task or one source of the data.

  In each epoch the examples of a group are shuffled and divided into batches, and the batches of
  all groups are shuffled. So a group is visited in proportion to its size. Examples that do not
  fill a batch of their group are left out of that epoch; groups below `batch_size` are left out.

  Args:
    by: integers [size], the group of each example; −1 is no group, and the example is left out.
    batch_size: 1 to the size of the largest group.
    seed: 0 to 2³² − 1.

  Raises:
    UserError: an argument is out of range, or no group has `batch_size` examples.
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
      raise UserError("grouped: by has no group; all its values are -1")
    text = f"the {largest} examples of the largest group"
    batch_size = check_batch_size(self.batch_size, largest, text)
    store(self, by=by, batch_size=batch_size, seed=check_seed(self.seed), size=len(by))

  @functools.cached_property
  def _full(self):
    """Which of the examples, sorted by group, fill batches; the same in each epoch."""
    _, starts, members = _members_of(self.by)
    sizes = np.diff([*starts, len(members)])
    rank = np.arange(len(members)) - np.repeat(starts, sizes)
    return rank < np.repeat(sizes // self.batch_size * self.batch_size, sizes)

  @functools.cached_property
  def _batches(self):
    return int(self._full.sum()) // self.batch_size

  def _draw(self, epoch):
    rng = np.random.default_rng((self.seed, epoch))
    rows = rng.permutation(np.flatnonzero(self.by != NONE))
    rows = rows[np.argsort(self.by[rows], kind="stable")]  # by group, each in its random order
    return rng.permutation(rows[self._full].reshape(-1, self.batch_size)).astype(np.int32)


def _members_of(by: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The examples sorted by value: the values without −1, where each begins, and the examples."""
  members = np.flatnonzero(by != NONE)
  members = members[np.argsort(by[members], kind="stable")]
  values, starts = np.unique(by[members], return_index=True)
  return values, starts, members
