"""Candidates that are mixed by their labels."""

import jax
import numpy as np
import pytest
from synthetic import LABELS, D, N, compared, group, made, normal, two_views, unit

from contrastax.core import Group
from contrastax.negatives.supremix import supremix
from contrastax.relations import label_distance, same_label


def mixes(both, keys=None, **options):
  source = supremix(**{"negatives": 0, "positives": 0, "alpha": 2.0, **options})
  compare = compared(same_label(), same_set=keys is None)
  return made(source, both, (both if keys is None else keys,), compare)


relate = jax.jit(same_label() & label_distance())


def test_a_mixed_negative_has_its_part_of_both_labels(float64):
  both = two_views()
  (found,) = mixes(both, negatives=60, alpha=2.0, beta=8.0)
  found, z = jax.tree.map(np.asarray, found), unit(np.asarray(both.vectors))
  y = np.asarray(both.side["label"])
  shares, seen = [], set()
  for i in range(2 * N):
    for vector, label in zip(found.vectors[i], found.side["label"][i], strict=True):
      hits = []
      for j in np.flatnonzero(y != y[i]):
        share = (label - y[j]) / (y[i] - y[j])
        if np.abs(unit(share * z[i] + (1 - share) * z[j]) - vector).max() < 1e-9:
          hits.append(j)
          shares.append(share)
      assert len(hits) == 1
      seen.add((i, *hits))
  assert min(shares) > 0 and max(shares) < 1
  np.testing.assert_allclose(np.mean(shares), 0.2, atol=0.02)
  assert len(seen) == (y[:, None] != y).sum()  # every negative is drawn
  np.testing.assert_array_equal(found.side["as_negative"], 1)
  np.testing.assert_array_equal(found.side["as_positive"], 0)
  np.testing.assert_array_equal(found.side["index"], -1)


@pytest.mark.parametrize("window", [np.inf, 1.6])
def test_a_mixed_positive_has_the_anchors_label_exactly(float64, window):
  both = two_views()
  (found,) = mixes(both, positives=80, window=window)
  found, z = jax.tree.map(np.asarray, found), unit(np.asarray(both.vectors))
  y = np.asarray(both.side["label"])
  np.testing.assert_array_equal(found.side["label"], np.broadcast_to(y[:, None], (2 * N, 80)))
  np.testing.assert_array_equal(found.side["as_negative"], 0)
  seen = 0
  for i in range(2 * N):
    near = np.abs(y - y[i]) < window
    pairs = {}
    for j in np.flatnonzero(near & (y < y[i])):
      for k in np.flatnonzero(near & (y > y[i])):
        share = (y[k] - y[i]) / (y[k] - y[j])
        pairs[j, k] = unit(share * z[j] + (1 - share) * z[k])
    np.testing.assert_array_equal(found.side["as_positive"][i], float(bool(pairs)))
    drawn = set()
    for vector in found.vectors[i] if pairs else ():
      hits = [pair for pair, x in pairs.items() if np.abs(x - vector).max() < 1e-9]
      assert len(hits) == 1
      drawn.update(hits)
    assert len(drawn) >= 0.6 * len(pairs)
    seen += len(pairs)
  assert seen == {np.inf: 128, 1.6: 104}[window]


def test_relations_see_mixes_as_they_are_meant(float64):
  both = two_views()
  negative, positive = mixes(both, negatives=8, positives=8)
  negative, positive = jax.tree.map(np.asarray, (negative, positive))
  a = {name: np.asarray(x)[:, None] for name, x in both.side.items()}
  pairs = relate(a, positive.side, 0.0)
  assert (np.asarray(pairs.positive) == 1).all() and not np.asarray(pairs.negative).any()
  pairs = relate(a, negative.side, 0.0)
  assert not np.asarray(pairs.positive).any()
  expected = 1 + np.abs(a["label"] - negative.side["label"])
  np.testing.assert_allclose(pairs.negative, expected, rtol=1e-12)
  assert (expected > 1).all()


def test_where_there_is_nothing_to_mix_mixes_weigh_nothing(float64):
  both = two_views(labels=np.ones(N))
  for found in mixes(both, negatives=4, positives=4):
    np.testing.assert_array_equal(found.side["as_negative"], 0)
    np.testing.assert_array_equal(found.side["as_positive"], 0)
    assert np.isfinite(found.vectors).all()
  both = two_views()
  for window in (1e-300, 1.0):  # of 1.0, say, 2.0 is 1 away, and that is not within
    (found,) = mixes(both, positives=4, window=window)
    np.testing.assert_array_equal(found.side["as_positive"], 0)
  (found,) = mixes(both, positives=4, window=1.01)
  expected = [[0], [1], [1], [0], [1], [1]]
  np.testing.assert_array_equal(found.side["as_positive"], np.tile(expected, (2, 4)))


def test_mixes_are_of_keys_drawn_by_example_and_have_no_gradient(float64):
  anchors = group(normal(0, N, D), label=LABELS)
  keys = group(normal(1, N, D), view=1, label=LABELS, as_negative=0.0)
  (found,) = mixes(anchors, keys, negatives=5)
  same, apart = (LABELS[:, None] == np.asarray(x) for x in (LABELS, found.side["label"]))
  assert same.any() and not apart.any()
  fewer = jax.tree.map(lambda x: np.asarray(x)[2:4], anchors)
  (again,) = mixes(fewer, keys, negatives=5)
  np.testing.assert_allclose(again.vectors, np.asarray(found.vectors)[2:4], rtol=1e-12)
  other = supremix(negatives=5, positives=0, alpha=2.0)
  (moved,) = made(other, anchors, (keys,), compared(same_label(), same_set=False), key=1)
  assert not np.allclose(moved.vectors, found.vectors)

  def total(a, k, y):
    a, k = Group(a, anchors.side).attach(label=y), Group(k, keys.side).attach(label=y)
    negative, positive = mixes(a, k, negatives=5, positives=5)
    return ((negative.vectors + positive.vectors) ** 3).sum() + negative.side["label"].sum()

  given = anchors.vectors, keys.vectors, anchors.side["label"]
  for gradient in jax.jit(jax.grad(total, (0, 1, 2)))(*given):
    np.testing.assert_array_equal(gradient, 0)
