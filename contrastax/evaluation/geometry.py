"""The geometry of an embedding space. Each measures a whole set, and is a scalar.

All but `effective_rank` look at directions: vectors are normalised inside.
"""

from __future__ import annotations

import dataclasses

import chex
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
class _SameClass:
  def __call__(self, similarity, a, c, shared):
    pair = (a["label"] == c["label"]) & (a["place"] != c["place"])
    return {"cosine": jnp.where(pair, similarity, 0), "pairs": jnp.where(pair, 1.0, 0.0)}
