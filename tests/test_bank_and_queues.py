"""Sources that keep vectors: a bank of the data, and a queue for each value."""

import dataclasses
import functools

import all_methods
import jax
import numpy as np
import pytest
from remembered import (
  EXAMPLES,
  D,
  advanced,
  after,
  candidates,
  directions,
  evaluated,
  keys_of,
  said,
)

from contrastax import data, losses, methods
from contrastax.negatives.bank import bank
from contrastax.negatives.queue import queue, queues
from contrastax.negatives.sources import in_batch
from contrastax.relations import negatives_share, same_example

# The bank.


def plain_bank(steps, momentum):
  """{example: (vector, label)}."""
  held = {}
  for keys in steps:
    index, labels = np.asarray(keys.side["index"]), np.asarray(keys.side["label"])
    vectors = directions(np.asarray(keys.vectors))
    for i in set(index[index >= 0].tolist()):
      new = directions(vectors[index == i].mean(0))
      if i in held:
        new = directions(momentum * held[i][0] + (1 - momentum) * new)
      held[i] = new, labels[index == i][0]
  return held


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0])
def test_a_bank_is_a_moving_average_of_each_example(float64, momentum):
  rng = np.random.default_rng(0)
  # Of the first 16 of 20 examples: many twice in a step, with a label that may differ.
  drawn = rng.integers(0, 16, (12, 2, 6)).astype(np.int32)
  steps = [keys_of(rng, 6, index=index, label=label) for index, label in drawn]
  source = bank(momentum=momentum)
  for number in (1, 2, 3, 6, 12):
    _, (_, held) = candidates(source, after(source, steps[:number]), steps[0])
    held = jax.tree.map(np.asarray, held)
    expected = plain_bank(steps[:number], momentum)
    assert held.vectors.shape == (EXAMPLES, D)
    np.testing.assert_array_equal(held.side["as_positive"], 0)
    np.testing.assert_array_equal(held.side["view"], -1)
    for i in range(EXAMPLES):
      assert held.side["as_negative"][i] == (i in expected)
      if i in expected:
        vector, label = expected[i]
        np.testing.assert_allclose(held.vectors[i], vector, atol=1e-12)
        assert (held.side["index"][i], held.side["label"][i]) == (i, label)


def test_a_bank_does_not_depend_on_the_order_of_a_batch(float64):
  rng = np.random.default_rng(1)
  steps = [keys_of(rng, 8) for _ in range(5)]
  mixed = [jax.tree.map(lambda x, o=rng.permutation(8): x[o], keys) for keys in steps]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12),
    after(bank(), steps),
    after(bank(), mixed),
  )


def test_a_sample_is_drawn_anew_of_what_was_visited(float64):
  rng = np.random.default_rng(2)
  index = np.arange(9, dtype=np.int32)
  state = after(bank(), [keys_of(rng, 9, index=index)])
  found = []
  for key in range(40):
    _, (_, held) = candidates(bank(sample=5), state, keys_of(rng, 4), key=key)
    assert held.vectors.shape == (5, D)
    np.testing.assert_array_equal(held.side["as_negative"], 1)
    drawn = np.asarray(held.side["index"])
    np.testing.assert_allclose(held.vectors, np.asarray(state["keys"].vectors)[drawn])
    assert len(set(drawn.tolist())) == 5
    found += drawn.tolist()
  counts = np.bincount(found, minlength=EXAMPLES)
  assert counts[9:].sum() == 0
  assert counts[:9].min() >= 12 and counts[:9].max() <= 32  # 22.2 ± 3.1 each
  _, (_, held) = candidates(bank(sample=12), state, keys_of(rng, 4))
  assert np.asarray(held.side["as_negative"]).sum() == 9


def test_the_anchors_own_entry_is_left_out(float64):
  rng = np.random.default_rng(3)
  state = after(bank(), [keys_of(rng, EXAMPLES, index=np.arange(EXAMPLES, dtype=np.int32))])
  keys = keys_of(rng, 4, index=np.array([3, 0, 19, 7], np.int32), as_negative=np.zeros(4))
  anchors = keys.attach(view=np.zeros(4, np.int32))
  value, _ = evaluated(*candidates(bank(), state, anchors, (keys,)), 0.3)
  info_nce = jax.jit(functools.partial(losses.info_nce, temperature=0.3))
  anchors, value = jax.tree.map(np.asarray, (anchors, value))
  table = np.asarray(state["keys"].vectors)
  for row, own in enumerate((3, 0, 19, 7)):
    a, k = (np.asarray(x)[row : row + 1] for x in (anchors.vectors, keys.vectors))
    expected = info_nce(a, k, np.delete(table, own, 0))
    np.testing.assert_allclose(value[row : row + 1], expected, rtol=1e-12)


def test_an_index_outside_the_table_touches_no_entry(float64):
  rng = np.random.default_rng(4)
  full = [keys_of(rng, EXAMPLES, index=np.arange(EXAMPLES, dtype=np.int32))]
  state = after(bank(), full)
  outside = keys_of(rng, 4, index=np.array([-1, EXAMPLES, 1000, -7], np.int32))
  moved = advanced(bank(), state, outside)
  jax.tree.map(np.testing.assert_array_equal, moved, state)
  # Outside of `jax.jit`, an index of 20 or more raises an error, and −1, which means none, does not.
  assert "0 to 19, or −1 for none, not 20; give the method examples" in said(
    lambda: bank().advance(state, outside)
  )
  none = keys_of(rng, 4, index=np.full(4, -1, np.int32))
  jax.tree.map(np.testing.assert_array_equal, bank().advance(state, none), state)


def test_simclr_trains_with_a_bank():
  """As its docstring writes it; keys are two of each example."""
  simclr = all_methods.parts()["SimCLR"]
  assert isinstance(simclr, methods.SimCLR)
  simclr = dataclasses.replace(
    simclr,
    negatives=in_batch() + bank(sample=16),
    views=all_methods.noise,
    examples=1297,
  )
  batch = data.Resident(data.load("digits").train, batch_size=8).batch(0)
  params, state = jax.jit(simclr.init)(jax.random.key(0), batch)
  objective = jax.jit(simclr.objective)
  _, (state, metrics) = objective(params, state, batch, jax.random.key(1))
  assert metrics["negatives"] == 14  # nothing was visited before
  kept = jax.tree.map(np.asarray, state["terms"]["contrast"]["negatives"][1]["keys"])
  visited = np.flatnonzero(kept.side["index"] >= 0)
  np.testing.assert_array_equal(visited, np.sort(batch["index"]))
  np.testing.assert_allclose(np.linalg.norm(kept.vectors[visited], axis=1), 1, rtol=1e-5)
  _, (_, metrics) = objective(params, state, batch, jax.random.key(2))
  assert metrics["negatives"] == 14 + 7


# Queues.


def plain_queues(steps, size, count, by="label"):
  """For each value the (vector, index) of its last keys."""
  held = [[] for _ in range(count)]
  for keys in steps:
    rows = zip(*map(np.asarray, (keys.vectors, keys.side["index"], keys.side[by])), strict=True)
    for vector, index, value in rows:
      if 0 <= value < count:
        held[value].append((*vector.tolist(), int(index)))
  return [sorted(rows[-size:]) for rows in held]


def held_in(group, size, count):
  found, group = [], jax.tree.map(np.asarray, group)
  for value in range(count):
    rows = slice(value * size, (value + 1) * size)
    filled = group.side["as_negative"][rows] > 0
    parts = zip(group.vectors[rows][filled], group.side["index"][rows][filled], strict=True)
    assert (group.side["label"][rows][filled] == value).all()
    found.append(sorted((*vector.tolist(), int(index)) for vector, index in parts))
  return found


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_each_value_has_the_last_keys_of_its_own(float64, size):
  rng = np.random.default_rng(size)
  # Frequent and rare values, none (−1) and one too many (4); more at once than a queue holds.
  drawn = rng.choice(6, (20, 11), p=[0.1, 0.5, 0.2, 0.1, 0.05, 0.05]).astype(np.int32) - 1
  steps = [keys_of(rng, 11, label=label) for label in drawn]
  source = queues(size, "label", 4)
  for number in (1, 2, 5, 20):
    state = after(source, steps[:number])
    _, (_, group) = candidates(source, state, steps[0])
    assert group.vectors.shape == (4 * size, D)
    assert held_in(group, size, 4) == plain_queues(steps[:number], size, 4)


def test_no_place_of_a_queue_is_written_twice():
  """Of two writes to one place an accelerator may keep either."""
  value = np.array([0, 0, 1, 0, 0, -1, 0, 2, 2, -1, 2, 2], np.int32)
  slot, added = jax.jit(queues(3, "label", 3)._slots)(np.array([2, 0, 1]), value)
  np.testing.assert_array_equal(slot, [9, 9, 3, 1, 2, 9, 0, 9, 8, 9, 6, 7])
  np.testing.assert_array_equal(added, [5, 1, 4])


def test_a_queue_for_one_value_is_a_queue(float64):
  rng = np.random.default_rng(5)
  steps = [keys_of(rng, 4, label=np.zeros(4, np.int32)) for _ in range(7)]
  one, many = after(queue(12), steps), after(queues(12, "label", 1), steps)
  jax.tree.map(np.testing.assert_array_equal, many["keys"], one["keys"])
  assert many["next"] == one["next"]


def test_with_the_filter_an_anchor_meets_the_queue_of_its_value(float64):
  rng = np.random.default_rng(6)
  steps = [keys_of(rng, 9, index=np.arange(9, dtype=np.int32)) for _ in range(5)]
  source = queues(4, "label", 5)
  keys = keys_of(rng, 5, label=np.array([0, 1, 2, -1, 5], np.int32), index=np.full(5, 99, np.int32))
  anchors, groups = candidates(source, after(source, steps), keys)
  for relation, count in (
    (same_example() & negatives_share("label"), [4, 4, 4, 0, 0]),
    (same_example(), 20),
  ):
    _, stats = evaluated(anchors, groups, 0.2, relation, ("count",))
    np.testing.assert_array_equal(stats["count"], count)
