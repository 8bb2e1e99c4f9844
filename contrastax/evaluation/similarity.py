"""How alike two representations of the same examples are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from contrastax.core import UserError
from contrastax.evaluation.inputs import known_vectors


def cka(x: ArrayLike, y: ArrayLike, *, unbiased: bool = False) -> float:
  """Linear centered kernel alignment of two runs' features of the same examples.

    CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)),  K = XXᵀ, L = YYᵀ

  HSIC is the product of the centered kernels, in features ‖X̄ᵀȲ‖²_F. The usual estimate grows
  with d/n for unrelated features too. The unbiased one leaves out the kernels' diagonals, and its
  mean for unrelated features is 0:

    n(n−3) HSIC₁(K, L) = ‖X̄ᵀȲ‖²_F − n/(n−2) Σ_i a_i b_i + Σ_i a_i Σ_i b_i / ((n−1)(n−2)),
    a_i = ‖x̄_i‖², b_i = ‖ȳ_i‖²

  Args:
    x: [n, d₁].
    y: [n, d₂]; row i of both is example i.
    unbiased: whether to take the unbiased estimator.

  Returns:
    A number in [0, 1]: 1 where the spaces differ by a rotation, a shift and a scale. The unbiased
    one may be negative. NaN where a space is one point.

  Raises:
    UserError for different numbers of examples, for fewer than 2 (unbiased: 4), and for vectors
    that `evaluation.inputs` refuses.

  Computed in float64, in memory d₁d₂: no kernel [n, n] is formed.
  Kornblith et al. 2019, arXiv 1905.00414, §3; the estimator is that of Song et al. 2012 (JMLR
  13). Public codes agree, but for a constant in the denominator (1e-6 in platonic-rep).

  Of two runs: `a, b = load("runs/a"), load("runs/b"); cka(a(images), b(images))`.
  """
  ours, theirs = (_centered(known_vectors(z, name)) for z, name in ((x, "x"), (y, "y")))
  n = len(ours)
  if n != len(theirs):
    raise UserError(f"CKA compares features of the same examples, not of {n} and {len(theirs)}")
  least = 4 if unbiased else 2
  if n < least:
    kind = "unbiased CKA" if unbiased else "CKA"
    raise UserError(f"{kind} needs at least {least} examples, not {n}")
  hsic = _unbiased if unbiased else _biased
  with np.errstate(invalid="ignore"):
    return float(hsic(ours, theirs) / np.sqrt(hsic(ours, ours) * hsic(theirs, theirs)))


def _biased(x, y):
  return ((x.T @ y) ** 2).sum()


def _unbiased(x, y):
  n, a, b = len(x), (x**2).sum(1), (y**2).sum(1)
  return _biased(x, y) - n / (n - 2) * (a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2))


def _centered(x):
  x = x.astype(np.float64)
  size = np.abs(x).max(initial=0)
  x = x - x.mean(0)
  largest = np.abs(x).max(initial=0)  # divided out: of products of four nothing overflows
  return x / largest if largest > 1e-14 * len(x) * size else 0 * x  # else it is rounding alone
