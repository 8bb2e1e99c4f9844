"""The geometry of an embedding space. Each measures a whole set, and is a scalar.

All but `effective_rank` look at directions: vectors are normalised inside.
"""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp

from contrastax.core import Group
from contrastax.pairwise import dot, log_sum_exp, negative_squared_distance, reduce, sum_, unit


def alignment(x, y, *, alpha: float = 2.0):
  """How close positives lie: mean_i ‖x_i − y_i‖^α on the unit sphere; in [0, 2^α], 0 at best.

  x, y: [n, d], row i of both is the same example.
  Wang & Isola 2020, arXiv 2005.10242, eq. 7.
  """
  chex.assert_rank([x, y], 2)
  chex.assert_equal_shape([x, y])
  squared = ((unit(x) - unit(y)) ** 2).sum(-1)
  some = squared > 0  # the root has no gradient at distance 0
  return jnp.where(some, jnp.where(some, squared, 1) ** (alpha / 2), 0).mean()


def uniformity(x, *, t: float = 2.0):
  """How evenly directions fill the sphere: log mean_{i<j} exp(−t ‖x_i − x_j‖²); lower is evener.

  x: [n, d], n ≥ 2. In [−4t, 0]: 0 where all are one point; −2t for the uniform
  distribution as d grows. Wang & Isola 2020, arXiv 2005.10242, eq. 8.
  """
  points = _points(x, {})
  potential = reduce(
    _Potential(t), points, (points,), score=negative_squared_distance(), same_set=True,
    rows={"potential": log_sum_exp},
  )["potential"]  # fmt: skip
  n = x.shape[0]
  return jax.nn.logsumexp(potential) - jnp.log(n * (n - 1.0))


def tolerance(x, label):
  """How close a class stays: the mean cosine over pairs of different examples of one class.

  x: [n, d]; label: [n], int. In [−1, 1]; NaN where no class has two examples. The high
  end tolerates semantically similar samples, and says nothing of other classes.
  Wang & Liu 2021, arXiv 2012.09740, eq. 14, which writes an expectation over all pairs
  but reports values that only the mean over pairs of one class can reach.
  """
  points = _points(x, {"label": label})
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
  sigma = jnp.linalg.svd(x / jnp.where(largest > 0, largest, 1), compute_uv=False)
  total = sigma.sum()
  p = sigma / jnp.where(total > 0, total, 1) + 1e-7
  p = p / p.sum()
  return jnp.exp(-(p * jnp.log(p)).sum())


def embedding_std(x):
  """The mean over dimensions of the unit vectors' standard deviation, times √d.

  x: [n, d]. 1: spread over the sphere; 0: collapsed to a point.
  Chen & He 2021, arXiv 2011.10566, §4.1, who compare the deviation with 1/√d.
  """
  chex.assert_rank(x, 2)
  return unit(x).std(0).mean() * x.shape[1] ** 0.5


@dataclasses.dataclass(frozen=True)
class _Potential:
  t: float

  def __call__(self, similarity, a, c, shared):
    return {"potential": jnp.where(a["place"] == c["place"], -jnp.inf, self.t * similarity)}


@dataclasses.dataclass(frozen=True)
class _SameClass:
  def __call__(self, similarity, a, c, shared):
    pair = (a["label"] == c["label"]) & (a["place"] != c["place"])
    return {"cosine": jnp.where(pair, similarity, 0), "pairs": jnp.where(pair, 1.0, 0.0)}


def _points(x, side):
  chex.assert_rank(x, 2)
  if x.shape[0] < 2:
    raise ValueError("the geometry of a space needs at least two vectors")
  return Group(unit(x), {"place": jnp.arange(x.shape[0]), **side})
