"""The geometry of an embedding space. Each measures a whole set, and is a scalar.

All but `effective_rank` and `lidar` look at directions: vectors are normalised inside.
"""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp

from contrastax import losses
from contrastax.core import Group, UserError
from contrastax.pairwise import dot, reduce, sum_, unit


def alignment(x, y, *, alpha: float = 2.0):
  """How close positives lie: the mean of `losses.alignment`, in [0, 2^α], 0 at best."""
  return losses.alignment(x, y, alpha=alpha).mean()


def uniformity(x, *, t: float = 2.0):
  """How evenly directions fill the sphere: `losses.uniformity`, in [−4t, 0]; lower is evener."""
  return losses.uniformity(x, t=t)


def tolerance(x, label):
  """How close a class stays: the mean cosine over pairs of different examples of one class.

  x: [n, d]; label: [n], int. In [−1, 1]; NaN where no class has two examples. The high
  end tolerates semantically similar samples, and says nothing of other classes.
  Wang & Liu 2021, arXiv 2012.09740, eq. 14, which writes an expectation over all pairs
  but reports values that only the mean over pairs of one class can reach.
  """
  if jnp.ndim(x) != 2 or len(x) < 2:
    raise UserError(
      f"the geometry of a space needs at least two vectors [n, d], not {jnp.shape(x)}"
    )
  points = Group(unit(x), {"place": jnp.arange(x.shape[0]), "label": label})
  found = reduce(
    _SameClass(), points, (points,), score=dot(), same_set=True,
    rows={"cosine": sum_, "pairs": sum_},
  )  # fmt: skip
  return found["cosine"].sum() / found["pairs"].sum()


def effective_rank(x):
  """exp of the entropy of the singular values' distribution, as RankMe; in [1, min(n, d)].

  x: [n, d], neither centred nor normalised. With σ the singular values,
  p = σ/‖σ‖₁ + 1e-7 made to sum to 1 again, exp(−Σ p log p). All zeros: min(n, d).
  Roy & Vetterli 2007; Garrido et al. 2023, arXiv 2210.02885, eq. 1. Public codes differ
  in the small constant and in whether they normalise again.
  """
  chex.assert_rank(x, 2)
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  largest = jnp.abs(x).max()  # divided out, so that the sum of the values cannot overflow
  return _number_of(jnp.linalg.svd(x / jnp.where(largest > 0, largest, 1), compute_uv=False))


def lidar(x, *, delta: float = 1e-4):
  """How many directions tell images apart rather than their views: LiDAR, in [1, d].

    Σ_b = Σ_i (μ_i − μ)(μ_i − μ)ᵀ / (n − 1)
    Σ_w = Σ_iv (x_iv − μ_i)(x_iv − μ_i)ᵀ / (n (q − 1)) + δ I

  x: [n, q, d], the embeddings of q random views of each of n images; μ_i are the means of
  an image's views, μ theirs. exp of the entropy of the eigenvalues of Σ_w^(−1/2) Σ_b Σ_w^(−1/2),
  the rank of linear discriminant analysis with every image its own class; constants as
  in `effective_rank`. With n ≤ d it cannot exceed n − 1. δ is an absolute variance, so the
  scale of x matters; public codes take 1e-6 to 1e-3. All x equal: d.

  Raises UserError for fewer than two images or views.
  Thilak et al. 2023, arXiv 2312.04000, who take 1,000 images or more with 50 views each.
  """
  if jnp.ndim(x) != 3 or min(x.shape[:2]) < 2:
    raise UserError(
      "LiDAR takes embeddings [n, q, d] of at least 2 views of at least 2 images, "
      f"not {jnp.shape(x)}"
    )
  n, q, d = x.shape
  x = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
  means = x.mean(1)
  between, within = means - means.mean(0), (x - means[:, None]).reshape(n * q, d)
  scatter = jnp.matmul(within.T, within, precision="highest") / (n * (q - 1))
  scatter = scatter + delta * jnp.eye(d, dtype=x.dtype)
  # With Σ_w = LLᵀ, L⁻¹ Σ_b L⁻ᵀ has the same eigenvalues: the squares of these singular values.
  whitened = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(scatter), between.T, lower=True)
  values = jnp.linalg.svd(whitened, compute_uv=False) ** 2
  return _number_of(jnp.pad(values, (0, d - len(values))))


def embedding_std(x):
  """The mean over dimensions of the unit vectors' standard deviation, times √d.

  x: [n, d]. 1: spread over the sphere; 0: collapsed to a point.
  Chen & He 2021, arXiv 2011.10566, §4.1, who compare the deviation with 1/√d.
  """
  chex.assert_rank(x, 2)
  return unit(x).std(0).mean() * x.shape[1] ** 0.5


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
