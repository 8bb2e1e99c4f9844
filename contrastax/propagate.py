"""Maximum, minimum and relu that keep NaN.

XLA on a CPU drops NaN from a maximum or minimum that it fuses with a reduction: a compiled mean of
`jax.nn.relu` of NaN is 0, and a compiled `x.max()` of NaN is −∞. Comparisons keep it.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array


def maximum(a: ArrayLike, b: ArrayLike) -> Array:
  """The larger of both, NaN where either is."""
  return jnp.where((a > b) | (a != a), a, b)


def minimum(a: ArrayLike, b: ArrayLike) -> Array:
  """The smaller of both, NaN where either is."""
  return jnp.where((a < b) | (a != a), a, b)


def clip(x: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
  """x, at least `low` and at most `high`; NaN where x is."""
  return minimum(maximum(x, low), high)


def relu(x: ArrayLike) -> Array:
  """max(x, 0), NaN where x is; without a gradient at 0."""
  return jnp.where(x <= 0, 0, x)
