"""Losses on where vectors lie: near their positives, and spread out.

None has a temperature. `plan` says how all pairs are evaluated (`contrastax.pairwise.Plan`).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Group
from contrastax.losses.arrays import of_index, precision, vectors
from contrastax.pairwise import (
  Plan,
  cosine,
  dot,
  log_sum_exp,
  reduce,
  reductions,
  sum_,
  unit,
)  # fmt: skip
from contrastax.pairwise.inputs import check_positive


def alignment(x, y, *, alpha=2.0):
  """How close positives lie: L_i = ‖x_i − y_i‖^α of the unit vectors, in [0, 2^α].

  Args:
    x, y: [n, d], row i of both is the same example.
    alpha: α > 0.

  Returns:
    [n], 0 at best. No gradient flows through a distance of 0.

  Wang & Isola 2020, arXiv 2005.10242, eq. 7; the authors' code leaves normalizing to the caller.
  """
  x, y = vectors(x=x, y=y)
  check_positive("alpha", alpha)
  squared = ((unit(x) - unit(y)) ** 2).sum(-1)
  none = squared == 0  # the root has no gradient at distance 0
  return jnp.where(none, 0, jnp.where(none, 1, squared) ** (alpha / 2))


def uniformity(x, *, t=2.0, plan=Plan()):
  """How evenly directions fill the sphere: log mean_{i < j} exp(−t ‖x_i − x_j‖²) of unit vectors.

  Args:
    x: [n, d], n ≥ 2.
    t: > 0.

  Returns:
    A scalar, of the whole set, in [−4t, 0]: 0 where all are one point; −2t for the uniform
    distribution as d grows.

  Wang & Isola 2020, arXiv 2005.10242, eq. 8. lightly's default is t = 1.
  """
  points = _points(x)
  x = points.vectors
  check_positive("t", t)
  # ‖x − y‖² = 2 − 2 cos
  potential = reduce(
    _Potential(), points, (points,), score=cosine(), same_set=True, plan=plan,
    shared=jnp.asarray(t, precision(x)), reductions={"potential": log_sum_exp},
  )["potential"]  # fmt: skip
  n = x.shape[0]
  return jax.nn.logsumexp(potential) - jnp.log(n * (n - 1.0))


def koleo(z, *, plan=Plan()):
  """KoLeo: no vector is to have a near neighbor, L_i = −log ‖ẑ_i − ẑ_nn(i)‖.

  nn(i) is the nearest other vector; the gradient moves both.

  Args:
    z: [n, d], n ≥ 2; normalized here.

  Returns:
    [n], at least −log 2. Of a vector that another equals, −log 1e-8 without a gradient: in
    which direction to part is not defined. Near that, its gradient grows as 1/distance.

  Sablayrolles et al. 2019, arXiv 1806.03198, eq. 3, as in DINOv2, which adds 1e-8 to every
  entry and to the distance. The authors' code has log n more inside.
  """
  points = _points(z)
  z = points.vectors
  _, place = reduce(
    _Nearest(), points, (points,), score=cosine(), same_set=True, plan=plan,
    reductions={"nearest": reductions.top_k(1)},
  )["nearest"]  # fmt: skip
  u = unit(z)
  squared = ((u - u[place[:, 0]]) ** 2).sum(-1)
  same = squared <= 1e-16
  return -jnp.log(jnp.where(same, 1e-16, squared)) / 2


def spectral(z1, z2, *, max_length: float | None = None, plan=Plan()):
  """Spectral contrastive loss: a factorization of the augmentation graph's adjacency.

    L_i = −2 z_i·z'_i + 1/(n−1) Σ_{j ≠ i} (z_i·z'_j)²

  Args:
    z1, z2: z, z', [n, d], the two views, not normalized; row i of both is the same example.
    max_length: vectors that are longer are shortened to it first; None: as they are. The
      authors' code has √μ, and divides the loss by μ.

  Returns:
    [n]. With n = 1 there is no negative: the first term.

  HaoChen et al. 2021, arXiv 2106.04156, eq. 6.
  """
  z1, z2 = vectors(z1=z1, z2=z2)
  if max_length is not None:
    check_positive("max_length", max_length)
    z1, z2 = (_shortened(z, max_length) for z in (z1, z2))
  side = {"place": of_index(z1)}
  r = reduce(
    _Squares(),
    Group(z1, side),
    (Group(z2, side),),
    score=dot(),
    reductions={"squares": sum_},
    plan=plan,
  )
  wide = precision(z1)
  attraction = (z1.astype(wide) * z2.astype(wide)).sum(1)
  return r["squares"] / max(1, len(z1) - 1) - 2 * attraction


def _shortened(z, length):
  squared = (z.astype(precision(z)) ** 2).sum(1, keepdims=True)
  longer = squared > length**2
  return z * jnp.where(longer, length * jax.lax.rsqrt(jnp.where(longer, squared, 1)), 1)


@dataclasses.dataclass(frozen=True)
class _Potential:
  def __call__(self, similarity, a, c, t):
    potential = t * (2 * similarity - 2)
    return {"potential": jnp.where(a["place"] == c["place"], -jnp.inf, potential)}


@dataclasses.dataclass(frozen=True)
class _Nearest:
  def __call__(self, similarity, a, c, shared):
    return {"nearest": jnp.where(a["place"] == c["place"], -jnp.inf, similarity)}


@dataclasses.dataclass(frozen=True)
class _Squares:
  def __call__(self, similarity, a, c, shared):
    return {"squares": jnp.where(a["place"] == c["place"], 0, similarity**2)}


def _points(x):
  """A set of at least two vectors."""
  (x,) = vectors(x=x, least=2)
  return Group(x, {"place": of_index(x)})
