"""Losses on the positions of vectors: how close positives are and how far all vectors are spread.

None of these losses has a temperature.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array, Group
from contrastax.losses.arrays import check_vectors, compute_dtype, row_index
from contrastax.pairwise import Plan, cosine, dot, log_sum_exp, reduce, reductions, sum_, unit
from contrastax.pairwise.inputs import check_positive


def alignment(x: ArrayLike, y: ArrayLike, *, alpha: ArrayLike = 2.0) -> Array:
  """Alignment: a power of the distance between the unit vectors of positives.

      L_i = ‖x_i − y_i‖^α

  Args:
    x: vectors of one view, [n, d]. The loss normalizes them.
    y: vectors of another view, [n, d]. Row i of x and y belongs to the same example.
    alpha: exponent α > 0.

  Returns:
    The loss of each example, [n], between 0 and 2^α. No gradient flows through a distance of 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> x, y = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.alignment(x, y).shape
    (8,)

  References:
    Wang & Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", 2020, arXiv 2005.10242, eq. 7.

  In other libraries:
    The authors' code expects normalized vectors.
  """
  x, y = check_vectors(x=x, y=y)
  check_positive("alpha", alpha)
  squared = ((unit(x) - unit(y)) ** 2).sum(-1)
  equal = squared == 0  # the derivative of the root is infinite at 0
  return jnp.where(equal, 0, jnp.where(equal, 1, squared) ** (alpha / 2))


def uniformity(x: ArrayLike, *, t: ArrayLike = 2.0, plan: Plan = Plan()) -> Array:
  """Uniformity: the logarithm of the mean Gaussian potential of all pairs of unit vectors.

      L = log mean_{i < j} exp(−t ‖x_i − x_j‖²)

  Args:
    x: vectors [n, d], n ≥ 2. The loss normalizes them.
    t: inverse width t > 0 of the Gaussian.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    One number for the whole set, between −4t and 0. It is 0 where all vectors are equal. For the
    uniform distribution it tends to −2t as d grows.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> x = jax.random.normal(jax.random.key(0), (8, 4))
    >>> losses.uniformity(x).shape
    ()

  References:
    Wang & Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", 2020, arXiv 2005.10242, eq. 8.

  In other libraries:
    The default of lightly is t = 1.
  """
  points = _group(x)
  x = points.vectors
  check_positive("t", t)
  potential = reduce(
    _Potential(),
    points,
    (points,),
    score=cosine(),
    reductions={"potential": log_sum_exp},
    shared=jnp.asarray(t, compute_dtype(x)),
    same_set=True,
    plan=plan,
  )["potential"]
  n = x.shape[0]
  return jax.nn.logsumexp(potential) - jnp.log(n * (n - 1.0))


def koleo(z: ArrayLike, *, plan: Plan = Plan()) -> Array:
  """KoLeo regularizer: increases the distance of each unit vector to its nearest neighbor.

      L_i = −log ‖z_i − z_nn(i)‖

  nn(i) is the nearest other vector. The gradient moves both vectors.

  Args:
    z: vectors [n, d], n ≥ 2. The loss normalizes them.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [n], at least −log 2. A vector that equals another one has the loss
    −log 1e-8 and no gradient, because the direction of the gradient is not defined there. Near such
    a point the gradient grows as 1/distance.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z = jax.random.normal(jax.random.key(0), (8, 4))
    >>> losses.koleo(z).shape
    (8,)

  References:
    Sablayrolles et al., "Spreading Vectors for Similarity Search", 2019, arXiv 1806.03198, eq. 3.

  In other libraries:
    DINOv2 adds 1e-8 to each entry and to the distance. The authors' code adds log n inside the
    logarithm.
  """
  points = _group(z)
  z = points.vectors
  _, place = reduce(
    _Nearest(),
    points,
    (points,),
    score=cosine(),
    reductions={"nearest": reductions.top_k(1)},
    same_set=True,
    plan=plan,
  )["nearest"]
  u = unit(z)
  squared = ((u - u[place[:, 0]]) ** 2).sum(-1)
  equal = squared <= 1e-16
  return -jnp.log(jnp.where(equal, 1e-16, squared)) / 2


def spectral(
  z1: ArrayLike, z2: ArrayLike, *, max_length: float | None = None, plan: Plan = Plan()
) -> Array:
  """Spectral contrastive loss: factorizes the adjacency matrix of the augmentation graph.

      L_i = −2 z_i·z'_i + 1/(n−1) Σ_{j ≠ i} (z_i·z'_j)²

  Args:
    z1: vectors z of the first view, [n, d]. The loss does not normalize them.
    z2: vectors z' of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    max_length: length to which longer vectors are shortened first; None for no limit.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each example, [n]. With n = 1 there are no negatives and only the first term
    remains.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.spectral(z1, z2, max_length=1.0).shape
    (8,)

  References:
    HaoChen et al., "Provable Guarantees for Self-Supervised Deep Learning with Spectral Contrastive
    Loss", 2021, arXiv 2106.04156, eq. 6.

  In other libraries:
    The authors' code limits the length to √μ and divides the loss by μ.
  """
  z1, z2 = check_vectors(z1=z1, z2=z2)
  if max_length is not None:
    check_positive("max_length", max_length)
    z1, z2 = _shorten(z1, max_length), _shorten(z2, max_length)
  side = {"place": row_index(z1)}
  reduced = reduce(
    _Squares(),
    Group(z1, side),
    (Group(z2, side),),
    score=dot(),
    reductions={"squares": sum_},
    plan=plan,
  )
  dtype = compute_dtype(z1)
  attraction = (z1.astype(dtype) * z2.astype(dtype)).sum(1)
  return reduced["squares"] / max(1, len(z1) - 1) - 2 * attraction


def _shorten(z: Array, length: float) -> Array:
  squared = (z.astype(compute_dtype(z)) ** 2).sum(1, keepdims=True)
  longer = squared > length**2
  return z * jnp.where(longer, length * jax.lax.rsqrt(jnp.where(longer, squared, 1)), 1)


@dataclasses.dataclass(frozen=True)
class _Potential:
  def __call__(self, similarity, a, c, t):
    potential = t * (2 * similarity - 2)  # ‖x − y‖² = 2 − 2 cos for unit vectors
    return {"potential": jnp.where(a["place"] == c["place"], -jnp.inf, potential)}


@dataclasses.dataclass(frozen=True)
class _Nearest:
  def __call__(self, similarity, a, c, shared):
    return {"nearest": jnp.where(a["place"] == c["place"], -jnp.inf, similarity)}


@dataclasses.dataclass(frozen=True)
class _Squares:
  def __call__(self, similarity, a, c, shared):
    return {"squares": jnp.where(a["place"] == c["place"], 0, similarity**2)}


def _group(x: ArrayLike) -> Group:
  """Returns the group of at least two vectors."""
  (x,) = check_vectors(2, x=x)
  return Group(x, {"place": row_index(x)})
