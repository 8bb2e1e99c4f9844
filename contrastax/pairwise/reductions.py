"""Reductions of a channel over the candidates of each anchor."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array
from contrastax.pairwise.reduction import Reduction


@dataclasses.dataclass(frozen=True)
class Sum(Reduction):
  """Σ_j x_ij."""

  identity = 0.0

  @override
  def empty(self, like):
    return jnp.zeros_like(like)

  @override
  def from_tile(self, x, positions, axis):
    return x.sum(axis)

  @override
  def merge(self, a, b):
    return a + b

  @override
  def finish(self, state):
    return state

  @override
  def vjp(self, x, positions, state, g, axis):
    return jnp.broadcast_to(jnp.expand_dims(g, axis), x.shape)


@dataclasses.dataclass(frozen=True)
class Count(Reduction):
  """The number of x_ij that are not 0 (or are True), as int32, without a gradient."""

  identity = 0
  differentiable = False

  @override
  def empty(self, like):
    return jnp.zeros_like(like, dtype=jnp.int32)

  @override
  def from_tile(self, x, positions, axis):
    return (x != 0).sum(axis, dtype=jnp.int32)

  @override
  def merge(self, a, b):
    return a + b

  @override
  def finish(self, state):
    return state


@dataclasses.dataclass(frozen=True)
class LogSumExp(Reduction):
  """log Σ_j exp x_ij. A row without pairs has the result −∞ and a zero gradient."""

  identity = -jnp.inf

  @override
  def empty(self, like):
    return jnp.full_like(like, -jnp.inf), jnp.zeros_like(like)

  @override
  def from_tile(self, x, positions, axis):
    top = jax.lax.stop_gradient(x.max(axis))
    return top, _exp(x, jnp.expand_dims(top, axis)).sum(axis)

  @override
  def merge(self, a, b):
    top = jnp.maximum(a[0], b[0])
    return top, a[1] * _exp(a[0], top) + b[1] * _exp(b[0], top)

  @override
  def finish(self, state):
    top, total = state
    empty = total == 0
    # The inner `where` avoids the logarithm of 0. With the outer `where` alone, the gradient would
    # be 0 · ∞.
    return jnp.where(empty, -jnp.inf, jnp.log(jnp.where(empty, 1, total)) + _finite(top))

  @override
  def vjp(self, x, positions, state, g, axis):
    """Returns softmax_j(x_i) · g_i, which is 0 for a row without pairs."""
    top, total = state
    scale = jnp.where(total == 0, 0, g / jnp.where(total == 0, 1, total))
    return _exp(x, jnp.expand_dims(top, axis)) * jnp.expand_dims(scale, axis)


@dataclasses.dataclass(frozen=True)
class SoftmaxMean(Reduction):
  """The log-sum-exp of x, and the mean of v with the weights of its softmax.

      (log Σ_j exp x_ij,  Σ_j softmax_j(x_i) · v_ij)

  The quantity of a pair is (x, v). A row without pairs has the result (−∞, 0).
  """

  identity = (-jnp.inf, 0.0)

  @override
  def empty(self, like):
    return *log_sum_exp.empty(like), jnp.zeros_like(like)

  @override
  def from_tile(self, x, positions, axis):
    exponent, value = x
    top = jax.lax.stop_gradient(exponent.max(axis))
    mass = _exp(exponent, jnp.expand_dims(top, axis))
    return top, mass.sum(axis), (mass * value).sum(axis)

  @override
  def merge(self, a, b):
    top, total = log_sum_exp.merge(a[:2], b[:2])
    return top, total, a[2] * _exp(a[0], top) + b[2] * _exp(b[0], top)

  @override
  def finish(self, state):
    return log_sum_exp.finish(state[:2]), self._mean(state)

  @override
  def vjp(self, x, positions, state, g, axis):
    exponent, value = x
    from_lse, from_mean = (log_sum_exp.vjp(exponent, positions, state[:2], g_, axis) for g_ in g)
    return from_lse + from_mean * (value - jnp.expand_dims(self._mean(state), axis)), from_mean

  def _mean(self, state):
    _, total, weighted = state
    empty = total == 0
    return jnp.where(empty, 0, weighted / jnp.where(empty, 1, total))


class Extremum(Reduction):
  """The base of `Max` and `Min`.

  The gradient goes to the first candidate with the extreme value. It is found by its position,
  because the value that the backward pass computes may differ by a rounding error.
  """

  sign: ClassVar[int]

  @override
  def empty(self, like):
    return jnp.full_like(like, self.identity), jnp.full_like(like, -1, dtype=jnp.int32)

  @override
  def from_tile(self, x, positions, axis):
    column = jnp.expand_dims((self.sign * x).argmax(axis), axis)
    value = jnp.take_along_axis(x, column, axis).squeeze(axis)
    position = jnp.take_along_axis(jnp.broadcast_to(positions, x.shape), column, axis).squeeze(axis)
    return value, jnp.where(value == self.identity, -1, position)

  @override
  def merge(self, a, b):
    better = (self.sign * b[0] > self.sign * a[0]) | (jnp.isnan(b[0]) & ~jnp.isnan(a[0]))
    equal = (b[0] == a[0]) | (jnp.isnan(b[0]) & jnp.isnan(a[0]))
    earlier = equal & (b[1] < a[1])
    return jax.tree.map(lambda x_a, x_b: jnp.where(better | earlier, x_b, x_a), a, b)

  @override
  def finish(self, state):
    return state[0]

  @override
  def vjp(self, x, positions, state, g, axis):
    return jnp.where(positions == jnp.expand_dims(state[1], axis), jnp.expand_dims(g, axis), 0)


@dataclasses.dataclass(frozen=True)
class Max(Extremum):
  """max_j x_ij. A row without pairs has the result −∞ and a zero gradient."""

  sign = 1
  identity = -jnp.inf


@dataclasses.dataclass(frozen=True)
class Min(Extremum):
  """min_j x_ij. A row without pairs has the result ∞ and a zero gradient."""

  sign = -1
  identity = jnp.inf


@dataclasses.dataclass(frozen=True)
class TopK(Reduction):
  """The k largest x_ij in descending order, and the positions j of their candidates, both [n, k].

  A position is the candidate's number in the sequence of all groups. Among equal values, the lower
  position comes first. A row with fewer pairs ends in (−∞, −1). There is no gradient. For a
  gradient, gather the candidates at these positions into a set per anchor, and reduce this set.

  Args:
    k: the number of candidates, at least 1.
  """

  k: int

  identity = -jnp.inf
  differentiable = False

  @override
  def empty(self, like):
    row = jnp.expand_dims(like, -1).repeat(self.k, -1)
    return jnp.full_like(row, -jnp.inf), jnp.full_like(row, -1, dtype=jnp.int32)

  @override
  def from_tile(self, x, positions, axis):
    x = jax.lax.stop_gradient(x)
    # XLA sorts a NaN with a negative sign below all numbers.
    x = jnp.where(jnp.isnan(x), jnp.nan, x)
    x, positions = (jnp.moveaxis(v, axis, -1) for v in (x, jnp.broadcast_to(positions, x.shape)))
    # Among equal values, `jax.lax.top_k` returns the first one first.
    values, columns = jax.lax.top_k(x, min(self.k, x.shape[-1]))
    best = jnp.where(values == -jnp.inf, -1, jnp.take_along_axis(positions, columns, -1))
    padding = [(0, 0)] * (values.ndim - 1) + [(0, self.k - values.shape[-1])]
    return (
      jnp.pad(values, padding, constant_values=-jnp.inf),
      jnp.pad(best, padding, constant_values=-1),
    )

  @override
  def merge(self, a, b):
    values, positions = (jnp.concatenate(parts, -1) for parts in zip(a, b, strict=True))
    order = jnp.where(jnp.isnan(values), -jnp.inf, -values)
    _, positions, values = jax.lax.sort((order, positions, values), num_keys=2)
    return values[..., : self.k], positions[..., : self.k]

  @override
  def finish(self, state):
    return state


sum_ = Sum()
"""Σ_j x_ij."""
count = Count()
"""The number of x_ij that are not 0 (or are True), as int32, without a gradient."""
log_sum_exp = LogSumExp()
"""log Σ_j exp x_ij. A row without pairs has the result −∞ and a zero gradient."""
softmax_mean = SoftmaxMean()
"""The log-sum-exp of x, and the mean of v with the weights of its softmax."""
max_ = Max()
"""max_j x_ij. A row without pairs has the result −∞ and a zero gradient."""
min_ = Min()
"""min_j x_ij. A row without pairs has the result ∞ and a zero gradient."""
top_k = TopK


def _exp(x: Array, top: Array) -> Array:
  """Returns exp(x − top), and 0 where x is −∞, even where `top` is −∞ too."""
  return jnp.exp(x - _finite(top))


def _finite(x: Array) -> Array:
  return jnp.where(x == -jnp.inf, 0, x)
