"""Probes of frozen features, and the embedding of a set, against plain definitions."""

import jax.numpy as jnp
import numpy as np
import pytest
from records import records
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from contrastax.core import Encoder, UserError
from contrastax.evaluation import embed, few_label, knn, knn_leave_one_out, linear, probes
from contrastax.evaluation.probes import draws

# Nearest neighbors.


def knn_by_definition(features, labels, queries, k, temperature, leave_out=False):
  """Each of the k nearest by cosine votes exp(s/τ).

  Of equal neighbors the lower index is nearer; of equal votes the nearest neighbor's class wins.
  """
  features = features / np.linalg.norm(features, axis=1, keepdims=True)
  queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
  predicted = []
  for i, query in enumerate(queries):
    similarity = features @ query
    if leave_out:
      similarity[i] = -np.inf
    nearest = np.argsort(-similarity, kind="stable")[:k]
    weight = np.exp((similarity[nearest] - similarity[nearest[0]]) / temperature)
    votes = [weight[labels[nearest] == labels[j]].sum() for j in nearest]
    predicted.append(labels[nearest[np.argmax(votes)]])
  return np.array(predicted)


def scattered(n, d=5, classes=4, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(n, d)), rng.integers(0, classes, n)


def corners(n, d=4, classes=4, seed=0):
  """Corners of a cube: unit vectors and cosines are exact, and ties are many."""
  rng = np.random.default_rng(seed)
  return rng.choice([-1.0, 1.0], (n, d)), rng.integers(0, classes, n)


@pytest.mark.parametrize("k", [5, 100])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("points", [scattered, corners])
def test_knn_is_its_definition(points, k, temperature):
  features, labels = points(40)
  queries, _ = points(30, seed=1)
  expected = knn_by_definition(features, labels, queries, min(k, 40), temperature)
  assert knn(features, labels, queries, expected, k=k, temperature=temperature) == 1
  wrong = np.where(np.arange(30) < 12, expected + 1, expected)
  found = knn(features, labels, queries, wrong, k=k, temperature=temperature)
  assert found == pytest.approx(18 / 30)


def test_ties_go_to_the_lower_index_and_to_the_class_of_the_nearest_neighbor():
  same = np.ones((3, 2))
  assert knn(same, np.array([2, 0, 1]), same[:1], np.array([2]), k=1) == 1
  for first, second in ((2, 1), (1, 2)):  # whatever the classes' names
    assert knn(same, np.array([first, second, 0]), same[:1], np.array([first]), k=2) == 1


def test_far_neighbors_vote_at_low_temperature():
  features, labels = np.array([[1.0, 0], [0.9, 0.1], [0.8, 0.2]]), np.array([1, 1, 2])
  query = np.array([[-1.0, 0.1]])  # its nearest neighbor is the third, at a cosine of −0.94
  assert knn(features, labels, query, np.array([2]), k=3, temperature=1e-3) == 1


@pytest.mark.parametrize("points", [scattered, corners])
def test_leaving_one_out_excludes_the_example_itself(points):
  features, labels = points(1100, classes=7)  # more than one block of queries
  expected = knn_by_definition(features, labels, features, 3, 0.1, leave_out=True)
  found = knn_leave_one_out(features, labels, k=3)
  assert found == pytest.approx(np.mean(expected == labels))


def test_leaving_one_out_leaves_nothing_to_copy():
  twins = np.repeat(np.eye(4), 2, 0)
  assert knn_leave_one_out(twins, np.array([0, 1] * 4), k=1) == 0  # the twin has another label
  assert knn_leave_one_out(twins, np.repeat(np.arange(4), 2), k=1) == 1
  assert knn(twins, np.array([0, 1] * 4), twins, np.array([0, 0] * 4), k=1) == 1


@pytest.mark.parametrize(
  "record", list(records("evaluation", "knn")), ids=lambda r: str(r["params"])
)
def test_public_nearest_neighbors_agree(record):
  bank, queries, labels, of_queries = (record["inputs"][x] for x in ("tr", "te", "ytr", "yte"))
  predicted = record["value"].argmax(1)
  options = {"k": record["params"]["k"], "temperature": record["params"]["T"]}
  assert knn(bank, labels, queries, predicted, **options) == 1
  found = knn(bank, labels, queries, of_queries, **options)
  assert found == pytest.approx(np.mean(predicted == of_queries))


# Linear probes, of which test_linear_probe.py has the one with all labels.


def clusters(n, seed=0, d=6, classes=3, noise=2.0):
  """Overlapping classes, whose dimensions differ in place and scale."""
  centers = np.random.default_rng(9).normal(size=(classes, d))
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(n) % classes)
  features = centers[labels] + noise * rng.normal(size=(n, d))
  return features * np.geomspace(1e-2, 1e2, d) + np.arange(d), labels


def test_dimensions_that_do_not_move_do_no_harm():
  features, labels, test_features, test_labels = *clusters(90), *clusters(300, seed=1)
  expected = linear(features, labels, test_features, test_labels)
  rng = np.random.default_rng(2)
  for constant in (0.0, 0.1, -1e6):
    for of_test in (np.full((300, 2), constant), constant + 1e3 * rng.normal(size=(300, 2))):
      found = linear(
        np.hstack([features, np.full((90, 2), constant)]),
        labels,
        np.hstack([test_features, of_test]),
        test_labels,
      )
      assert found == pytest.approx(expected, abs=2 / 300)
  still = np.ones((90, 3))
  assert linear(still, labels, still[:30], labels[:30]) == pytest.approx(1 / 3, abs=0.1)


def test_few_label_has_the_accuracy_of_a_plain_fit_to_each_of_its_draws():
  features, labels, test_features, test_labels = *clusters(60), *clusters(120, seed=1)
  scaler = StandardScaler().fit(features)  # needs no label, so it sees all
  train, test = scaler.transform(features), scaler.transform(test_features)
  expected = [
    LogisticRegression(C=1.0, max_iter=1000).fit(train[at], labels[at]).score(test, test_labels)
    for at in draws(labels, 2)
  ]
  found = few_label(features, labels, test_features, test_labels, per_class=2)
  np.testing.assert_allclose(found, expected, rtol=0, atol=2 / 120)
  assert np.std(expected) > 0.05  # else it would be no test


def test_draws_are_fixed_balanced_and_differ():
  labels = np.random.default_rng(0).integers(0, 3, 50)
  for per_class in (1, 5):
    found = list(draws(labels, per_class))
    assert len(found) == 20
    for at, again in zip(found, draws(labels.copy(), per_class), strict=True):
      np.testing.assert_array_equal(at, again)
      assert len(set(at)) == len(at)
      np.testing.assert_array_equal(np.bincount(labels[at]), [per_class] * 3)
    assert len({tuple(sorted(at)) for at in found}) > 15


def test_few_label_needs_enough_examples_of_every_class_there_is():
  features, _ = clusters(12)
  short = np.array([0] * 6 + [1] * 5 + [2])
  assert np.isnan(few_label(features, short, features, short, per_class=2)).all()
  assert (few_label(features, short, features, short, per_class=1) > 0).all()
  with_gaps = np.where(short == 1, 5, 0)  # classes 0 and 5
  assert (few_label(features, with_gaps, features, with_gaps, per_class=2) > 0).all()


def test_probes_is_a_row_of_the_table():
  split = (*clusters(30, d=3), *clusters(60, seed=1, d=3))
  row = probes(*split)
  assert list(row) == ["knn", "linear_1", "linear_5", "linear"]
  assert row["knn"] == knn(*split) and row["linear"] == linear(*split)
  assert row["linear_1"] == few_label(*split, per_class=1).mean() < row["linear_5"] <= 1


# Embeddings of a set.

TRACED = []


def projecting():
  """An encoder that, like BatchNorm, looks at its batch in training only."""

  def init(key, x):
    raise NotImplementedError

  def apply(params, state, x, *, key=None, train):
    TRACED.append(x.shape)
    x = x.reshape(len(x), -1)
    return (x - (x.mean(0) if train else state["mean"])) @ params, state

  return Encoder(init, apply)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_embeddings_do_not_depend_on_the_batch_size(dtype):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (10, 2, 2, 3)).astype(np.uint8)
  images = images if dtype == np.uint8 else (images / np.float32(255)).astype(np.float32)
  weights, mean = rng.normal(size=(12, 5)), rng.normal(size=12)
  scale = 255 if dtype == np.uint8 else 1
  expected = (images.reshape(10, -1) / scale - mean) @ weights
  encoder = projecting()
  params, state = jnp.float32(weights), {"mean": jnp.float32(mean)}
  for batch_size in (1, 4, 5, 10, 512):
    del TRACED[:]
    found = embed(encoder, params, state, images, batch_size=batch_size)
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(TRACED) <= 1  # one program for all batches, the ragged last one too


def test_nothing_cannot_be_embedded():
  with pytest.raises(UserError, match="embed: inputs must not be empty; found shape"):
    embed(projecting(), jnp.ones((12, 5)), {}, np.zeros((0, 2, 2, 3), np.uint8))
