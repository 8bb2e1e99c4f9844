"""Reductions of a channel over candidates, as monoids: what a tile gives, and how two join.

`empty(like)` is the state of rows, shaped like `like`, that have met no pair;
`of(x, places, axis)` the state of one tile, whose candidates lie on `axis` of x and have the
numbers `places`; `merge(a, b)` joins the states of disjoint sets of candidates;
`finish(state)` is the result. Tiles in any split and any order give the same result, so an
evaluation may cut the candidates as it likes. `identity` is the value of a pair that does
not take part.

NaN is the result of every row that has met a NaN, and its gradient: guards against a row of no pairs
compare with what only such a row has (`== 0`, `== -inf`), never with `> 0`, which is false for NaN.

`pull(x, places, state, g, axis)` is the transpose, for an evaluation that forgets x and
computes it again: the cotangent of x, from the final state and the result's cotangent g.
`differentiable` is False for a reduction without a gradient, which has no `pull`.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp


class Reduction:
  """The base of reductions, frozen dataclasses; see the module for their methods."""

  identity: ClassVar[Any]
  differentiable: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class Sum(Reduction):
  """Σ_j x_ij."""

  identity = 0.0

  def empty(self, like):
    return jnp.zeros_like(like)

  def from_tile(self, x, places, axis):
    return x.sum(axis)

  def merge(self, a, b):
    return a + b

  def finish(self, state):
    return state

  def vjp(self, x, places, state, g, axis):
    return jnp.broadcast_to(jnp.expand_dims(g, axis), x.shape)


@dataclasses.dataclass(frozen=True)
class Count(Reduction):
  """How many x_ij are not 0 (or True): int32, without gradient."""

  identity = 0
  differentiable = False

  def empty(self, like):
    return jnp.zeros_like(like, dtype=jnp.int32)

  def from_tile(self, x, places, axis):
    return (x != 0).sum(axis, dtype=jnp.int32)

  def merge(self, a, b):
    return a + b

  def finish(self, state):
    return state


@dataclasses.dataclass(frozen=True)
class LogSumExp(Reduction):
  """log Σ_j exp x_ij; −∞, with zero gradient, for a row of no pairs."""

  identity = -jnp.inf

  def empty(self, like):
    return jnp.full_like(like, -jnp.inf), jnp.zeros_like(like)

  def from_tile(self, x, places, axis):
    top = jax.lax.stop_gradient(x.max(axis))
    return top, _exp(x, jnp.expand_dims(top, axis)).sum(axis)

  def merge(self, a, b):
    top = jnp.maximum(a[0], b[0])
    return top, a[1] * _exp(a[0], top) + b[1] * _exp(b[0], top)

  def finish(self, state):
    top, total = state
    none = total == 0
    # The inner where keeps the gradient of log away from 0: where alone would give 0 · ∞.
    return jnp.where(none, -jnp.inf, jnp.log(jnp.where(none, 1, total)) + _finite(top))

  def vjp(self, x, places, state, g, axis):
    """softmax_j(x_i) · g_i; 0 for a row of no pairs."""
    top, total = state
    scale = jnp.where(total == 0, 0, g / jnp.where(total == 0, 1, total))
    return _exp(x, jnp.expand_dims(top, axis)) * jnp.expand_dims(scale, axis)


@dataclasses.dataclass(frozen=True)
class SoftmaxMean(Reduction):
  """Of pairs (x, v): (log Σ_j exp x_ij, Σ_j softmax_j(x_i)·v_ij); (−∞, 0) for a row of no pairs."""

  identity = (-jnp.inf, 0.0)

  def empty(self, like):
    return *log_sum_exp.empty(like), jnp.zeros_like(like)

  def from_tile(self, x, places, axis):
    exponent, value = x
    top = jax.lax.stop_gradient(exponent.max(axis))
    mass = _exp(exponent, jnp.expand_dims(top, axis))
    return top, mass.sum(axis), (mass * value).sum(axis)

  def merge(self, a, b):
    top, total = log_sum_exp.merge(a[:2], b[:2])
    return top, total, a[2] * _exp(a[0], top) + b[2] * _exp(b[0], top)

  def finish(self, state):
    return log_sum_exp.finish(state[:2]), self._mean(state)

  def vjp(self, x, places, state, g, axis):
    exponent, value = x
    to_lse, to_mean = (log_sum_exp.vjp(exponent, places, state[:2], part, axis) for part in g)
    return to_lse + to_mean * (value - jnp.expand_dims(self._mean(state), axis)), to_mean

  def _mean(self, state):
    _, total, weighted = state
    none = total == 0
    return jnp.where(none, 0, weighted / jnp.where(none, 1, total))


@dataclasses.dataclass(frozen=True)
class Extremum(Reduction):
  """max_j x_ij (sign 1) or min_j x_ij (sign −1); ∓∞, with zero gradient, for a row of no pairs.

  The gradient is that of the first candidate with this value. It is found by its place: a
  comparison with the value computed again could miss it by a rounding.
  """

  sign: int

  @property
  def identity(self):
    return -self.sign * jnp.inf

  def empty(self, like):
    return jnp.full_like(like, self.identity), jnp.full_like(like, -1, dtype=jnp.int32)

  def from_tile(self, x, places, axis):
    at = jnp.expand_dims((self.sign * x).argmax(axis), axis)
    value = jnp.take_along_axis(x, at, axis).squeeze(axis)
    place = jnp.take_along_axis(jnp.broadcast_to(places, x.shape), at, axis).squeeze(axis)
    return value, jnp.where(value == self.identity, -1, place)

  def merge(self, a, b):
    further = (self.sign * b[0] > self.sign * a[0]) | (jnp.isnan(b[0]) & ~jnp.isnan(a[0]))
    equal = (b[0] == a[0]) | (jnp.isnan(b[0]) & jnp.isnan(a[0]))
    earlier = equal & (b[1] < a[1])
    return jax.tree.map(lambda of_a, of_b: jnp.where(further | earlier, of_b, of_a), a, b)

  def finish(self, state):
    return state[0]

  def vjp(self, x, places, state, g, axis):
    return jnp.where(places == jnp.expand_dims(state[1], axis), jnp.expand_dims(g, axis), 0)


@dataclasses.dataclass(frozen=True)
class TopK(Reduction):
  """The k largest x_ij, in falling order, and their places j, both [n, k].

  The place is the candidate's number in the sequence of all groups; of equal values the
  lower place comes first. A row of fewer pairs ends in (−∞, −1). No gradient: gather the
  places into a set per anchor, and reduce that.
  """

  k: int
  identity = -jnp.inf
  differentiable = False

  def empty(self, like):
    row = jnp.expand_dims(like, -1).repeat(self.k, -1)
    return jnp.full_like(row, -jnp.inf), jnp.full_like(row, -1, dtype=jnp.int32)

  def from_tile(self, x, places, axis):
    x = jax.lax.stop_gradient(x)
    x = jnp.where(jnp.isnan(x), jnp.nan, x)  # XLA sorts a NaN with a sign below all numbers
    x, places = (jnp.moveaxis(v, axis, -1) for v in (x, jnp.broadcast_to(places, x.shape)))
    values, at = jax.lax.top_k(x, min(self.k, x.shape[-1]))  # of equal ones the first comes first
    found = jnp.where(values == -jnp.inf, -1, jnp.take_along_axis(places, at, -1))
    rest = [(0, 0)] * (values.ndim - 1) + [(0, self.k - values.shape[-1])]
    return jnp.pad(values, rest, constant_values=-jnp.inf), jnp.pad(found, rest, constant_values=-1)

  def merge(self, a, b):
    values, places = (jnp.concatenate(both, -1) for both in zip(a, b, strict=True))
    order = jnp.where(jnp.isnan(values), -jnp.inf, -values)
    _, places, values = jax.lax.sort((order, places, values), num_keys=2)
    return values[..., : self.k], places[..., : self.k]

  def finish(self, state):
    return state


sum_ = Sum()
count = Count()
log_sum_exp = LogSumExp()
softmax_mean = SoftmaxMean()
max_ = Extremum(1)
min_ = Extremum(-1)
top_k = TopK


def _exp(x, top):
  """exp(x − top), 0 where x is −∞, even where top is too."""
  return jnp.exp(x - _finite(top))


def _finite(x):
  return jnp.where(x == -jnp.inf, 0, x)
