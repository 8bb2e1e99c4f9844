"""Small runs on scikit-learn's digits: SimCLR as a method, and losses on arrays of views."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from contrastax import data, encoders, evaluation, losses, methods, views
from contrastax.core import key_for, named
from studies.common import fit

OUT = 64  # dimensions of z
MEASURES = {"linear_1": "1 label per class", "knn": "kNN"}


def simclr(*, hidden: int = 128, out: int = OUT, **parts) -> methods.SimCLR:
  """SimCLR with a perceptron of 256 and 128, and the views of configs/digits_simclr.py."""
  return methods.SimCLR(
    encoder=encoders.mlp((256, 128)), projection=encoders.projection((hidden,), out),
    views=views.affine_jitter(shift=0.1, scale=0.15, rotation=10.0), **parts,
  )  # fmt: skip


def train(method, digits, seed: int):
  """Takes 800 steps of AdamW with 128 examples; returns (state, metrics, what was measured)."""
  source = data.Resident(digits.train, batch_size=128, seed=seed)
  optimizer = optax.adamw(3e-3, weight_decay=1e-4)
  state, metrics = fit.fit(method, optimizer, source, steps=800, seed=seed)
  h = [fit.embed(method, state, split["image"]) for split in (digits.train, digits.test)]
  split = fit.sets(digits, h)
  return state, metrics, {
    "linear_1": fit.one_label(split), "knn": float(evaluation.knn(*split)), "rank": fit.rank(h[1]),
    "finite": bool(np.isfinite(metrics["loss"])),
  }  # fmt: skip


# Losses on arrays: Adam, the encoder and the projection are fixed.

ENCODER, PROJECTION = encoders.mlp((256, 128)), encoders.projection((128,), out=OUT)
VIEW, OPTIMIZER = views.affine_jitter(), optax.adam(2e-3)


def init(images, seed: int):
  """Returns (params, state) of the encoder and of the projection."""
  encoder = ENCODER.init(key_for(seed, "encoder"), views.to_float(images[:1]))
  width = jax.eval_shape(lambda: _apply(ENCODER, *encoder, images[:1], train=False)[0]).shape[1]
  projection = PROJECTION.init(key_for(seed, "projection"), jnp.zeros((1, width)))
  return tuple(zip(encoder, projection, strict=True))


def _apply(network, params, state, x, train):
  return network.apply(params, state, views.to_float(x), key=None, train=train)


@functools.cache
def _step(loss, count: int):
  def objective(params, state, batch, tau, key):
    seen = [VIEW(named(key, f"view {v}"), batch["image"], batch["index"]) for v in range(count)]
    h, encoder = _apply(ENCODER, params[0], state[0], jnp.concatenate(seen), train=True)
    z, projection = _apply(PROJECTION, params[1], state[1], h, train=True)
    return loss(z.reshape(count, -1, OUT), temperature=tau).mean(), (encoder, projection)

  @jax.jit
  def step(params, state, opt_state, batch, tau, seed, t):
    key = key_for(seed, "views", t)
    grads, state = jax.grad(objective, has_aux=True)(params, state, batch, tau, key)
    updates, opt_state = OPTIMIZER.update(grads, opt_state)
    return optax.apply_updates(params, updates), state, opt_state

  return step


def train_views(loss, tau: float, images, *, count: int, examples: int, steps: int, seed: int):
  """Trains by `loss(z [count, n, d], temperature=τ)`; all views pass the encoder together."""
  source = data.Resident({"image": images}, batch_size=examples, seed=seed)
  params, state = init(images, seed)
  opt_state, step = OPTIMIZER.init(params), _step(loss, count)
  for t in range(steps):
    params, state, opt_state = step(params, state, opt_state, source.batch(t), tau, seed, t)
  return params, state


def features(networks, digits):
  """Returns the sets for probes of h, and the test images' z, both in evaluation mode."""
  params, state = networks
  h = [evaluation.embed(ENCODER, params[0], state[0], split["image"])
       for split in (digits.train, digits.test)]  # fmt: skip
  return fit.sets(digits, h), evaluation.embed(PROJECTION, params[1], state[1], h[1])


@functools.cache
def nt_xent(alpha: float | None):
  """NT-Xent of two views, or, with alpha, the loss that keeps this share of hardest negatives."""
  if alpha is None:
    return lambda z, temperature: losses.nt_xent(*z, temperature=temperature)
  return lambda z, temperature: losses.hard_quantile(*z, temperature=temperature, alpha=alpha)
