"""The formulas of losses of two or three views or modalities, row by row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from formulas_arithmetic import cos, lse, lse_where, mean_where, off, or_zero, sg, unit

# Two views: z = [a; b], the positive of i is its other view.


MEAN = 0.5  # the logarithm of the average that a memory holds of each visited row


def views(x):
  z = jnp.concatenate([x["a"], x["b"]])
  n = len(x["a"])
  example = jnp.arange(2 * n) % n
  return cos(z, z), example[:, None] == example, off(2 * n)


def nt_xent(s, same, off, tau):
  return lse_where(off, s / tau) - mean_where(same & off, s / tau)


def dcl(s, same, off, tau):
  return lse_where(~same, s / tau) - mean_where(same & off, s / tau)


def dclw(s, same, off, tau, sigma=0.5):
  positive = mean_where(same & off, s)
  v = sg(2 - jnp.exp(positive / sigma) / jnp.exp(positive / sigma).mean())
  return lse_where(~same, s / tau) - v * positive / tau


def sogclr(x, tau, relative, bimodal):
  """Every other row was visited, with u = e^MEAN; γ = 0.7."""
  s, same, off = views(x)
  n = len(x["a"])
  negative = (
    ~same & (jnp.arange(2 * n) // n != (jnp.arange(2 * n) // n)[:, None]) if bimodal else ~same
  )
  positive = mean_where(same & off, s / tau)
  logit = s / tau - relative * positive[:, None]
  log_g = lse_where(negative, logit) - jnp.log(negative.sum(1))
  visited = jnp.tile(x["index"], 2) % 2 == 0
  log_u = jnp.where(visited, jnp.logaddexp(jnp.log(0.3) + MEAN, jnp.log(0.7) + log_g), log_g)
  estimate = sg(log_u) + sg(jnp.exp(log_g - log_u)) * (log_g - sg(log_g))
  return or_zero(negative.any(1), estimate - (not relative) * positive)


def meco(x, _):
  """u = e^MEAN, visited; γ = 0.7."""
  log_g = lse(x["noise"] - x["log_noise"]) - jnp.log(len(x["noise"]))
  log_u = jnp.log(0.3 * jnp.exp(MEAN) + 0.7 * jnp.exp(log_g))
  estimate = sg(log_u) + sg(jnp.exp(log_g - log_u)) * (log_g - sg(log_g))
  return estimate - x["data"]


def binary_nce(x, _):
  ratio = len(x["noise"]) / len(x["data"])
  odds_data = jnp.exp(x["data"] - x["data_log_noise"]) / ratio
  odds_noise = jnp.exp(x["noise"] - x["log_noise"]) / ratio
  return jnp.log1p(1 / odds_data) + ratio * jnp.log1p(odds_noise).mean()


def hard_negative(s, same, off, tau, tau_plus, beta=0.0):
  n = (~same).sum(1)
  p, e = mean_where(same & off, s / tau), jnp.where(~same, jnp.exp(s / tau), 0)
  weight = jnp.where(~same, jnp.exp(beta * s / tau), 0)
  r = (weight * e).sum(1) / weight.sum(1) * n
  g = (r - tau_plus * n * jnp.exp(p)) / (1 - tau_plus)
  return jnp.log1p(jnp.maximum(g, n * jnp.exp(-1 / tau)) / jnp.exp(p))


def correction(tau_plus, beta):
  """How much debiasing magnifies a rounding: 1/(1 − τ⁺ N e^p / Σ negatives), bounded by its bound."""

  def condition(x, tau):
    s, same, off = (np.asarray(part) for part in views(x))
    n, s = (~same).sum(1), np.nan_to_num(s) / tau
    if not n.any():
      return 1.0
    p = np.where(same & off, s, 0).sum(1)

    def log_sum(values):
      values = np.where(~same, values, -np.inf)
      top = values.max(1)
      return top + np.log(np.exp(values - top[:, None]).sum(1))

    log_r = log_sum((1 + beta) * s) - log_sum(beta * s) + np.log(n)
    share = tau_plus * n * np.exp(np.minimum(p - log_r, 50))
    # Where the bound N e^{−1/τ} is active the difference does not count.
    bound = np.log(n) - 1 / tau
    left = np.where(share < 1, log_r + np.log1p(-np.minimum(share, 1 - 1e-16)), -np.inf)
    active = left - np.log1p(-tau_plus) <= bound
    kappa = np.where(active, 1, 1 / np.maximum(1 - share, 1e-12))
    return (1 + 2 * beta) * max(1.0, float(np.nanmax(kappa)))

  return condition


def hard_quantile(s, same, off, tau, alpha):
  n = len(s)
  keep = int(np.ceil(alpha * (n - 2) - 1e-9))
  negatives = jnp.where(~same, s, -jnp.inf)
  kept = jnp.sort(negatives, axis=1)[:, n - max(keep, 1) :]
  positive = mean_where(same & off, s / tau)
  return jnp.logaddexp(positive, lse(kept / tau, axis=1)) - positive


def rince(s, same, off, tau, q, weight):
  positive = mean_where(same & off, jnp.exp((s - 1) / tau))
  everything = jnp.where(off, jnp.exp((s - 1) / tau), 0).sum(1)
  return (-(positive**q) + (weight * everything) ** q) / q


def group_ordering(x, tau, k, steepness):
  """The sorting network of each anchor."""

  def of_anchor(i, one, other):
    anchor = one[i][None]
    similarities = jnp.where(jnp.arange(len(one)) == i, -jnp.inf, cos(anchor, sg(one))[0])
    row = [*jnp.sort(similarities)[-k:], cos(anchor, sg(other[i][None]))[0, 0]]
    chances = list(jnp.eye(len(row)))  # of each place, the entries' chances to be there
    for layer in range(len(row)):
      for left in range(layer % 2, len(row) - 1, 2):
        right = left + 1
        stay = jnp.arctan(steepness * (row[right] - row[left])) / jnp.pi + 0.5
        for held in (row, chances):
          a, b = held[left], held[right]
          held[left], held[right] = stay * a + (1 - stay) * b, stay * b + (1 - stay) * a
    last = chances[-1]
    right_place = jnp.append(1 - last[:-1], last[-1])
    return -jnp.log(right_place).mean()

  of_anchors = jax.vmap(of_anchor, (0, None, None))
  a, b, anchors = x["a"], x["b"], jnp.arange(len(x["a"]))
  return jnp.concatenate([of_anchors(anchors, a, b), of_anchors(anchors, b, a)])


# One way: a against b.


def info_nce(x, tau):
  a, b, negatives = x["a"], x["b"], x.get("negatives")
  positive = (unit(a) * unit(b)).sum(1) / tau
  if negatives is None:
    everything = cos(a, b) / tau
  else:
    against = (
      jnp.einsum("nd,nkd->nk", unit(a), unit(negatives))
      if negatives.ndim == 3
      else cos(a, negatives)
    )
    everything = jnp.concatenate([positive[:, None], against / tau], 1)
  return lse(everything, axis=1) - positive


def clip(x, tau):
  s = cos(x["a"], x["b"]) / tau
  return (lse(s, axis=1) + lse(s, axis=0)) / 2 - jnp.diagonal(s)


def siglip(x, tau):
  y = 2 * jnp.eye(len(x["a"])) - 1
  return -jax.nn.log_sigmoid(y * (cos(x["a"], x["b"]) / tau + x["bias"])).sum(1)


def dual_temperature(x, tau, inter):
  s, off_diagonal = cos(x["a"], x["b"]), off(len(x["a"]))

  def positive_share(t):
    return jnp.diagonal(jax.nn.softmax(s / t, axis=1))

  def others_share(t):
    return jnp.where(off_diagonal, jax.nn.softmax(s / t, axis=1), 0).sum(1)

  weight = sg(others_share(inter) / others_share(tau))
  return -weight * jnp.log(positive_share(tau))


def soft_contrastive(x, tau, guide_temperature=None):
  s, g = cos(x["a"], x["b"]) / tau, cos(x["guide"], x["guide"])
  w = (1 + g) / 2 if guide_temperature is None else jnp.exp(g / guide_temperature)
  return -(w * jax.nn.log_softmax(s, axis=1)).sum(1) / w.sum(1)


def symile(x, tau, shuffles=None):
  modalities = [unit(x[name]) for name in "abc"]
  n, total = len(modalities[0]), 0.0
  for a, anchor in enumerate(modalities):
    one, other = modalities[:a] + modalities[a + 1 :]
    together = (anchor * one * other).sum(1) / tau
    if shuffles is None:
      logits = jnp.einsum("id,jd,kd->ijk", anchor, one, other).reshape(n, -1) / tau
    else:
      logits = anchor @ (one[shuffles[a][0]] * other[shuffles[a][1]]).T / tau
      logits = jnp.where(off(n), logits, together[:, None])
    total += lse(logits, axis=1) - together
  return total / 3
