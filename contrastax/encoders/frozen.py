"""Encoders that are not trained, and projections of each token."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax.core import Array, Encoder, Params, State


def frozen(encoder: Encoder, params: Params, state: State) -> Encoder:
  """Returns an encoder with fixed weights, in evaluation mode and without gradient.

  The weights are part of the state, so no optimizer changes them.

  Args:
    encoder: the network.
    params: its parameters after training.
    state: its state after training.

  Returns:
    The encoder.

  Example:
    A teacher from an earlier run is `encoders.frozen(run.encoder, run.params, run.state)`, where `run`
    is `contrastax.load("runs/teacher")`.

    >>> import jax, jax.numpy as jnp
    >>> from contrastax import encoders
    >>> encoder, x = encoders.mlp((8,)), jnp.ones((2, 5))
    >>> teacher = encoders.frozen(encoder, *encoder.init(jax.random.key(0), x))
    >>> params, state = teacher.init(jax.random.key(1), x)
    >>> params
    ()
  """

  def init(key, x):
    return (), jax.tree.map(jnp.asarray, {"params": params, "state": state})

  def apply(_, weights, x, *, key=None, train):
    y, _ = encoder.apply(weights["params"], weights["state"], x, key=None, train=False)
    return jax.lax.stop_gradient(y), weights

  return encoder._replace(init=init, apply=apply)


def per_token(encoder: Encoder) -> Encoder:
  """Applies a projection to each of the T vectors of an example.

  Args:
    encoder: a projection of vectors [n, d].

  Returns:
    A projection of arrays [n, T, d] to [n, T, out].

  Example:
    >>> from contrastax import encoders
    >>> projection = encoders.per_token(encoders.projection((32,), 16))
  """

  def flat(h: Array) -> Array:
    return h.reshape(-1, h.shape[-1])

  def init(key, h):
    return encoder.init(key, flat(h))

  def apply(params, state, h, *, key=None, train):
    z, state = encoder.apply(params, state, flat(h), key=key, train=train)
    return z.reshape(*h.shape[:-1], -1), state

  return encoder._replace(init=init, apply=apply)
