"""Reductions of a channel over candidates, as states that can be fed piece by piece.

`init(like)` starts a state for rows shaped like `like`; `add(state, x, axis)` takes in
more candidates, which lie on `axis` of x; `finish(state)` is the result. `identity` is
the value of a pair that does not take part. Feeding pieces in any split gives the
result of the whole, so an evaluation may cut the candidates as it likes.
"""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Sum:
  """Σ_j x_ij."""

  identity = 0.0

  def init(self, like):
    return jnp.zeros_like(like)

  def add(self, state, x, axis):
    return state + x.sum(axis)

  def finish(self, state):
    return state


@dataclasses.dataclass(frozen=True)
class LogSumExp:
  """log Σ_j exp x_ij; −∞, with zero gradient, for a row of no pairs."""

  identity = -jnp.inf

  def init(self, like):
    return jnp.full_like(like, -jnp.inf), jnp.zeros_like(like)

  def add(self, state, x, axis):
    top, total = state
    new = jnp.maximum(top, jax.lax.stop_gradient(x.max(axis, initial=-jnp.inf)))
    return new, total * _exp(top, new) + _exp(x, jnp.expand_dims(new, axis)).sum(axis)

  def finish(self, state):
    top, total = state
    some = total > 0
    # The inner where keeps the gradient of log away from 0: where alone would give 0 · ∞.
    return jnp.where(some, jnp.log(jnp.where(some, total, 1)) + _finite(top), -jnp.inf)


@dataclasses.dataclass(frozen=True)
class SoftmaxMean:
  """Of pairs (x, v): (log Σ_j exp x_ij, Σ_j softmax_j(x_i)·v_ij); (−∞, 0) for a row of no pairs."""

  identity = (-jnp.inf, 0.0)

  def init(self, like):
    return *LogSumExp().init(like), jnp.zeros_like(like)

  def add(self, state, x, axis):
    exponent, value = x
    top, total, weighted = state
    new, total = LogSumExp().add((top, total), exponent, axis)
    mass = _exp(exponent, jnp.expand_dims(new, axis))
    return new, total, weighted * _exp(top, new) + (mass * value).sum(axis)

  def finish(self, state):
    top, total, weighted = state
    some = total > 0
    mean = jnp.where(some, weighted / jnp.where(some, total, 1), 0)
    return LogSumExp().finish((top, total)), mean


log_sum_exp = LogSumExp()
softmax_mean = SoftmaxMean()
sum_ = Sum()


def _exp(x, top):
  """exp(x − top), 0 where x is −∞, even where top is too, and with a finite gradient."""
  taken = x > -jnp.inf
  return jnp.where(taken, jnp.exp(jnp.where(taken, x - _finite(top), 0)), 0)


def _finite(x):
  return jnp.where(x > -jnp.inf, x, 0)
