"""Scores: their values, their gradients, and vectors of half precision or of no length."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from contrastax.core import Score
from contrastax.pairwise import bilinear, cosine, dot, multilinear, negative_squared_distance, unit

W = np.random.default_rng(5).normal(size=(3, 3))
SCORES = {
  dot(): lambda a, c: a @ c,
  cosine(): lambda a, c: a @ c / np.linalg.norm(a) / np.linalg.norm(c),
  negative_squared_distance(): lambda a, c: -((a - c) ** 2).sum(),
  bilinear(): lambda a, c: sum(a[d] * W[d, e] * c[e] for d in range(3) for e in range(3)),
  multilinear(2): lambda a, c: sum(a[d] * c[d] * c[len(a) + d] for d in range(len(a))),
}
each_score = pytest.mark.parametrize("score", SCORES, ids=lambda score: type(score).__name__)


def score_problem(score):
  """Parameters, anchors, shared candidates, and a set per anchor."""
  rng = np.random.default_rng(0)
  wide = 6 if score == multilinear(2) else 3
  vectors = (rng.normal(size=size) for size in ((4, 3), (5, wide), (4, 2, wide)))
  return W if score == bilinear() else (), *vectors


@each_score
def test_scores_of_shared_candidates_and_of_a_set_per_anchor(float64, score):
  params, anchors, shared, own = score_problem(score)
  compiled = jax.jit(score)
  formula = SCORES[score]
  expected = [[formula(a, c) for c in shared] for a in anchors]
  np.testing.assert_allclose(compiled(params, anchors, shared), expected, rtol=1e-12)
  expected = [[formula(a, c) for c in mine] for a, mine in zip(anchors, own, strict=True)]
  np.testing.assert_allclose(compiled(params, anchors, own), expected, rtol=1e-12)


@each_score
def test_gradients_of_scores(float64, score):
  both = jax.jit(lambda params, a, shared, own: (score(params, a, shared), score(params, a, own)))
  check_grads(both, score_problem(score), order=1, modes=["rev"], rtol=1e-6)


@each_score
def test_only_a_score_that_is_symmetric_says_so(float64, score):
  params, anchors, shared, _ = score_problem(score)
  if score.symmetric:
    compiled = jax.jit(score)
    there, back = compiled(params, anchors, shared), compiled(params, shared, anchors)
    np.testing.assert_allclose(there, np.transpose(back), rtol=1e-12)
  assert score.symmetric == (score not in (bilinear(), multilinear(2)))
  assert isinstance(score, Score)
  assert not score.has_temperature and score.penalized is None and score.regularizer == 0


def test_what_scores_begin_with():
  for score in SCORES:
    if score != bilinear():
      assert score.init(jax.random.key(0), 3) == ()
  np.testing.assert_array_equal(bilinear().init(jax.random.key(0), 3), np.eye(3))


@pytest.mark.parametrize("score", list(SCORES)[:3], ids=lambda score: type(score).__name__)
def test_products_of_half_precision_accumulate_in_float32(score):
  rng = np.random.default_rng(0)
  anchors, candidates = (jnp.asarray(rng.normal(size=(3, 64)), jnp.bfloat16) for _ in range(2))
  found = score((), anchors, candidates)
  assert found.dtype == jnp.float32
  exact = [[SCORES[score](a, c) for c in candidates.astype(float)] for a in anchors.astype(float)]
  np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


@jax.jit
def cosine_and_gradients(a, c, g):
  """The cosines, and the gradients of their sum weighed by g."""
  found, pull = jax.vjp(functools.partial(cosine(), ()), a, c)
  return found, pull(g)


@pytest.mark.parametrize("length", [1e-3, 1, 1e4])
def test_of_vectors_of_half_precision_a_cosine_is_exact_to_float32(length):
  """Rounding unit vectors to half precision again would cost 1e-3."""
  rng = np.random.default_rng(0)
  a, c = ((length * rng.normal(size=(16, 128))).astype(jnp.bfloat16) for _ in range(2))
  c[0] = a[0]
  g = rng.normal(size=(16, 16))
  found, gradients = cosine_and_gradients(a, c, g.astype(np.float32))
  with jax.enable_x64(True):
    exact, expected = cosine_and_gradients(a.astype(np.float64), c.astype(np.float64), g)
    exact, *expected = map(np.asarray, (exact, *expected))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, exact, rtol=0, atol=3e-7)  # measured: 1.2e-7
  for gradient, value in zip(gradients, expected, strict=True):
    assert gradient.dtype == jnp.bfloat16
    apart = np.abs(np.asarray(gradient, np.float64) - value).max()
    assert apart < 1e-2 * np.abs(value).max()  # measured: 5e-3, bfloat16 has 4e-3


def test_half_precision_vectors_of_no_length_have_cosine_0_and_no_gradient():
  vectors = np.array([[0, 0], [9e-13, 0], [1, 2]], jnp.bfloat16)
  found, (gradient, _) = cosine_and_gradients(vectors, vectors[2:], np.ones((3, 1), np.float32))
  np.testing.assert_allclose(found, [[0], [0], [1]], atol=3e-7)
  np.testing.assert_array_equal(np.asarray(gradient, float)[:2], np.zeros((2, 2)))


def test_a_cosine_is_a_cosine_for_vectors_of_any_length():
  rng = np.random.default_rng(0)
  anchors, candidates = (rng.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
  expected = cosine()((), anchors, candidates)
  for length in (1e-10, 1e-6, 1e15, 1e30):
    found = cosine()((), np.float32(length) * anchors, candidates)
    np.testing.assert_allclose(found, expected, atol=1e-6)
  itself = np.diag(cosine()((), anchors, anchors))
  np.testing.assert_allclose(itself, np.ones(4), atol=3e-7)


def test_a_vector_of_almost_no_length_has_no_direction_and_no_gradient():
  vectors = np.float32([[0, 0, 0], [9e-13, 0, 0], [1e-30, 1e-30, 0], [2e-12, 0, 0]])
  np.testing.assert_allclose(unit(vectors), [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
  gradient = jax.jit(jax.grad(lambda v: unit(v).sum()))(vectors)
  np.testing.assert_array_equal(gradient[:3], np.zeros((3, 3)))
  np.testing.assert_allclose(gradient[3], [0, 5e11, 5e11], rtol=1e-6)


def test_a_squared_distance_is_never_negative():
  points = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
  found = negative_squared_distance()((), points, points)
  assert found.max() <= 0
  np.testing.assert_allclose(np.diag(found), np.zeros(50), atol=1e-5)
