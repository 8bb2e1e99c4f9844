"""Retrieval: the metrics' definitions, their paper's example, ties, and queries in groups."""

import importlib

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from contrastax.evaluation import retrieval
from contrastax.evaluation.retrieval import judged


def by_definition(features, labels, ks):
  """Query by query, from a stable sort of all other examples by cosine."""
  unit = features / np.linalg.norm(features, axis=1, keepdims=True)
  per_query = []
  for i, label in enumerate(labels):
    others = np.delete(np.arange(len(labels)), i)
    order = others[np.argsort(-(unit[others] @ unit[i]), kind="stable")]
    relevant = [int(labels[j] == label) for j in order]
    size = sum(relevant)
    if not size:
      continue
    precision_at = [sum(relevant[: r + 1]) / (r + 1) for r in range(size)]
    per_query.append(
      {
        **{f"recall@{k}": float(any(relevant[:k])) for k in ks},
        "map@r": sum(p for p, hit in zip(precision_at, relevant, strict=False) if hit) / size,
        "r_precision": precision_at[-1],
      }
    )
  means = {name: np.mean([q[name] for q in per_query]) for name in per_query[0]}
  return {**means, "left_out": len(labels) - len(per_query)}


def scattered(n, d=4, classes=5, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, classes, n)
  return rng.normal(size=(classes, d))[labels] + rng.normal(size=(n, d)), labels


def corners(n, d=4, classes=4, seed=0):
  """Corners of a cube: unit vectors and cosines are exact, and ties are many."""
  rng = np.random.default_rng(seed)
  return rng.choice([-1.0, 1.0], (n, d)), rng.integers(0, classes, n)


@pytest.mark.parametrize("points", [scattered, corners])
def test_it_is_its_definition(points):
  features, labels = points(80)
  labels[[3, 50]] = 77, 99  # alone in their classes: no queries, but they may be found
  labels[labels == 1] = 0  # so that classes differ in size
  ks = (1, 3, 20)
  found, expected = retrieval(features, labels, ks=ks), by_definition(features, labels, ks)
  assert found["left_out"] == 2
  assert found == pytest.approx(expected, abs=1e-12)


def test_queries_in_groups_change_nothing(monkeypatch):
  features, labels = scattered(60)
  expected = retrieval(features, labels)
  module = importlib.import_module("contrastax.evaluation.retrieval")
  monkeypatch.setattr(module, "AT_ONCE", 200)  # about ten queries
  assert retrieval(features, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
  "right, recall, r_precision, map_at_r",
  [([1], 1, 0.1, 0.1), ([1, 10], 1, 0.2, 0.12), ([1, 2], 1, 0.2, 0.2), (range(1, 11), 1, 1, 1)],
)
def test_the_papers_example(right, recall, r_precision, map_at_r):
  """Musgrave et al. 2020, Table 3: of ten results, all there are, these are right."""
  hit = np.isin(np.arange(1, 11), list(right))[None]
  found = judged(hit, np.array([10]), (1,))
  expected = {"recall@1": recall, "map@r": map_at_r, "r_precision": r_precision}
  assert {name: float(value[0]) for name, value in found.items()} == pytest.approx(expected)


def test_recall_is_that_of_scikit_learns_neighbors():
  features, labels = scattered(400, d=8)
  search = NearestNeighbors(metric="cosine").fit(features)
  nearest = search.kneighbors(n_neighbors=10, return_distance=False)  # without themselves
  found = retrieval(features, labels, ks=(1, 2, 10))
  for k in (1, 2, 10):
    expected = (labels[nearest[:, :k]] == labels[:, None]).any(1).mean()
    assert found[f"recall@{k}"] == pytest.approx(expected)


def test_an_example_does_not_find_itself_and_its_twin_may_be_of_another_class():
  twins = np.repeat(np.eye(4), 2, 0)
  same = retrieval(twins, np.repeat(np.arange(4), 2), ks=(1,))
  assert (same["recall@1"], same["map@r"], same["r_precision"]) == (1, 1, 1)
  other = retrieval(twins, np.array([0, 1] * 4), ks=(1,))
  assert (other["recall@1"]) == 0


def test_classes_apart_are_found_entirely_and_labels_may_be_any_numbers():
  labels = np.repeat([5, -3, 10**12], [4, 2, 7])
  features = np.eye(3)[np.repeat([0, 1, 2], [4, 2, 7])]
  found = retrieval(features, labels, ks=(1, 12))
  assert list(found) == ["recall@1", "recall@12", "map@r", "r_precision", "left_out"]
  assert set(found.values()) == {1.0, 0}


def test_what_cannot_be_retrieved_is_refused():
  features = np.eye(5)
  with pytest.raises(ValueError, match="no class has two of these 5 examples"):
    retrieval(features, np.arange(5))
  with pytest.raises(ValueError, match="recall@5 of 5 examples: k must be at most 4"):
    retrieval(features, np.zeros(5, int), ks=(1, 5))
