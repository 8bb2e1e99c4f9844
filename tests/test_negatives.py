"""Selections among negatives, and shuffles of modalities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax.core import Group
from contrastax.negatives import hardest, shuffles
from contrastax.pairwise import Plan
from contrastax.positives import same_example, same_label

rng = np.random.default_rng(0)


def group(n, d=5, **side):
  weight = np.ones(n)
  sides = {
    "index": np.arange(n),
    "view": np.zeros(n, int),
    "as_positive": weight,
    "as_negative": weight,
  }
  return Group(rng.normal(size=(n, d)), {**sides, **side})


def cosines(a, b):
  a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
  return a @ b.T


@pytest.mark.parametrize("plan", [Plan("dense"), Plan(4)], ids=["dense", "tiles"])
def test_the_hardest_are_the_most_similar_negatives_of_all_groups(float64, plan):
  anchors = group(9, label=np.arange(9) % 3)
  queue = group(7, label=np.arange(7) % 3, index=np.full(7, -1))
  found = hardest(anchors, (anchors, queue), 3, relation=same_label(), same_set=True, plan=plan)
  vectors = np.concatenate([anchors.vectors, queue.vectors])
  label = np.concatenate([anchors.side["label"], queue.side["label"]])
  s = np.where(anchors.side["label"][:, None] == label, -np.inf, cosines(anchors.vectors, vectors))
  expected = np.argsort(-s, axis=1)[:, :3]
  np.testing.assert_array_equal(found.vectors, vectors[expected])
  np.testing.assert_array_equal(found.side["label"], label[expected])
  np.testing.assert_array_equal(found.side["as_negative"], np.ones((9, 3)))


def test_where_there_are_fewer_the_rest_weighs_nothing(float64):
  anchors = group(4)
  found = hardest(anchors, (anchors,), 6, relation=same_example(), same_set=True)
  np.testing.assert_array_equal(found.side["as_negative"].sum(1), np.full(4, 3))
  assert not found.side["as_negative"][:, 3:].any()


def test_the_chosen_vectors_have_a_gradient_and_the_choice_none(float64):
  anchors = group(4)

  def total(vectors):
    queue = Group(vectors, group(6).side | {"index": np.full(6, -1)})
    return hardest(anchors, (queue,), 2, relation=same_example()).vectors.sum()

  vectors = jnp.asarray(rng.normal(size=(6, 5)))
  chosen = np.argsort(-cosines(anchors.vectors, np.asarray(vectors)), axis=1)[:, :2]
  times = np.bincount(chosen.ravel(), minlength=6)
  expected = np.broadcast_to(times[:, None], (6, 5))
  np.testing.assert_array_equal(jax.grad(total)(vectors), expected)


def test_a_set_per_anchor_is_refused():
  anchors = group(4)
  own = Group(np.ones((4, 2, 5)), {name: np.ones((4, 2)) for name in anchors.side})
  with pytest.raises(ValueError, match=r"shared candidates \[m, d\]; group 0 is \(4, 2, 5\)"):
    hardest(anchors, (own,), 1, relation=same_example())


def test_shuffles_are_permutations_all_drawn_apart():
  drawn = np.asarray(shuffles(jax.random.key(0), 3, 50))
  assert drawn.shape == (3, 2, 50)
  np.testing.assert_array_equal(np.sort(drawn, axis=-1), np.broadcast_to(np.arange(50), (3, 2, 50)))
  rows = drawn.reshape(6, 50)
  assert len(np.unique(rows, axis=0)) == 6
  assert (drawn == np.arange(50)).mean() < 0.1
