"""The similarity of two representations of the same examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from contrastax.core import UserError
from contrastax.evaluation.inputs import known_vectors


def cka(x: ArrayLike, y: ArrayLike, *, unbiased: bool = False) -> float:
  """Returns the linear centered kernel alignment (CKA) of two representations.

      CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)),   K = X Xᵀ, L = Y Yᵀ

  HSIC is the inner product of the centered kernels, ‖X̄ᵀȲ‖²_F. Even for unrelated features, this
  estimate grows with d/n. The unbiased estimate omits the diagonals of the kernels, and its mean
  for unrelated features is 0:

      n(n−3) HSIC₁(K, L) = ‖X̄ᵀȲ‖²_F − n/(n−2) Σ_i a_i b_i + Σ_i a_i Σ_i b_i / ((n−1)(n−2)),
      a_i = ‖x̄_i‖², b_i = ‖ȳ_i‖²

  The computation is in float64 and needs memory for d₁ d₂ numbers, not for n².

  Args:
    x: [n, d₁].
    y: [n, d₂]. Row i belongs to the same example as row i of x.
    unbiased: whether to use the unbiased estimate.

  Returns:
    A number in [0, 1], which is 1 if the representations differ only by a rotation, a shift and a
    scale. The unbiased estimate may be negative. The result is NaN if all vectors of a
    representation are equal.

  Raises:
    UserError: the vectors are invalid, their numbers differ, or there are fewer than 2 examples (4
      if unbiased).

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> x = np.random.default_rng(0).normal(size=(10, 3))
    >>> round(evaluation.cka(x, 2 * x[:, ::-1]), 6)
    1.0

  References:
    Kornblith et al., 2019, arXiv 1905.00414, section 3. The unbiased estimate is that of Song et
    al., 2012 (JMLR 13).

  In other libraries:
    Public implementations agree, except for a constant in the denominator (1e-6 in platonic-rep).
  """
  first, second = (_centered(known_vectors(z, name)) for z, name in ((x, "x"), (y, "y")))
  n = len(first)
  if n != len(second):
    raise UserError(f"CKA needs features of the same examples, not of {n} and {len(second)}")
  least = 4 if unbiased else 2
  if n < least:
    kind = "unbiased CKA" if unbiased else "CKA"
    raise UserError(f"{kind} needs at least {least} examples, not {n}")
  hsic = _unbiased if unbiased else _biased
  with np.errstate(invalid="ignore"):
    return float(hsic(first, second) / np.sqrt(hsic(first, first) * hsic(second, second)))


def _biased(x: np.ndarray, y: np.ndarray) -> Any:
  return ((x.T @ y) ** 2).sum()


def _unbiased(x: np.ndarray, y: np.ndarray) -> Any:
  n, a, b = len(x), (x**2).sum(1), (y**2).sum(1)
  return _biased(x, y) - n / (n - 2) * (a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2))


def _centered(x: np.ndarray) -> np.ndarray:
  """Centers vectors and divides them by their largest entry, so that products do not overflow."""
  x = x.astype(np.float64)
  size = np.abs(x).max(initial=0)
  x = x - x.mean(0)
  largest = np.abs(x).max(initial=0)
  # Below this limit the entries are rounding errors of equal vectors.
  return x / largest if largest > 1e-14 * len(x) * size else 0 * x
