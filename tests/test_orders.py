"""Orders: which examples each batch holds, as pure functions of (seed, step)."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest

from contrastax import data
from contrastax.core import UserError

SIZES = (4, 5, 7, 9, 4, 12, 6, 8, 10, 11)  # examples of the ten classes of LABELS
LABELS = np.random.default_rng(0).permutation(np.repeat(3 * np.arange(10), SIZES))
SPARSE = np.where(np.arange(76) % 7 == 0, -1, np.arange(76) % 5)
EPISODES = np.repeat([4, 2, 9, 4, -1, 7], [6, 3, 8, 5, 4, 2])

ORDERS = {
  "shuffled": lambda seed=0: data.shuffled(23, 5, seed),
  "balanced": lambda seed=0: data.balanced(LABELS, 4, 3, seed),
  "grouped": lambda seed=0: data.grouped(LABELS, 4, seed),
  "windows": lambda seed=0: data.windows(EPISODES, 3, 4, seed),
}
ALL = {**ORDERS, "in_order": lambda: data.in_order(23, 5)}


def batches(order, count):
  return [order(step) for step in range(count)]


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_a_pure_function_of_the_step(name):
  """Of any history, in any sequence of steps, and of a new object: what a resumed run asks for."""
  expected = batches(ALL[name](), 60)
  order = ALL[name]()
  for step in np.random.default_rng(1).permutation(60):
    np.testing.assert_array_equal(order(step), expected[step])
    np.testing.assert_array_equal(ALL[name]()(int(step)), expected[step])


@pytest.mark.parametrize("name", ALL)
def test_indices_are_int32_in_range_and_of_one_shape(name):
  order = ALL[name]()
  for rows in batches(order, 40):
    assert rows.dtype == np.int32 and rows.shape[0] == order.batch_size
    assert rows.min() >= 0 and rows.max() < order.size
    first = rows if rows.ndim == 1 else rows[:, 0]
    assert len(set(first)) == order.batch_size  # no example twice


@pytest.mark.parametrize("name", ORDERS)
def test_seeds_and_epochs_differ(name):
  first = np.concatenate(batches(ORDERS[name](0), 40))
  other = np.concatenate(batches(ORDERS[name](1), 40))
  assert (first != other).any()
  late = np.concatenate([ORDERS[name](0)(step) for step in range(4000, 4040)])
  assert (first != late).any()


@pytest.mark.parametrize("step", [-1, 1.0, None, "1", np.arange(2)], ids=str)
def test_another_step_is_refused(step):
  with pytest.raises(UserError, match="the step of a batch must be an integer of 0 or more, not"):
    data.in_order(5)(step)


def test_shuffled_is_numpys_permutation_of_each_epoch():
  order = data.shuffled(23, 5, seed=3)
  for step in range(20):
    epoch, place = divmod(step, 4)
    rows = np.random.default_rng((3, epoch)).permutation(23)[5 * place : 5 * place + 5]
    np.testing.assert_array_equal(order(step), rows)
    batch = data.Resident({"x": np.arange(23)}, batch_size=5, seed=3).batch(step)
    np.testing.assert_array_equal(batch["index"], rows)


def test_in_order_gives_all_or_blocks_that_visit_everything_evenly():
  np.testing.assert_array_equal(data.in_order(7)(12), np.arange(7))
  blocks = np.concatenate(batches(data.in_order(7, 3), 7))
  np.testing.assert_array_equal(blocks, np.arange(21) % 7)


# Balanced.


@pytest.mark.parametrize(
  "classes, each", [(1, 1), (1, 4), (2, 3), (3, 4), (4, 3), (7, 2), (8, 4), (9, 1), (10, 4)]
)
def test_every_batch_has_exactly_k_examples_of_exactly_p_classes(classes, each):
  order = data.balanced(LABELS, classes, each, seed=5)
  assert (order.batch_size, order.size) == (classes * each, len(LABELS))
  for rows in batches(order, 200):
    assert len(set(rows)) == classes * each
    counts = collections.Counter(LABELS[rows])
    assert len(counts) == classes and set(counts.values()) == {each}
    np.testing.assert_array_equal(LABELS[rows], np.repeat(LABELS[rows][::each], each))


@pytest.mark.parametrize("classes", [1, 3, 4, 8, 10])
def test_the_classes_are_visited_evenly(classes):
  """After any number of batches no class is more than one visit ahead of another."""
  order = data.balanced(LABELS, classes, 2, seed=1)
  visits = collections.Counter(dict.fromkeys(LABELS.tolist(), 0))
  for rows in batches(order, 100):
    visits.update(LABELS[rows[::2]].tolist())
    assert max(visits.values()) - min(visits.values()) <= 1


def test_the_examples_of_a_class_are_visited_once_in_each_pass():
  order, each = data.balanced(LABELS, 4, 3, seed=2), 3
  seen = collections.defaultdict(list)
  for rows in batches(order, 300):
    for block in rows.reshape(-1, each):
      seen[LABELS[block[0]]].append(block)
  for label, blocks in seen.items():
    members = np.flatnonzero(label == LABELS)
    length = len(members) // each  # blocks of one pass
    passes = [np.concatenate(blocks[i : i + length]) for i in range(0, len(blocks), length)]
    assert all(len(set(p)) == len(p) for p in passes)
    assert len({tuple(p) for p in passes}) > 1
    counts = np.bincount(np.concatenate(blocks), minlength=len(LABELS))[members]
    # What a pass leaves out is random: with 30 passes or more each example is near the mean.
    assert counts.min() > 0.6 * counts.mean() and counts.max() < 1.4 * counts.mean()


def test_classes_meet_in_changing_company():
  order = data.balanced(LABELS, 4, 3, seed=2)
  pairs = set()
  for rows in batches(order, 100):
    pairs.update(itertools.combinations(sorted(set(LABELS[rows].tolist())), 2))
  assert len(pairs) == 45  # all pairs of ten classes


def test_examples_without_a_label_are_left_out():
  for order in (data.balanced(SPARSE, 3, 4), data.grouped(SPARSE, 4)):
    assert order.size == 76
    assert (SPARSE[np.concatenate(batches(order, 60))] >= 0).all()


# Grouped.


def test_every_batch_is_of_one_group_and_an_epoch_visits_what_fills_batches_once():
  order = data.grouped(LABELS, 4, seed=1)
  per_epoch = sum(size // 4 for size in SIZES)
  for epoch in range(6):
    rows = [order(epoch * per_epoch + place) for place in range(per_epoch)]
    groups = [set(LABELS[r]) for r in rows]
    assert all(len(group) == 1 for group in groups)
    assert len(set(np.concatenate(rows))) == 4 * per_epoch
    visits = collections.Counter(group.pop() for group in groups)
    assert visits == {3 * i: size // 4 for i, size in enumerate(SIZES)}


def test_groups_below_the_batch_size_are_left_out():
  order = data.grouped(LABELS, 10)
  seen = set(LABELS[np.concatenate(batches(order, 30))])
  assert seen == {3 * i for i, size in enumerate(SIZES) if size >= 10}


# Windows.


@pytest.mark.parametrize("length", [1, 2, 3, 6, 8])
def test_windows_are_successive_and_never_cross_the_end_of_an_episode(length):
  order = data.windows(EPISODES, length, 1, seed=4)
  ends = np.flatnonzero(np.diff(EPISODES)) + 1
  runs = [r for r in np.split(np.arange(len(EPISODES)), ends) if EPISODES[r[0]] != -1]
  expected = {tuple(r[i : i + length]) for r in runs for i in range(len(r) - length + 1)}
  rows = [order(step) for step in range(len(expected))]
  assert all(r.shape == (1, length) for r in rows)
  assert {tuple(r[0]) for r in rows} == expected  # every window once in an epoch


def test_an_episode_number_that_returns_is_another_episode():
  order = data.windows(np.array([1, 1, 0, 1, 1]), 2, 2)
  found = {tuple(row) for step in range(4) for row in order(step)}
  assert found == {(0, 1), (3, 4)}
  with pytest.raises(UserError, match="no episode has length = 4 successive examples"):
    data.windows(np.array([1, 1, 0, 1, 1]), 4, 1)


# What is refused.

WRONG = {
  "no size": (lambda: data.shuffled(0, 1), "size must be at least 1, not 0"),
  "a large batch": (lambda: data.shuffled(8, 9), "batch_size must be between 1 and the data's 8, not 9"),
  "a block too large": (lambda: data.in_order(8, 9), "between 1 and the data's 8, not 9"),
  "a float seed": (lambda: data.shuffled(8, 2, 1.5), "seed must be an integer, not 1.5"),
  "too many classes": (lambda: data.balanced(LABELS, 11, 2), "classes is 11, but by has 10 values"),
  "a small class": (
    lambda: data.balanced(LABELS, 2, 5),
    r"value 0 of by has 4 examples, fewer than per_class = 5 \(2 of 10 values have fewer\); lower",
  ),
  "no classes": (lambda: data.balanced(LABELS, 0, 2), "classes must be at least 1, not 0"),
  "none labeled": (lambda: data.balanced(np.full(5, -1), 1, 1), "classes is 1, but by has 0 values"),
  "float labels": (
    lambda: data.balanced(LABELS / 1, 2, 2),
    r"balanced: by must be integers \[size\], .*, not float64 \[76\]; np.unique",
  ),
  "one-hot labels": (lambda: data.grouped(np.eye(4, dtype=int), 2), r"not int64 \[4, 4\]"),
  "no group large enough": (
    lambda: data.grouped(LABELS, 13),
    "between 1 and the 12 examples of the largest group, not 13",
  ),
  "no group": (lambda: data.grouped(np.full(5, -1), 1), "grouped: all values of by are -1"),
  "no window": (lambda: data.windows(EPISODES, 9, 1), "no episode has length = 9 successive"),
  "longer than the data": (lambda: data.windows(EPISODES, 99, 1), "no episode has length = 99"),
  "too few windows": (
    lambda: data.windows(EPISODES, 8, 2),
    "batch_size must be between 1 and the data's 1 windows of length 8, not 2",
  ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_argument_is_refused_in_one_line(mistake):
  call, words = WRONG[mistake]
  with pytest.raises(UserError, match=words) as error:
    call()
  assert "\n" not in str(error.value)


# Fingerprints.


def test_a_fingerprint_covers_all_that_decides_the_order():
  prints = [
    order.fingerprint
    for order in (
      data.shuffled(76, 4),
      data.shuffled(76, 4, seed=1),
      data.shuffled(76, 5),
      data.shuffled(77, 4),
      data.in_order(76, 4),
      data.in_order(76),
      data.balanced(LABELS, 4, 3),
      data.balanced(LABELS, 3, 4),
      data.balanced(LABELS, 4, 3, seed=1),
      data.balanced(LABELS[::-1], 4, 3),
      data.grouped(LABELS, 4),
      data.grouped(LABELS, 3),
      data.grouped(LABELS[::-1], 4),
      data.windows(EPISODES, 3, 4),
      data.windows(EPISODES, 2, 4),
      data.windows(EPISODES[::-1], 3, 4),
    )
  ]
  assert len(set(prints)) == len(prints)
  assert all(0 <= p < 2**32 for p in prints)


def test_a_fingerprint_does_not_depend_on_types_and_later_changes():
  labels = LABELS.copy()
  one = data.balanced(labels, 4, 3)
  expected = one(0)
  labels[:] = 0
  other = data.balanced(LABELS.astype(np.int16), np.int32(4), np.uint8(3), np.int64(0))
  assert one.fingerprint == other.fingerprint
  np.testing.assert_array_equal(one(0), other(0))
  np.testing.assert_array_equal(one(0), expected)


def test_orders_are_hashable():
  assert hash(data.shuffled(8, 2)) == hash(data.shuffled(8, 2))
  assert len({make() for make in ALL.values()}) == len(ALL)


def test_an_order_of_ones_own():
  @dataclasses.dataclass(frozen=True)
  class every_second(data.Order):
    size: int
    batch_size: int

    def indices(self, step):
      return (2 * (step * self.batch_size + np.arange(self.batch_size)) % self.size).astype(
        np.int32
      )

  source = data.Resident({"x": 10 * np.arange(12)}, order=every_second(12, 3))
  np.testing.assert_array_equal(source.batch(1)["x"], [60, 80, 100])
  assert source.fingerprint != data.Resident({"x": 10 * np.arange(12)}, batch_size=3).fingerprint
