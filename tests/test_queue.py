"""A queue of keys: what it holds, what it gives, and what MoCo's loss makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import criteria, losses
from contrastax.core import Group, UserError
from contrastax.negatives import in_batch, queue
from contrastax.relations import same_example

rng = np.random.default_rng(0)
N, D, SIZE = 4, 3, 12


def keys_of(step, index=None):
  side = {
    "index": np.arange(N) + N * step if index is None else np.asarray(index),
    "view": np.ones(N, np.int32),
    "as_positive": np.ones(N),
    "as_negative": np.zeros(N),
  }
  return Group(rng.normal(size=(N, D)), {name: jnp.asarray(x) for name, x in side.items()})


def filled(steps):
  source = queue(SIZE)
  kept = [keys_of(step) for step in range(steps)]
  state = source.init(jax.random.key(0), jax.eval_shape(lambda: kept[0]), 0)
  for keys in kept:
    state = jax.jit(source.advance)(state, keys)
  return state, kept


def test_it_holds_the_newest_keys_in_the_place_of_the_oldest(float64):
  state, kept = filled(5)
  expected = [
    kept[3],
    kept[4],
    kept[2],
  ]  # three steps fit: the fourth and fifth took places 0 and 1
  np.testing.assert_array_equal(
    state["keys"].vectors, np.concatenate([keys.vectors for keys in expected])
  )
  np.testing.assert_array_equal(
    state["keys"].side["index"], np.concatenate([keys.side["index"] for keys in expected])
  )
  assert state["next"] == 8


def moco(state, keys, source=None, temperature=0.2):
  anchors = Group(
    jnp.asarray(rng.normal(size=(N, D))), {**keys.side, "view": 0 * keys.side["view"]}
  )
  anchors, groups = (source or queue(SIZE)).candidates(
    state, anchors, (keys,), jax.random.key(0), compare=None
  )
  found = criteria.evaluate(
    criteria.info_nce(),
    anchors,
    groups,
    relation=same_example(),
    temperature=temperature,
    stats=("count",),
  )
  return anchors, found


def test_full_it_is_mocos_loss(float64):
  state, kept = filled(3)
  keys = keys_of(9)
  anchors, found = moco(state, keys)
  older = jnp.concatenate([keys.vectors for keys in kept])
  expected = losses.info_nce(anchors.vectors, keys.vectors, older, temperature=0.2)
  np.testing.assert_allclose(found.value, expected, rtol=1e-12)
  np.testing.assert_array_equal(found.stats["count"], SIZE)


def test_what_is_not_filled_yet_weighs_nothing(float64):
  state, kept = filled(1)
  keys = keys_of(9)
  anchors, found = moco(state, keys)
  expected = losses.info_nce(anchors.vectors, keys.vectors, kept[0].vectors, temperature=0.2)
  np.testing.assert_allclose(found.value, expected, rtol=1e-12)
  empty = queue(SIZE).init(None, keys, 0)
  np.testing.assert_array_equal(moco(empty, keys)[1].value, 0)  # no negative: 0, by definition


def test_the_anchors_own_example_of_an_epoch_ago_is_left_out(float64):
  state, kept = filled(3)
  keys = keys_of(9, index=[0, 5, 11, 40])  # the first three are in the queue
  anchors, found = moco(state, keys)
  np.testing.assert_array_equal(found.stats["count"], [SIZE - 1] * 3 + [SIZE])
  older = np.concatenate([keys.vectors for keys in kept])
  for i, own in enumerate((0, 5, 11)):
    rest = jnp.asarray(np.delete(older, own, 0))
    one = slice(i, i + 1)
    expected = losses.info_nce(anchors.vectors[one], keys.vectors[one], rest, temperature=0.2)
    np.testing.assert_allclose(found.value[one], expected, rtol=1e-12)


def test_with_the_batch_both_count(float64):
  state, _ = filled(3)
  source = in_batch() + queue(SIZE)
  _, found = moco(((), state), keys_of(9), source)
  np.testing.assert_array_equal(found.stats["count"], SIZE + N - 1)


def test_keys_enter_without_gradient(float64):
  state, _ = filled(3)
  keys = keys_of(9)

  def held(vectors):
    return queue(SIZE).advance(state, Group(vectors, keys.side))["keys"].vectors.sum()

  np.testing.assert_array_equal(jax.grad(held)(jnp.asarray(keys.vectors)), 0)


@pytest.mark.parametrize(
  "size, message",
  [
    (6, "6 keys is not a multiple of the 4 keys of a step; use 8"),
    (3, "3 keys is shorter than the 4 keys of a step; use 4"),
  ],
)
def test_a_queue_that_does_not_fit_the_batch_is_refused(size, message):
  with pytest.raises(UserError, match=message):
    queue(size).init(None, keys_of(0), 0)


@pytest.mark.parametrize("size", [0, -4, 2.5])
def test_a_queue_has_a_size(size):
  with pytest.raises(UserError, match="the size of a queue must be an integer of at least 1"):
    queue(size)
