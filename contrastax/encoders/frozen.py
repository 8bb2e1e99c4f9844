"""Encoders that are not trained, and heads on each of several vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax.core import Array, Encoder, Params, State


def frozen(encoder: Encoder, params: Params, state: State) -> Encoder:
  """An encoder with these weights, without gradient, as it is in evaluation.

  The weights are the encoder's state, so no optimizer moves them.

  Example, a teacher from an earlier run:
    run = contrastax.load("runs/teacher")
    teacher = encoders.frozen(run.encoder, run.params, run.state)

  Args:
    encoder: the network.
    params, state: its weights, as training left them.
  """

  def init(key, x):
    return (), jax.tree.map(jnp.asarray, {"params": params, "state": state})

  def apply(_, own, x, *, key=None, train):
    y, _ = encoder.apply(own["params"], own["state"], x, key=None, train=False)
    return jax.lax.stop_gradient(y), own

  return encoder._replace(init=init, apply=apply)


def per_token(encoder: Encoder) -> Encoder:
  """A head on each of T vectors of an example: [n, T, d] becomes [n, T, out].

  Example:
    Siamese(encoder=…, projection=encoders.per_token(encoders.projection()), reads="tokens", …)
  """

  def flat(h: Array) -> Array:
    return h.reshape(-1, h.shape[-1])

  def init(key, h):
    return encoder.init(key, flat(h))

  def apply(params, state, h, *, key=None, train):
    z, state = encoder.apply(params, state, flat(h), key=key, train=train)
    return z.reshape(*h.shape[:-1], -1), state

  return encoder._replace(init=init, apply=apply)
