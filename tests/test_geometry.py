"""The geometry of a space: definitions, public code, invariances, and collapse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from records import records, tangent

from contrastax.evaluation import (
  alignment,
  effective_rank,
  embedding_std,
  tolerance,
  uniformity,
)

LABEL = np.array([0, 1, 0, 2, 1, 0], np.int32)


def points(seed=0, n=6, d=4):
  return np.random.default_rng(seed).normal(size=(n, d))


def directions(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


# The definitions, as loops.


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_alignment(float64, alpha):
  x, y = points(0), points(1)
  pairs = zip(directions(x), directions(y), strict=True)
  expected = np.mean([np.linalg.norm(a - b) ** alpha for a, b in pairs])
  np.testing.assert_allclose(alignment(x, y, alpha=alpha), expected, rtol=1e-12)


@pytest.mark.parametrize("t", [0.5, 2.0])
def test_uniformity(float64, t):
  x = points()
  u = directions(x)
  potentials = [np.exp(-t * ((u[i] - u[j]) ** 2).sum()) for i in range(6) for j in range(i)]
  np.testing.assert_allclose(uniformity(x, t=t), np.log(np.mean(potentials)), rtol=1e-12)


def test_tolerance(float64):
  x = points()
  u = directions(x)
  cosines = [u[i] @ u[j] for i in range(6) for j in range(i) if LABEL[i] == LABEL[j]]
  np.testing.assert_allclose(tolerance(x, LABEL), np.mean(cosines), rtol=1e-12)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_effective_rank(float64, shape):
  x = points(0, *shape)
  sigma = np.sqrt(np.linalg.eigvalsh(x @ x.T if shape[0] < shape[1] else x.T @ x))
  p = sigma / sigma.sum() + 1e-7
  p /= p.sum()
  np.testing.assert_allclose(effective_rank(x), np.exp(-(p * np.log(p)).sum()), rtol=1e-9)


def test_embedding_std(float64):
  x = points()
  u = directions(x)
  deviations = [np.sqrt(np.mean((u[:, k] - np.mean(u[:, k])) ** 2)) for k in range(4)]
  np.testing.assert_allclose(embedding_std(x), np.mean(deviations) * 2, rtol=1e-12)


# Public implementations.


def align_uniform(x, y, *, alpha, t, lam):
  return alignment(x, y, alpha=alpha) + lam * (uniformity(x, t=t) + uniformity(y, t=t)) / 2


def named(record):
  return f"{record['loss']}-{record['code']}-{record['value']:.3g}"


MEASURES = {
  "align_uniform": align_uniform,
  "alignment": alignment,
  "effective_rank": effective_rank,
  "uniformity": uniformity,
}


@pytest.mark.parametrize(
  "record", [r for r in records("evaluation") if r["loss"] in MEASURES], ids=named
)
def test_public_implementations_agree(float64, record):
  measure = functools.partial(MEASURES[record["loss"]], **record["params"])
  arrays = list(record["inputs"].values())
  if not record["grads"]:  # that code computes none
    np.testing.assert_allclose(measure(*arrays), record["value"], rtol=1e-9)
    return
  value, gradients = jax.jit(jax.value_and_grad(measure, tuple(range(len(arrays)))))(*arrays)
  np.testing.assert_allclose(value, record["value"], rtol=1e-9)
  for array, found, expected in zip(arrays, gradients, record["grads"].values(), strict=True):
    expected = expected if record["normalises"] else tangent(expected, array)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


# Invariances.

ALL = {
  "alignment": lambda x: alignment(x, x[::-1]),
  "uniformity": uniformity,
  "tolerance": lambda x: tolerance(x, LABEL),
  "effective_rank": effective_rank,
  "embedding_std": embedding_std,
}
"""As functions of one array [6, d]."""


@jax.jit
def measured(x):
  return {name: measure(x) for name, measure in ALL.items()}


def assert_measured(x, expected, rtol=0.0, atol=0.0):
  for name, found in measured(x).items():
    np.testing.assert_allclose(found, expected[name], rtol=rtol, atol=atol, err_msg=name)


def test_only_embedding_std_depends_on_the_axes(float64):
  x = points()
  rotation, _ = np.linalg.qr(points(1, 4, 4))
  expected, turned = measured(x), measured(x @ rotation)
  assert abs(turned.pop("embedding_std") - expected["embedding_std"]) > 1e-6
  for name, found in turned.items():
    np.testing.assert_allclose(found, expected[name], rtol=1e-12, err_msg=name)


def test_the_length_of_vectors_does_not_matter(float64):
  x = points()
  for scale in (1e-6, 1e30):
    assert_measured(scale * x, measured(x), rtol=1e-12)
  each = np.geomspace(1e-3, 1e3, 6)[:, None]  # of which the rank makes something
  expected = {**measured(x), "effective_rank": measured(each * x)["effective_rank"]}
  assert_measured(each * x, expected, rtol=1e-12)


def test_the_order_of_examples_does_not_matter(float64):
  order = np.array([4, 2, 5, 0, 3, 1])  # keeps who is whose partner in ALL
  np.testing.assert_array_equal(order[::-1], 5 - order)
  expected, found = measured(points()), measured(points()[order])
  expected["tolerance"] = tolerance(points(), LABEL)
  found["tolerance"] = tolerance(points()[order], LABEL[order])
  for name, value in found.items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-12, err_msg=name)


def test_float32_loses_nothing_but_rounding():
  with jax.enable_x64(True):
    expected = measured(points())
  for scale in (1e-8, 1, 1e30):
    assert_measured(np.float32(scale) * points().astype(np.float32), expected, rtol=1e-5)


# Known configurations. What each measure is for: to see a collapse.


def test_a_space_collapsed_to_a_point():
  x = np.repeat(points()[:1], 6, 0).astype(np.float32)
  expected = {"alignment": 0, "uniformity": 0, "tolerance": 1, "effective_rank": 1}
  assert_measured(x, {**expected, "embedding_std": 0}, atol=1e-5)


def test_a_space_collapsed_to_a_line():
  found = measured(np.outer([1, -2, 3, -3, 2, -1], points()[0]).astype(np.float32))
  np.testing.assert_allclose(found["effective_rank"], 1, atol=1e-5)
  np.testing.assert_allclose(found["alignment"], 4, rtol=1e-6)  # the most there can be, 2^α


def test_evenly_spread_directions():
  found = measured(np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32))
  np.testing.assert_allclose(found["embedding_std"], 1, rtol=1e-6)
  np.testing.assert_allclose(found["effective_rank"], 3, rtol=1e-5)
  # Pairs of different axes are √2 apart, exp(−2 t); those of one axis 2, exp(−4 t).
  expected = np.log((12 * np.exp(-4.0) + 3 * np.exp(-8.0)) / 15)
  np.testing.assert_allclose(found["uniformity"], expected, rtol=1e-6)
  np.testing.assert_allclose(measured(np.eye(6, dtype=np.float32))["uniformity"], -4, rtol=1e-6)


def test_a_uniform_distribution_comes_near_its_limit():
  x = points(0, 6, 20_000).astype(np.float32)
  np.testing.assert_allclose(measured(x)["uniformity"], -4, rtol=0.02)


def test_tolerance_looks_within_classes_alone():
  x = np.float32([[1, 0], [1, 0], [-1, 0], [-1, 0]])
  np.testing.assert_allclose(tolerance(x, np.array([0, 0, 1, 1])), 1)
  np.testing.assert_allclose(tolerance(x, np.array([0, 1, 0, 1])), -1)
  np.testing.assert_allclose(tolerance(x, np.array([0, 1, 2, 1])), -1)
  assert np.isnan(tolerance(x, np.arange(4)))


def test_zero_vectors_have_the_documented_rank_and_no_direction():
  found = measured(np.zeros((6, 4), np.float32))
  np.testing.assert_allclose(found["effective_rank"], 4, rtol=1e-6)
  assert found["embedding_std"] == found["alignment"] == found["tolerance"] == 0


def test_gradients_stay_finite_where_a_space_collapses():
  @jax.jit
  @jax.grad
  def gradient(x):
    return alignment(x, x, alpha=1.0) + alignment(x, x[::-1]) + uniformity(x) + tolerance(x, LABEL)

  for x in (points(), np.repeat(points()[:1], 6, 0), np.zeros((6, 4)), 1e30 * points()):
    assert np.isfinite(gradient(jnp.float32(x))).all()


def test_one_vector_has_no_geometry():
  with pytest.raises(ValueError, match="at least two vectors"):
    uniformity(np.ones((1, 3), np.float32))
  with pytest.raises(ValueError, match="at least two vectors"):
    tolerance(np.ones((1, 3), np.float32), np.zeros(1, int))
  with pytest.raises(ValueError, match=r"the same shape .*, not \(2, 3\) and \(3, 3\)"):
    alignment(np.ones((2, 3), np.float32), np.ones((3, 3), np.float32))
