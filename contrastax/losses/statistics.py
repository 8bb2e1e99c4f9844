"""Losses on the statistics of a batch: what its dimensions have in common, over all devices.

Sums over examples are of the whole batch: under `jit` on a mesh they are global by
construction. No loss here normalizes vectors to length 1 at its entrance, or has a temperature.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax.core import UserError, check_integer
from contrastax.losses.arrays import precision, vectors
from contrastax.pairwise import unit
from contrastax.pairwise.inputs import check_numbers
from contrastax.propagate import relu


def barlow_twins(z1, z2, *, redundancy_weight=0.0051, eps=1e-5):
  """Barlow Twins: the cross-correlation of two views is to be the identity.

    L = Σ_k (C_kk − 1)² + λ Σ_{k ≠ l} C_kl²,   C_kl = mean_i ẑ_ik ẑ'_il

  ẑ: each dimension with mean 0 and variance 1 over the batch, (z − mean)/√(variance + eps).

  Args:
    z1, z2: z, z', [n, d]; row i of both is the same example.
    redundancy_weight: λ.
    eps: added to the variance, which is divided by n.

  Returns:
    A scalar, of the whole batch. A dimension that is constant correlates with nothing.

  Zbontar et al. 2021, arXiv 2103.03230, eq. 1. Some code divides the variance by n − 1, without
  eps; solo-learn multiplies the loss by 0.025.
  """
  z1, z2 = vectors(z1=z1, z2=z2)
  check_numbers(redundancy_weight=redundancy_weight, eps=eps)
  one, two = (_standardized(z, eps) for z in (z1, z2))
  correlation = _product(one.T, two) / len(one)
  on_diagonal = jnp.diagonal(correlation)
  return ((on_diagonal - 1) ** 2).sum() + redundancy_weight * _off_diagonal(correlation)


def vicreg(
  z1, z2, *, invariance_weight=25.0, variance_weight=25.0, covariance_weight=1.0, eps=1e-4
):
  """VICReg: views agree, every dimension varies, and no two vary together.

    L = λ mean (z − z')² + μ ½ (V(z) + V(z')) + ν (C(z) + C(z'))
    V(z) = mean_k max(0, 1 − √(Var z_k + eps)),  C(z) = 1/d Σ_{k ≠ l} Cov(z)_kl²

  Args:
    z1, z2: z, z', [n, d], n ≥ 2; row i of both is the same example.
    invariance_weight, variance_weight, covariance_weight: λ, μ, ν.
    eps: added to the variance.

  Returns:
    A scalar, of the whole batch. Variances and covariances are divided by n − 1.

  Bardes et al. 2022, arXiv 2105.04906, eq. 6, and the authors' code, which takes the mean of both
  V; solo-learn takes their sum, so that its μ is twice as much.
  """
  z1, z2 = vectors(z1=z1, z2=z2)
  check_rows(z1, 2, "a variance")
  check_numbers(
    invariance_weight=invariance_weight,
    variance_weight=variance_weight,
    covariance_weight=covariance_weight,
    eps=eps,
  )
  wide = [z.astype(precision(z)) for z in (z1, z2)]
  invariance = ((wide[0] - wide[1]) ** 2).mean()
  variance = covariance = 0.0
  for z in wide:
    centered = z - z.mean(0)
    of_both = _product(centered.T, centered) / (len(z) - 1)
    deviation = jnp.sqrt(jnp.diagonal(of_both) + eps)
    variance += relu(1 - deviation).mean() / 2
    covariance += _off_diagonal(of_both) / z.shape[1]
  return (
    invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance
  )


def w_mse(z1, z2, *, slices=1, shrinkage=0.0):
  """W-MSE: views agree after whitening, which leaves no room to collapse.

    L_i = 2 − 2 cos(w_i, w'_i),  w = (z − mean) L⁻ᵀ,  L Lᵀ = (1 − e) Cov(z) + e·1

  Args:
    z1, z2: z, z', [n, d]; row i of both is the same example.
    slices: the batch is cut into so many runs of rows, each whitened by itself; shuffle the
      batch to have others at every step.
    shrinkage: e in [0, 1), towards the identity.

  Returns:
    [n].

  Raises:
    UserError: a slice of at most d rows, without shrinkage, whose covariance has no root; and,
      outside of `jit`, rows that span fewer than d dimensions. Under `jit` these give NaN.

  Ermolov et al. 2021, arXiv 2007.06346, eqs. 3 to 5. Covariances are divided by n − 1.
  """
  z1, z2 = vectors(z1=z1, z2=z2)
  check_numbers(shrinkage=shrinkage)
  if not isinstance(shrinkage, jax.core.Tracer) and not 0 <= shrinkage < 1:
    raise UserError(f"shrinkage is in [0, 1), not {shrinkage}")
  n, d = z1.shape
  check_integer("slices", slices, 1)
  if n % slices:
    raise UserError(f"{n} rows are not divided into {slices} slices; take a divisor of {n}")
  rows = n // slices
  if rows <= d and not shrinkage:
    raise UserError(
      f"a slice of {rows} rows cannot be whitened in {d} dimensions: take more than {d}, "
      f"or a shrinkage above 0"
    )
  check_rows(z1, 2 * slices, "a covariance")

  def whitened(z):
    z = z.astype(precision(z)).reshape(slices, rows, d)
    z = z - z.mean(1, keepdims=True)
    covariance = jnp.einsum("snk,snl->skl", z, z, precision="highest") / (rows - 1)
    shrunk = (1 - shrinkage) * covariance + shrinkage * jnp.eye(d, dtype=z.dtype)
    root = jnp.linalg.cholesky(shrunk)
    white = jax.scipy.linalg.solve_triangular(root, jnp.swapaxes(z, 1, 2), lower=True)
    return unit(jnp.swapaxes(white, 1, 2).reshape(n, d))

  values = 2 - 2 * (whitened(z1) * whitened(z2)).sum(1)
  if not isinstance(values, jax.core.Tracer) and jnp.isnan(values).any():
    raise UserError(
      f"rows that span fewer than their {d} dimensions cannot be whitened: take more different "
      f"ones, or a shrinkage above 0"
    )
  return values


def check_rows(z, least, what):
  if len(z) < least:
    raise UserError(f"{what} needs at least {least} rows, not {len(z)}")


def _standardized(z, eps):
  z = z.astype(precision(z))
  centered = z - z.mean(0)
  return centered * jax.lax.rsqrt((centered**2).mean(0) + eps)


def _off_diagonal(square):
  return jnp.where(jnp.eye(len(square), dtype=bool), 0, square**2).sum()


def _product(a, b):
  return jnp.matmul(a, b, precision="highest")
