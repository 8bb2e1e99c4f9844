"""Maximum, minimum and ReLU that propagate NaN.

XLA on a CPU drops NaN from a maximum or minimum that it fuses with a reduction: a compiled mean of
`jax.nn.relu` of NaN is 0, and a compiled `x.max()` of NaN is −∞. Comparisons propagate NaN.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array


def maximum(a: ArrayLike, b: ArrayLike) -> Array:
  """Returns the elementwise maximum, which is NaN where a or b is NaN."""
  return jnp.where(jnp.greater(a, b) | jnp.not_equal(a, a), a, b)


def minimum(a: ArrayLike, b: ArrayLike) -> Array:
  """Returns the elementwise minimum, which is NaN where a or b is NaN."""
  return jnp.where(jnp.less(a, b) | jnp.not_equal(a, a), a, b)


def clip(x: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
  """Returns x clipped to the interval from `low` to `high`, which is NaN where x is NaN."""
  return minimum(maximum(x, low), high)


def relu(x: ArrayLike) -> Array:
  """Returns max(x, 0), which is NaN where x is NaN. The gradient at 0 is 0."""
  return jnp.where(jnp.less_equal(x, 0), 0, x)
