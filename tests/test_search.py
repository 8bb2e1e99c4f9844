"""Exact search in blocks, against a sort of all scores."""

import jax.numpy as jnp
import numpy as np
import pytest

from contrastax.pairwise import Plan, cosine, dot, negative_squared_distance, top_k, unit

EPS = np.finfo(np.float32).eps


def sorted_all(scores, k):
  """The k highest of each row, ties by place."""
  return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("block", [None, "dense", (3, 7), 64])
@pytest.mark.parametrize("k", [1, 5, 23])
def test_it_is_a_stable_sort_of_all_scores(float64, block, k):
  rng = np.random.default_rng(0)
  # Small whole numbers: many scores are equal, and all are exact.
  queries, corpus = (rng.integers(-2, 3, (size, 3)).astype(float) for size in (10, 23))
  plan = None if block is None else Plan(block)
  values, places = top_k(queries, corpus, k, plan=plan)
  scores = queries @ corpus.T
  expected = sorted_all(scores, k)
  np.testing.assert_array_equal(places, expected)
  np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, 1))


@pytest.mark.parametrize(
  ("score", "formula"),
  [
    (cosine(), lambda q, c: (q / np.linalg.norm(q)) @ (c / np.linalg.norm(c))),
    (negative_squared_distance(), lambda q, c: -((q - c) ** 2).sum()),
  ],
  ids=["cosine", "distance"],
)
def test_any_score_serves(float64, score, formula):
  rng = np.random.default_rng(0)
  queries, corpus = rng.normal(size=(6, 4)), rng.normal(size=(50, 4))
  scores = np.array([[formula(q, c) for c in corpus] for q in queries])
  values, places = top_k(queries, corpus, 7, score=score, plan=Plan((4, 16)))
  np.testing.assert_array_equal(places, sorted_all(scores, 7))
  np.testing.assert_allclose(values, -np.sort(-scores)[:, :7], rtol=1e-12)


def test_float32_errs_only_between_scores_that_it_cannot_tell_apart():
  rng = np.random.default_rng(0)
  corpus = np.array(unit(rng.normal(size=(20_000, 64)).astype(np.float32)))
  corpus[1000:2000] = corpus[:1000] + 1e-7 * rng.normal(size=(1000, 64)).astype(np.float32)
  queries = corpus[:300] + np.float32(0.05) * rng.normal(size=(300, 64)).astype(np.float32)
  queries = np.asarray(unit(queries))
  _, places = top_k(queries, corpus, 50)
  exact = queries.astype(float) @ corpus.T.astype(float)
  expected = sorted_all(exact, 50)
  found = np.take_along_axis(exact, np.asarray(places), 1)
  difference = np.abs(found - np.take_along_axis(exact, expected, 1))
  assert (np.asarray(places) != expected).any()  # near-ties are there, so this is a test
  assert difference.max() < 8 * EPS
  for row in np.asarray(places):
    assert len(set(row)) == 50


def test_each_of_a_corpus_finds_others_but_not_itself(float64):
  corpus = np.random.default_rng(0).normal(size=(12, 3))
  values, places = top_k(corpus, corpus, 12, exclude=np.arange(12), plan=Plan((5, 5)))
  scores = corpus @ corpus.T
  np.fill_diagonal(scores, -np.inf)
  np.testing.assert_array_equal(places[:, :11], sorted_all(scores, 11))
  np.testing.assert_array_equal(places[:, 11], np.full(12, -1))  # eleven others are all there are
  np.testing.assert_array_equal(values[:, 11], np.full(12, -np.inf))


@pytest.mark.parametrize("k", [0, 24])
def test_too_many_or_too_few_are_refused(k):
  with pytest.raises(
    ValueError, match=f"from 1 to 23, the number of vectors in the corpus, not {k}"
  ):
    top_k(jnp.ones((2, 3)), jnp.ones((23, 3)), k)


def test_shapes_that_do_not_fit_are_named():
  with pytest.raises(ValueError, match=r"\(2, 3\) and \(5, 4\)"):
    top_k(jnp.ones((2, 3)), jnp.ones((5, 4)), 1, score=dot())
