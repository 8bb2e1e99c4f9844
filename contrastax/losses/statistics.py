"""Losses on the statistics of a batch: correlations and covariances of its dimensions.

Sums over examples run over the global batch, also when `jax.jit` divides it among the devices of a
mesh. These losses have no temperature, and their inputs are not normalized to length 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from contrastax.core import Array, UserError, check_integer
from contrastax.losses.arrays import check_vectors, compute_dtype
from contrastax.pairwise import unit
from contrastax.pairwise.inputs import check_numbers
from contrastax.propagate import relu


def barlow_twins(
  z1: ArrayLike, z2: ArrayLike, *, redundancy_weight: ArrayLike = 0.0051, eps: ArrayLike = 1e-5
) -> Array:
  """Barlow Twins: moves the cross-correlation matrix of two views toward the identity.

      L = Σ_k (C_kk − 1)² + λ Σ_{k ≠ l} C_kl²,   C_kl = mean_i ẑ_ik ẑ'_il

  ẑ = (z − mean)/√(variance + eps) has mean 0 and variance 1 in each dimension over the batch.

  Args:
    z1: vectors z of the first view, [n, d].
    z2: vectors z' of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    redundancy_weight: weight λ of the off-diagonal entries.
    eps: number that is added to the variance. The variance is a sum divided by n.

  Returns:
    One number for the batch. A constant dimension has the correlation 0 with all dimensions.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.barlow_twins(z1, z2).shape
    ()

  References:
    Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", 2021, arXiv
    2103.03230, eq. 1.

  In other libraries:
    Some implementations divide the variance by n − 1 and add no eps. solo-learn multiplies the loss
    by 0.025.
  """
  z1, z2 = check_vectors(z1=z1, z2=z2)
  check_numbers(redundancy_weight=redundancy_weight, eps=eps)
  correlation = _product(_standardize(z1, eps).T, _standardize(z2, eps)) / len(z1)
  diagonal = jnp.diagonal(correlation)
  return ((diagonal - 1) ** 2).sum() + redundancy_weight * _off_diagonal_squares(correlation)


def vicreg(
  z1: ArrayLike,
  z2: ArrayLike,
  *,
  invariance_weight: ArrayLike = 25.0,
  variance_weight: ArrayLike = 25.0,
  covariance_weight: ArrayLike = 1.0,
  eps: ArrayLike = 1e-4,
) -> Array:
  """VICReg: makes two views agree, each dimension vary, and different dimensions uncorrelated.

      L = λ mean (z − z')² + μ ½ (V(z) + V(z')) + ν (C(z) + C(z'))
      V(z) = mean_k max(0, 1 − √(Var z_k + eps)),  C(z) = 1/d Σ_{k ≠ l} Cov(z)_kl²

  Args:
    z1: vectors z of the first view, [n, d], n ≥ 2.
    z2: vectors z' of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    invariance_weight: weight λ of the squared difference.
    variance_weight: weight μ of the variance terms V.
    covariance_weight: weight ν of the covariance terms C.
    eps: number that is added to the variance.

  Returns:
    One number for the batch. Variances and covariances are sums divided by n − 1.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.vicreg(z1, z2).shape
    ()

  References:
    Bardes et al., "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
    Learning", 2022, arXiv 2105.04906, eq. 6.

  In other libraries:
    Like the authors' code, this function takes the mean of both V. solo-learn takes their sum, so
    its μ counts twice.
  """
  z1, z2 = check_vectors(z1=z1, z2=z2)
  _check_row_count(z1, 2, "a variance")
  check_numbers(
    invariance_weight=invariance_weight,
    variance_weight=variance_weight,
    covariance_weight=covariance_weight,
    eps=eps,
  )
  z1, z2 = z1.astype(compute_dtype(z1)), z2.astype(compute_dtype(z2))
  invariance = ((z1 - z2) ** 2).mean()
  variance1, covariance1 = _variance_and_covariance_terms(z1, eps)
  variance2, covariance2 = _variance_and_covariance_terms(z2, eps)
  return (
    invariance * invariance_weight
    + (variance1 / 2 + variance2 / 2) * variance_weight
    + (covariance1 + covariance2) * covariance_weight
  )


def w_mse(
  z1: ArrayLike, z2: ArrayLike, *, slices: int = 1, shrinkage: float | Array = 0.0
) -> Array:
  """W-MSE: the squared distance of positives after whitening, which prevents collapse.

      L_i = 2 − 2 cos(w_i, w'_i),  w = (z − mean) L⁻ᵀ,  L Lᵀ = (1 − e) Cov(z) + e·1

  Args:
    z1: vectors z of the first view, [n, d].
    z2: vectors z' of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    slices: number of slices of consecutive rows. Each slice is whitened separately. Shuffle the
      batch to have different slices in each step.
    shrinkage: shrinkage e of the covariance toward the identity, in [0, 1).

  Returns:
    The loss of each example, [n]. Covariances are sums divided by n − 1.

  Raises:
    UserError: a slice has at most d rows and there is no shrinkage, so that its covariance is
      singular; or, outside of `jax.jit`, the rows span fewer than d dimensions. Under `jax.jit` the
      result is then NaN.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 16, 4))
    >>> losses.w_mse(z1, z2, slices=2).shape
    (16,)

  References:
    Ermolov et al., "Whitening for Self-Supervised Representation Learning", 2021, arXiv 2007.06346,
    eqs. 3 to 5.
  """
  z1, z2 = check_vectors(z1=z1, z2=z2)
  check_numbers(shrinkage=shrinkage)
  if not isinstance(shrinkage, Tracer) and not 0 <= shrinkage < 1:
    raise UserError(f"shrinkage must be in [0, 1), not {shrinkage}")
  n, d = z1.shape
  check_integer("slices", slices, 1)
  if n % slices:
    raise UserError(f"{n} rows cannot be divided into {slices} slices; use a divisor of {n}")
  rows = n // slices
  if rows <= d and shrinkage == 0:
    raise UserError(
      f"a slice of {rows} rows cannot be whitened in {d} dimensions; use more than {d} rows, "
      "or a shrinkage above 0"
    )
  _check_row_count(z1, 2 * slices, "a covariance")

  def whiten(z: Array) -> Array:
    z = z.astype(compute_dtype(z)).reshape(slices, rows, d)
    z = z - z.mean(1, keepdims=True)
    covariance = jnp.einsum("snk,snl->skl", z, z, precision="highest") / (rows - 1)
    shrunk = (1 - shrinkage) * covariance + shrinkage * jnp.eye(d, dtype=z.dtype)
    root = jnp.linalg.cholesky(shrunk)
    white = jax.scipy.linalg.solve_triangular(root, jnp.swapaxes(z, 1, 2), lower=True)
    return unit(jnp.swapaxes(white, 1, 2).reshape(n, d))

  values = 2 - 2 * (whiten(z1) * whiten(z2)).sum(1)
  if not isinstance(values, Tracer) and jnp.isnan(values).any():
    raise UserError(
      f"rows that span fewer than their {d} dimensions cannot be whitened; use more different "
      "rows, or a shrinkage above 0"
    )
  return values


def _check_row_count(z: Array, min_rows: int, statistic: str) -> None:
  if len(z) < min_rows:
    raise UserError(f"{statistic} needs at least {min_rows} rows, not {len(z)}")


def _standardize(z: Array, eps: ArrayLike) -> Array:
  z = z.astype(compute_dtype(z))
  centered = z - z.mean(0)
  return centered * jax.lax.rsqrt((centered**2).mean(0) + eps)


def _variance_and_covariance_terms(z: Array, eps: ArrayLike) -> tuple[Array, Array]:
  """Returns V(z) and C(z) of VICReg."""
  centered = z - z.mean(0)
  matrix = _product(centered.T, centered) / (len(z) - 1)
  deviation = jnp.sqrt(jnp.diagonal(matrix) + eps)
  return relu(1 - deviation).mean(), _off_diagonal_squares(matrix) / z.shape[1]


def _off_diagonal_squares(matrix: Array) -> Array:
  return jnp.where(jnp.eye(len(matrix), dtype=bool), 0, matrix**2).sum()


def _product(a: Array, b: Array) -> Array:
  return jnp.matmul(a, b, precision="highest")
