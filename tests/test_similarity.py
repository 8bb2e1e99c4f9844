"""CKA between two runs, and LiDAR: definitions, public code, invariances, known configurations."""

import jax
import numpy as np
import pytest
import scipy.linalg
from records import records

from contrastax.core import UserError
from contrastax.evaluation import cka, effective_rank, knn, lidar


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


# CKA.


def by_kernels(x, y, unbiased):
  """CKA as its definition: from the kernels [n, n] and their traces."""

  def hsic(k, m):
    n = len(k)
    if not unbiased:
      centring = np.eye(n) - 1 / n
      return np.trace(k @ centring @ m @ centring)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    return (
      np.trace(k @ m)
      + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
      - 2 / (n - 2) * (one @ k @ m @ one)
    )

  k, m = x @ x.T, y @ y.T
  return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


both = pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])


@both
@pytest.mark.parametrize("n, d", [(4, 3), (30, 5), (12, 40)])
def test_it_is_its_definition_by_kernels(n, d, unbiased):
  x = normal(n, d) + 3
  y = x[:, :2] @ normal(2, 7, seed=1) + 0.3 * normal(n, 7, seed=2)
  np.testing.assert_allclose(cka(x, y, unbiased=unbiased), by_kernels(x, y, unbiased), rtol=1e-10)


@pytest.mark.parametrize(
  "record",
  [r for r in records("similarity") if r["loss"] in ("cka", "cka_unbiased")],
  ids=lambda r: f"{r['loss']}-{r['code']}-{r['value']:.3g}",
)
def test_public_cka_agrees(record):
  unbiased = record["loss"] == "cka_unbiased"
  found = cka(record["inputs"]["x"], record["inputs"]["y"], unbiased=unbiased)
  # That code adds 1e-6 to the denominator, HSIC of kernels of about this size.
  np.testing.assert_allclose(found, record["value"], rtol=1e-6 if unbiased else 1e-12)


@both
def test_it_does_not_see_rotation_shift_and_scale(unbiased):
  x, y = normal(20, 6), normal(20, 4, seed=1)
  rotation, _ = np.linalg.qr(normal(6, 6, seed=2))
  expected = cka(x, y, unbiased=unbiased)
  for turned in (x @ rotation, x + 5, 1e30 * x, 1e-30 * x):
    np.testing.assert_allclose(cka(turned, y, unbiased=unbiased), expected, rtol=1e-9)
  np.testing.assert_allclose(cka(3 * x @ rotation - 1, x, unbiased=unbiased), 1, rtol=1e-12)
  np.testing.assert_allclose(cka(y, x, unbiased=unbiased), expected, rtol=1e-12)
  assert abs(cka(x * np.arange(1, 7), y, unbiased=unbiased) - expected) > 1e-3


def test_of_unrelated_features_the_unbiased_has_mean_0_and_the_biased_grows_with_d():
  pairs = [(normal(20, 50, seed=s), normal(20, 50, seed=s + 999)) for s in range(100)]
  assert np.mean([cka(*pair) for pair in pairs]) > 0.6
  unbiased = [cka(*pair, unbiased=True) for pair in pairs]
  assert abs(np.mean(unbiased)) < 4 * np.std(unbiased) / 10
  assert min(unbiased) < 0


@both
@pytest.mark.parametrize("value", [0.0, 0.1, -1e20])
def test_a_point_has_no_similarity(unbiased, value):
  assert np.isnan(cka(np.full((20, 3), value), normal(20, 3), unbiased=unbiased))


def test_cka_says_what_it_cannot_compare():
  with pytest.raises(ValueError, match="same examples, not of 5 and 6"):
    cka(normal(5, 2), normal(6, 2))
  with pytest.raises(ValueError, match="unbiased CKA needs at least 4 examples, not 3"):
    cka(normal(3, 2), normal(3, 2), unbiased=True)
  with pytest.raises(ValueError, match=r"x must be \[n, d\], not \[5\]"):
    cka(normal(5), normal(5))


# The nearest neighbors of the same public record.


@pytest.mark.parametrize(
  "record", list(records("similarity", "knn")), ids=lambda r: "k{k}-T{T}".format(**r["params"])
)
def test_public_nearest_neighbors_agree(record):
  bank, queries, labels = (record["inputs"][name] for name in ("tr", "te", "ytr"))
  options = {"k": record["params"]["k"], "temperature": record["params"]["T"]}
  assert knn(bank, labels, queries, record["value"].argmax(1), **options) == 1


# LiDAR.

compiled = jax.jit(lidar, static_argnames="delta")


def by_definition(x, delta=1e-4):
  """As the generalized eigenvalues of the two scatters, in float64."""
  n, q, d = x.shape
  means = x.mean(1)
  between = sum(np.outer(m - means.mean(0), m - means.mean(0)) for m in means) / (n - 1)
  within = delta * np.eye(d)
  for views, mean in zip(x, means, strict=True):
    within += sum(np.outer(v - mean, v - mean) for v in views) / (n * (q - 1))
  values = scipy.linalg.eigh(between, within, eigvals_only=True).clip(0)
  p = values / values.sum() + 1e-7
  p /= p.sum()
  return np.exp(-(p * np.log(p)).sum())


def views(n=40, q=5, d=6, noise=0.3, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(n, 1, d)) * np.geomspace(0.1, 2, d) + noise * rng.normal(size=(n, q, d))


@pytest.mark.parametrize("shape, delta", [((40, 5, 6), 1e-4), ((5, 2, 8), 0.1), ((2, 3, 4), 1e-4)])
def test_lidar_is_its_definition(float64, shape, delta):
  x = views(*shape)
  np.testing.assert_allclose(compiled(x, delta=delta), by_definition(x, delta), rtol=1e-8)


def test_lidar_in_float32_loses_nothing_but_rounding():
  x = views(200, 10, 32).astype(np.float32)
  np.testing.assert_allclose(compiled(x), by_definition(x.astype(np.float64)), rtol=1e-4)


def test_lidar_does_not_see_what_linear_maps_do_if_views_do_differ(float64):
  x = views()
  mixed = x @ normal(6, 6, seed=3) + 2
  np.testing.assert_allclose(compiled(x, delta=1e-12), compiled(mixed, delta=1e-12), rtol=1e-6)
  np.testing.assert_allclose(compiled(x), compiled(x[::-1, ::-1]), rtol=1e-9)


def test_lidar_counts_the_directions_that_tell_images_apart(float64):
  found = []
  for informative in (1, 3, 6):
    x = 0.1 * normal(2000, 10, 6, seed=1)
    x[:, :, :informative] += normal(2000, 1, informative)
    found.append(float(compiled(x)))
  np.testing.assert_allclose(found, [1, 3, 6], rtol=0.1)


def test_it_does_not_count_a_rank_that_is_only_in_the_views(float64):
  """Where views differ in all directions and images in one, RankMe sees many and LiDAR one."""
  x = normal(500, 10, 8, seed=1)
  x[:, :, 0] += 8 * normal(500, 1)
  assert compiled(x) < 1.5
  assert jax.jit(effective_rank)(x.reshape(-1, 8)) > 4


def test_collapsed_views_have_the_documented_value(float64):
  np.testing.assert_allclose(compiled(np.ones((4, 3, 5))), 5, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 5, 3), (5, 1, 3), (5, 3)])
def test_lidar_needs_views_of_images(shape):
  with pytest.raises(UserError, match=r"\[n, q, d\], not"):
    lidar(np.ones(shape, np.float32))
