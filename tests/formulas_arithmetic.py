"""What the formulas of the losses are written with."""

from __future__ import annotations

import jax
import jax.numpy as jnp

lse = jax.scipy.special.logsumexp
sg = jax.lax.stop_gradient


def unit(x):
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def cos(a, b):
  return unit(a) @ unit(b).T


def off(n):
  return ~jnp.eye(n, dtype=bool)


def lse_where(mask, x, axis=1):
  return lse(jnp.where(mask, x, -jnp.inf), axis=axis)


def mean_where(mask, x, axis=1):
  return jnp.where(mask, x, 0).sum(axis) / mask.sum(axis)


def or_zero(some, x):
  return jnp.where(some, x, 0)


def distances(z):
  squared = ((z[:, None] - z[None]) ** 2).sum(-1)
  return jnp.sqrt(jnp.where(off(len(z)), squared, 1)) * off(len(z))
