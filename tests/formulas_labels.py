"""The formulas of losses of labeled vectors and of proxies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from formulas_arithmetic import cos, distances, lse_where, mean_where, off, or_zero, sg, unit


def same_label(x):
  label = x["labels"]
  return label[:, None] == label


def sup_con(x, tau):
  s, n = cos(x["z"], x["z"]) / tau, len(x["z"])
  positive = same_label(x) & off(n)
  some = positive.any(1)
  return or_zero(some, lse_where(off(n), s) - mean_where(positive, s))


def sup_con_in(x, tau):
  s, n = cos(x["z"], x["z"]) / tau, len(x["z"])
  positive = same_label(x) & off(n)
  return or_zero(
    positive.any(1),
    lse_where(off(n), s) - lse_where(positive, s) + jnp.log(positive.sum(1)),
  )


def soft_nearest_neighbor(x, tau):
  d, n = -(distances(x["z"]) ** 2) / tau, len(x["z"])
  positive = same_label(x) & off(n)
  return or_zero(positive.any(1), lse_where(off(n), d) - lse_where(positive, d))


def pairs(x):
  same, n = same_label(x), len(x["z"])
  positive, negative = same & off(n), ~same
  return positive, negative, positive.any(1) & negative.any(1)


def triplet(x, _, margin, mining):
  d, (positive, negative, some) = distances(x["z"]), pairs(x)
  n = len(d)
  if mining == "batch hard":
    far = jnp.where(positive, d, -jnp.inf).max(1)
    near = jnp.where(negative, d, jnp.inf).min(1)
    return or_zero(some, jnp.maximum(far - near + margin, 0))
  if mining == "batch all":
    triplets = positive[:, :, None] & negative[:, None, :]
    h = jnp.where(triplets, jnp.maximum(d[:, :, None] - d[:, None, :] + margin, 0), 0)
    return n * h.sum((1, 2)) / (h > 0).sum()
  chosen = jnp.stack([
    jnp.where(negative & (d > d[:, p : p + 1]), d, jnp.inf).min(1) for p in range(n)
  ], 1)  # fmt: skip
  farthest = jnp.where(negative, d, -jnp.inf).max(1, keepdims=True)
  chosen = jnp.where(jnp.isinf(chosen), farthest, chosen)
  counted = positive & some[:, None]
  h = jnp.where(counted, jnp.maximum(d - jnp.where(counted, chosen, 0) + margin, 0), 0)
  return n * h.sum(1) / counted.sum()


def n_pairs(x, _, l2_weight):
  s, same = x["a"] @ x["b"].T, x["labels"][:, None] == x["labels"]
  target = same / same.sum(1, keepdims=True)
  length = (x["a"] ** 2).sum(1) + (x["b"] ** 2).sum(1)
  return -(target * jax.nn.log_softmax(s, axis=1)).sum(1) + l2_weight / 4 * length


def circle(x, _, margin, scale):
  s, (positive, negative, some) = cos(x["z"], x["z"]), pairs(x)
  pull = -scale * sg(jnp.maximum(1 + margin - s, 0)) * (s - 1 + margin)
  push = scale * sg(jnp.maximum(s + margin, 0)) * (s - margin)
  return or_zero(some, jax.nn.softplus(lse_where(positive, pull) + lse_where(negative, push)))


def multi_similarity(x, _, alpha, beta, base, margin):
  s, (positive, negative, some) = cos(x["z"], x["z"]), pairs(x)
  if margin is not None:
    least, most = jnp.where(positive, s, jnp.inf).min(1), jnp.where(negative, s, -jnp.inf).max(1)
    negative = negative & (s + margin > least[:, None])
    positive = positive & (s - margin < most[:, None])
    some = positive.any(1) & negative.any(1)
  pull = jnp.log1p(jnp.where(positive, jnp.exp(-alpha * (s - base)), 0).sum(1)) / alpha
  push = jnp.log1p(jnp.where(negative, jnp.exp(beta * (s - base)), 0).sum(1)) / beta
  return pull + push if margin is None else or_zero(some, pull + push)


def own_class(x):
  return x["labels"][:, None] == jnp.arange(len(x["w"]))


def proxy_nca(x, tau, own_in_denominator=False):
  d = ((unit(x["z"])[:, None] - unit(x["w"])) ** 2).sum(-1) / tau
  own = own_class(x)
  return mean_where(own, d) + lse_where(own_in_denominator | ~own, -d)


def cosface(x, _, margin, scale):
  own, s = own_class(x), cos(x["z"], x["w"])
  return -mean_where(own, jax.nn.log_softmax(scale * (s - margin * own), axis=1))


def arcface(x, _, margin, scale):
  own, s = own_class(x), cos(x["z"], x["w"])
  theta = jnp.arccos(s)
  widened = jnp.where(
    theta > jnp.pi - margin, s - margin * jnp.sin(margin), jnp.cos(theta + margin)
  )
  return -mean_where(own, jax.nn.log_softmax(scale * jnp.where(own, widened, s), axis=1))
