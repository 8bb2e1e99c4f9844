"""The geometry of an embedding space. Each measures a whole set, and is a scalar.

All but `effective_rank` and `lidar` measure directions: vectors are normalized inside. Vectors are
anything that converts to an array; integers, bools and half precision become float32. All of them
may run under `jax.jit`. Raises UserError for a wrong rank, and for NaN and infinity in arrays that
are not traced; for traced vectors with NaN or infinity the result is NaN.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.core import Tracer
from numpy.typing import ArrayLike

from contrastax import losses
from contrastax.core import Group, UserError
from contrastax.evaluation.inputs import check_positive_number, class_numbers, vectors
from contrastax.pairwise import dot, reduce, sum_, unit


def alignment(x: ArrayLike, y: ArrayLike, *, alpha: float = 2.0) -> jax.Array:
  """How close positives lie: the mean of `losses.alignment`, in [0, 2^α], 0 at best.

  x, y: [n, d], row i of both is the same example. alpha: above 0.
  """
  check_positive_number("alpha", alpha)
  x, y = vectors(x, "x"), vectors(y, "y")
  return _finite(losses.alignment(x, y, alpha=alpha).mean(), x, y)


def uniformity(x: ArrayLike, *, t: float = 2.0) -> jax.Array:
  """How evenly directions fill the sphere: `losses.uniformity`, in [−4t, 0]; lower is more even.

  x: [n, d], n ≥ 2. t: above 0.
  """
  check_positive_number("t", t)
  x = _at_least_two(vectors(x))
  return _finite(losses.uniformity(x, t=t), x)


def tolerance(x: ArrayLike, label: ArrayLike) -> jax.Array:
  """How close a class stays: the mean cosine over pairs of different examples of one class.

  Args:
    x: [n, d], n ≥ 2.
    label: [n], names of classes: any integers, bools or strings; traced ones are integers.

  Returns:
    A scalar in [−1, 1]; NaN where no class has two examples. The high end tolerates semantically
    similar samples, and says nothing about other classes.

  Wang & Liu 2021, arXiv 2012.09740, eq. 14, which writes an expectation over all pairs
  but reports values that only the mean over pairs of one class can reach.
  """
  x = _at_least_two(vectors(x))
  points = Group(unit(x), {"place": jnp.arange(len(x)), "label": _class_of_each(label, len(x))})
  found = reduce(
    _SameClass(), points, (points,), score=dot(), same_set=True,
    reductions={"cosine": sum_, "pairs": sum_},
  )  # fmt: skip
  return _finite(found["cosine"].sum() / found["pairs"].sum(), x)


def effective_rank(x: ArrayLike) -> jax.Array:
  """exp of the entropy of the singular values' distribution, as RankMe; in [1, min(n, d)].

  x: [n, d], neither centered nor normalized. With σ the singular values,
  p = σ/‖σ‖₁ + 1e-7 made to sum to 1 again, exp(−Σ p log p). All zeros: min(n, d).
  Roy & Vetterli 2007; Garrido et al. 2023, arXiv 2210.02885, eq. 1. Public codes differ
  in the small constant and in whether they normalize again.
  """
  x = vectors(x)
  largest = jnp.abs(x).max()  # divided out, so that the sum of the values cannot overflow
  values = jnp.linalg.svd(x / jnp.where(largest > 0, largest, 1), compute_uv=False)
  return _finite(_number_of(values), x)


def lidar(x: ArrayLike, *, delta: float = 1e-4) -> jax.Array:
  """How many directions tell images apart rather than their views: LiDAR, in [1, d].

    Σ_b = Σ_i (μ_i − μ)(μ_i − μ)ᵀ / (n − 1)
    Σ_w = Σ_iv (x_iv − μ_i)(x_iv − μ_i)ᵀ / (n (q − 1)) + δ I

  The value is exp of the entropy of the eigenvalues of Σ_w^(−1/2) Σ_b Σ_w^(−1/2), the rank of
  linear discriminant analysis with every image its own class; constants as in `effective_rank`.
  With n ≤ d it cannot exceed n − 1.

  Args:
    x: [n, q, d], the embeddings of q random views of each of n images; μ_i is the mean of an
      image's views, μ their mean.
    delta: δ, above 0. It is an absolute variance, so the scale of x matters; public codes take
      1e-6 to 1e-3.

  Returns:
    A scalar; d where all x are equal.

  Raises:
    UserError for fewer than two images or views.

  Thilak et al. 2023, arXiv 2312.04000, who take 1,000 images or more with 50 views each.
  """
  check_positive_number("delta", delta)
  x = vectors(x, axes="[n, q, d]")
  n, q, d = x.shape
  if min(n, q) < 2:
    raise UserError(f"LiDAR needs at least 2 views of at least 2 images [n, q, d], not {[n, q, d]}")
  means = x.mean(1)
  between, within = means - means.mean(0), (x - means[:, None]).reshape(n * q, d)
  scatter = jnp.matmul(within.T, within, precision="highest") / (n * (q - 1))
  scatter = scatter + delta * jnp.eye(d, dtype=x.dtype)
  # With Σ_w = LLᵀ, L⁻¹ Σ_b L⁻ᵀ has the same eigenvalues: the squares of these singular values.
  whitened = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(scatter), between.T, lower=True)
  values = jnp.linalg.svd(whitened, compute_uv=False) ** 2
  return _finite(_number_of(jnp.pad(values, (0, d - len(values)))), x)


def embedding_std(x: ArrayLike) -> jax.Array:
  """The mean over dimensions of the unit vectors' standard deviation, times √d.

  x: [n, d]. 1: spread over the sphere; 0: collapsed to a point.
  Chen & He 2021, arXiv 2011.10566, §4.1, who compare the deviation with 1/√d.
  """
  x = vectors(x)
  return unit(x).std(0).mean() * x.shape[1] ** 0.5


def _at_least_two(x):
  if len(x) < 2:
    raise UserError(f"x must be at least two vectors [n, d], not {list(x.shape)}")
  return x


def _class_of_each(label, count):
  """Class numbers [n], of known labels; traced labels as they are."""
  if not isinstance(label, Tracer):
    return jnp.asarray(class_numbers(label, count, "label")[1])
  whole = label.dtype == bool or jnp.issubdtype(label.dtype, jnp.integer)
  if label.shape != (count,) or not whole:
    raise UserError(
      f"label must be [{count}] integers or bools, not {list(label.shape)} of {label.dtype}"
    )
  return label


def _finite(value, *given):
  """The value, or NaN where a vector that it was computed from is not finite."""
  finite = jnp.all(jnp.array([jnp.isfinite(x).all() for x in given]))
  return value + jnp.where(finite, 0, jnp.nan)


def _number_of(values):
  """exp of the entropy of values ≥ 0, made a distribution; 1e-7 each keeps the logarithm finite."""
  total = values.sum()
  p = values / jnp.where(total > 0, total, 1) + 1e-7
  p = p / p.sum()
  return jnp.exp(-(p * jnp.log(p)).sum())


@dataclasses.dataclass(frozen=True)
class _SameClass:
  def __call__(self, similarity, a, c, shared):
    pair = (a["label"] == c["label"]) & (a["place"] != c["place"])
    return {"cosine": jnp.where(pair, similarity, 0), "pairs": jnp.where(pair, 1.0, 0.0)}
