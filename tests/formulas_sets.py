"""The formulas of losses of any number of views, of where vectors lie, of statistics and of prediction."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from formulas_arithmetic import cos, distances, lse, lse_where, off, sg, unit

# Any number of views, [v, n, d].


def view_pairs(v):
  return list(itertools.combinations(range(v), 2))


def dhel(x, tau):
  n = len(x["a"])
  energies = sum(lse_where(off(n), cos(x[name], x[name]) / tau) for name in "ab")
  return energies - (unit(x["a"]) * unit(x["b"])).sum(1) / tau


def mv_dhel(x, tau):
  u = unit(x["views"])
  v, n, _ = u.shape
  together = lse(jnp.stack([(u[a] * u[b]).sum(1) / tau for a, b in view_pairs(v)]), axis=0)
  return sum(lse_where(off(n), view @ view.T / tau) for view in u) - together


def mv_info_nce(x, tau):
  u = unit(x["views"])
  v, n, d = u.shape
  z = u.reshape(-1, d)
  together = lse(jnp.stack([(u[a] * u[b]).sum(1) / tau for a, b in view_pairs(v)] * 2), axis=0)
  return lse(lse_where(off(v * n), z @ z.T / tau).reshape(v, n), axis=0) - together


def poly_view(x, tau, aggregate):
  u = unit(x["views"])
  v, n, d = u.shape
  z = u.reshape(-1, d)
  example = jnp.arange(v * n) % n
  negatives = lse_where(example[:, None] != example, z @ z.T / tau).reshape(v, n)
  values = []
  for a in range(v):
    others = [b for b in range(v) if b != a]
    if aggregate == "sufficient statistics":
      rest = unit(sum(u[b] for b in others))
      logit = (u[a] * rest).sum(1) / tau
      values.append(jnp.logaddexp(logit, negatives[a]) - logit)
      continue
    logits = jnp.stack([(u[a] * u[b]).sum(1) / tau for b in others])
    terms = jnp.logaddexp(logits, negatives[a]) - logits  # −log p_iab
    values.append(terms.mean(0) if aggregate == "geometric" else -jnp.log(jnp.exp(-terms).mean(0)))
  return jnp.concatenate(values)


def cacr(x, _, t_plus, t_minus, detach_weights=False):
  u = unit(x["views"])
  v, n, _ = u.shape
  hold = sg if detach_weights else lambda w: w
  attraction, repulsion = 0.0, 0.0
  for a in range(v):
    costs = jnp.stack([((u[a] - u[b]) ** 2).sum(1) for b in range(v) if b != a])
    attraction += (hold(jax.nn.softmax(t_plus * costs, axis=0)) * costs).sum(0) / v
  for a, b in view_pairs(v):
    costs = ((u[a][:, None] - u[b]) ** 2).sum(-1)
    weights = hold(jax.nn.softmax(jnp.where(off(n), -t_minus * costs, -jnp.inf), axis=1))
    repulsion += (weights * costs).sum(1) / len(view_pairs(v))
  return attraction - repulsion


# Where vectors lie.


def alignment(x, _, alpha):
  return jnp.linalg.norm(unit(x["a"]) - unit(x["b"]), axis=1) ** alpha


def uniformity(x, _, t):
  n = len(x["z"])
  potential = jnp.where(off(n), jnp.exp(-t * distances(unit(x["z"])) ** 2), 0)
  return jnp.log(potential.sum() / (n * (n - 1)))


def koleo(x, _):
  s, n = cos(x["z"], x["z"]), len(x["z"])
  nearest = jnp.where(off(n), s, -jnp.inf).argmax(1)
  return -jnp.log(jnp.linalg.norm(unit(x["z"]) - unit(x["z"])[nearest], axis=1))


def koleo_condition(x, tau):
  """An error of a coordinate, divided by the least distance."""
  z = np.asarray(x["z"], float)
  u = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-30)
  d = np.linalg.norm(u[:, None] - u, axis=-1)[~np.eye(len(u), dtype=bool)]
  return 1 / max(d.min(), 1e-8)


def spectral(x, _, max_length=None):
  a, b = x["a"], x["b"]
  if max_length is not None:
    a, b = (
      z * jnp.minimum(1, max_length / jnp.linalg.norm(z, axis=1, keepdims=True)) for z in (a, b)
    )
  s, n = a @ b.T, len(a)
  return jnp.where(off(n), s**2, 0).sum(1) / (n - 1) - 2 * jnp.diagonal(s)


# Statistics.


def barlow_twins(x, _, redundancy_weight):
  one, two = ((z - z.mean(0)) / jnp.sqrt(z.var(0) + 1e-5) for z in (x["a"], x["b"]))
  c = one.T @ two / len(one)
  d = len(c)
  return ((jnp.diagonal(c) - 1) ** 2).sum() + redundancy_weight * (c**2 * off(d)).sum()


def vicreg(x, _, invariance_weight=25.0, variance_weight=25.0, covariance_weight=1.0):
  n, d = x["a"].shape
  variance = covariance = 0.0
  for z in (x["a"], x["b"]):
    variance += jnp.maximum(0, 1 - jnp.sqrt(z.var(0, ddof=1) + 1e-4)).mean() / 2
    c = (z - z.mean(0)).T @ (z - z.mean(0)) / (n - 1)
    covariance += (c**2 * off(d)).sum() / d
  invariance = ((x["a"] - x["b"]) ** 2).mean()
  return (
    invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance
  )


def w_mse(x, _, slices=1, shrinkage=0.0):
  def white(z):
    z = z - z.mean(0)
    c = (1 - shrinkage) * z.T @ z / (len(z) - 1) + shrinkage * jnp.eye(z.shape[1])
    return unit(z @ jnp.linalg.inv(jnp.linalg.cholesky(c)).T)

  one, two = (
    jnp.concatenate([white(part) for part in jnp.split(x[name], slices)]) for name in "ab"
  )
  return ((one - two) ** 2).sum(1)


def w_mse_condition(shrinkage, slices=1):
  def condition(x, tau):
    found = 1.0
    for name in "ab":
      for z in np.split(np.asarray(x[name], float), slices):
        c = (1 - shrinkage) * np.cov(z.T) + shrinkage * np.eye(z.shape[1])
        apart = np.linalg.norm(z - z.mean(0), axis=1).min()  # and of the subtraction
        found = max(found, np.linalg.cond(c), np.abs(z).max() / max(apart, 1e-30))
    return found

  return condition


# Prediction.


def negative_cosine(x, _):
  return -(unit(x["a"]) * unit(sg(x["b"]))).sum(1)


def sinkhorn(x, tau):
  q = jnp.exp(x["z"] / tau)
  n, k = q.shape
  for _ in range(3):
    q = q / q.sum(0) * n / k
    q = q / q.sum(1, keepdims=True)
  return sg(q)


def across(targets, logits):
  pairs = [(a, b) for a in range(len(targets)) for b in range(len(logits)) if a != b]
  terms = [-(targets[a] * jax.nn.log_softmax(logits[b])).sum(1) for a, b in pairs]
  return sum(terms) / len(pairs)


def swapped_prediction(x, tau):
  return across(x["assignments"], x["views"] / tau)


def self_distillation(x, tau, teacher_temperature):
  targets = jax.nn.softmax((x["teacher"] - x["center"]) / teacher_temperature)
  return across(sg(targets), x["views"] / tau)
