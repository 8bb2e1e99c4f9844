"""Every public loss on arrays beside its formula, written plainly: dense, and with no care for rounding.

`LOSSES` lists them: what a loss is called with, the call, and the formula to read beside the
paper. The tests compare the two in float64 (test_formulas.py), and `benchmarks/numerics.py`
certifies what float32 makes of ours, beside what it makes of the formula.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from contrastax import criteria, losses

lse = jax.scipy.special.logsumexp
sg = jax.lax.stop_gradient


@dataclasses.dataclass(frozen=True)
class Loss:
  """A public loss in one of its forms.

  ours, plain: (arrays by name, τ or None) -> values. arrays: seed -> arrays; those of floats are
  what it is differentiated by. tempered: whether it has a temperature. exponent: (arrays, τ) -> the
  largest exponent, of a cosine 1/τ; or the largest number that is added up. condition: by how
  much its own definition magnifies a rounding. alone: defined for a batch of one. free: arrays
  without a gradient.
  """

  ours: Callable
  plain: Callable
  arrays: Callable
  tempered: bool = True
  exponent: Callable = lambda x, tau: 1 / (tau or 1)
  condition: Callable = lambda x, tau: 1.0
  alone: bool = True
  free: tuple = ()


# Arithmetic.


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


# Two views: z = [a; b], the positive of i is its other view.


def views(x):
  z = jnp.concatenate([x["a"], x["b"]])
  n = len(x["a"])
  example = jnp.arange(2 * n) % n
  return cos(z, z), example[:, None] == example, off(2 * n)


def two_views(name, formula, **more):
  own = {key: value for key, value in more.items() if key not in ("condition", "alone")}
  rest = {key: value for key, value in more.items() if key in ("condition", "alone")}
  return Loss(
    lambda x, tau: getattr(losses, name)(x["a"], x["b"], temperature=tau, **own),
    lambda x, tau: formula(*views(x), tau, **own), pair, **rest,
  )  # fmt: skip


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


MEAN, EXAMPLES = 0.5, 40


def remembering(size, seen):
  """SogCLR's memory of so many rows: those that `seen` is true of were visited, with u = e^MEAN."""
  memory = criteria.sogclr().init(size)
  visited = seen(jnp.arange(len(memory["visited"].values)))
  held = {"visited": visited, "log_mean": jnp.where(visited, MEAN, 0.0)}
  return memory | {name: dataclasses.replace(memory[name], values=held[name]) for name in held}


def of_memory(**more):
  """Of examples that are here or there in the data, half of which were visited."""

  def ours(x, tau):
    memory = remembering(2 * EXAMPLES, lambda row: row % EXAMPLES % 2 == 0)
    own = {"index": x["index"], "memory": memory, "gamma": 0.7}
    return losses.sogclr(x["a"], x["b"], temperature=tau, **own, **more)[0]

  return Loss(ours, functools.partial(sogclr, **more), places)


def meco(x, _):
  """u = e^MEAN, visited; γ = 0.7."""
  log_g = lse(x["noise"] - x["log_noise"]) - jnp.log(len(x["noise"]))
  log_u = jnp.log(0.3 * jnp.exp(MEAN) + 0.7 * jnp.exp(log_g))
  estimate = sg(log_u) + sg(jnp.exp(log_g - log_u)) * (log_g - sg(log_g))
  return estimate - x["data"]


def of_scores(x, _):
  memory = remembering(1, lambda row: row == 0)
  return losses.meco(x["data"], x["noise"], x["log_noise"], memory=memory, gamma=0.7)[0]


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
  """The sorting network, anchor by anchor."""
  values = []
  for one, other in ((x["a"], x["b"]), (x["b"], x["a"])):
    for i in range(len(one)):
      negatives = [cos(one[i : i + 1], sg(one[j : j + 1]))[0, 0] for j in range(len(one)) if j != i]
      negatives = jnp.sort(jnp.stack(negatives))[-k:]
      positive = cos(one[i : i + 1], sg(other[i : i + 1]))[0, 0]
      row = [*negatives, positive]
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
      values.append(-jnp.log(right_place).mean())
  return jnp.stack(values)


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


# Labels.


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


# Largest exponents, or numbers.


def largest_square(*names):
  """The largest squared length of a vector, or product of two, over τ."""
  return lambda x, tau: 4 * max((x[name] ** 2).sum(-1).max() for name in names) / (tau or 1)


def largest_entry(*names):
  return lambda x, tau: 2 * max(np.abs(x[name]).max() for name in names) / (tau or 1)


def is_(number):
  return lambda x, tau: number


# Arrays.

N, D = 6, 8
LABELS = np.array([0, 0, 1, 1, 1, 2, 0])  # nobody shares label 2
SHUFFLES = np.array([[[1, 2, 3, 4, 5, 0], [2, 0, 1, 4, 3, 5]]] * 3)


def draw(shapes, **integers):
  def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()} | integers

  return arrays


pair = draw({"a": (N, D), "b": (N, D)})
scores = draw({"data": (N,), "noise": (9,), "log_noise": (9,)})
labeled = draw({"z": (7, D)}, labels=LABELS)
places = draw({"a": (N, D), "b": (N, D)}, index=np.array([7, 2, 30, 11, 4, 39]))
many_views = draw({"views": (3, N, D)})
three = draw({"a": (N, D), "b": (N, D), "c": (N, D)})
proxies = draw({"z": (7, D), "w": (4, D)}, labels=LABELS)
tall = draw({"a": (24, 4), "b": (24, 4)})


def assigned(seed=0):
  x = draw({"views": (4, N, 5), "assignments": (2, N, 5)})(seed)
  e = np.exp(x["assignments"])
  return x | {"assignments": e / e.sum(-1, keepdims=True)}


def of(name, names, formula, arrays, tempered=True, **more):
  """A loss of the named arrays, one after another, with its own arguments."""
  about = {k: more.pop(k) for k in ("exponent", "condition", "alone", "free") if k in more}

  def ours(x, tau):
    own = {"temperature": tau} if tempered else {}
    return getattr(losses, name)(*(x[n] for n in names), **own, **more)

  return Loss(ours, functools.partial(formula, **more), arrays, tempered, **about)


LOSSES = {
  "alignment": of("alignment", "ab", alignment, pair, False, alpha=2.0),
  "alignment 1": of("alignment", "ab", alignment, pair, False, alpha=1.0),
  "arcface": of("arcface", ["z", "labels", "w"], arcface, proxies, False, margin=0.5, scale=64.0, exponent=is_(64.0)),
  "arcface wide": of("arcface", ["z", "labels", "w"], arcface, proxies, False, margin=1.5, scale=8.0, exponent=is_(8.0)),
  "barlow_twins": of(
    "barlow_twins", "ab", barlow_twins, pair, False, redundancy_weight=0.0051,
  ),
  "binary_nce": Loss(
    lambda x, _: losses.binary_nce(x["data"], x["noise"], x["data_log_noise"], x["log_noise"]), binary_nce,
    draw({"data": (N,), "noise": (9,), "data_log_noise": (N,), "log_noise": (9,)}), False,
    exponent=largest_entry("data", "noise", "data_log_noise", "log_noise")),
  "cacr": of("cacr", ["views"], cacr, many_views, False, t_plus=1.0, t_minus=2.0, exponent=is_(8.0)),
  "cacr detached": of(
    "cacr", ["views"], cacr, many_views, False, t_plus=5.0, t_minus=5.0, detach_weights=True, exponent=is_(20.0)),
  "circle": of("circle", ["z", "labels"], circle, labeled, False, margin=0.25, scale=80.0, exponent=is_(80.0 * 2.25**2)),
  "clip": of("clip", "ab", clip, pair),
  "cosface": of("cosface", ["z", "labels", "w"], cosface, proxies, False, margin=0.35, scale=64.0, exponent=is_(64.0)),
  "dcl": two_views("dcl", dcl),
  "dclw": two_views("dclw", dclw),
  "debiased": two_views(
    "debiased", hard_negative, tau_plus=0.1, condition=correction(0.1, 0.0)
  ),
  "dhel": of("dhel", "ab", dhel, pair),
  "dual_temperature": Loss(
    lambda x, tau: losses.dual_temperature(
      x["a"], x["b"], temperature=tau, inter_temperature=10 * tau
    ),
    lambda x, tau: dual_temperature(x, tau, 10 * tau), pair,
  ),
  "group_ordering": of("group_ordering", "ab", functools.partial(group_ordering), pair, False, k=3, steepness=5.0, exponent=is_(10.0)),
  "hard_negative": two_views(
    "hard_negative", hard_negative, tau_plus=0.1, beta=0.5, condition=correction(0.1, 0.5)
  ),
  "hard_quantile": two_views("hard_quantile", hard_quantile, alpha=0.3),
  "info_nce": Loss(
    lambda x, tau: losses.info_nce(x["a"], x["b"], temperature=tau), info_nce, pair
  ),
  "info_nce queue": Loss(
    lambda x, tau: losses.info_nce(x["a"], x["b"], x["negatives"], temperature=tau), info_nce,
    draw({"a": (N, D), "b": (N, D), "negatives": (9, D)}),
  ),
  "info_nce sets": Loss(
    lambda x, tau: losses.info_nce(x["a"], x["b"], x["negatives"], temperature=tau), info_nce,
    draw({"a": (N, D), "b": (N, D), "negatives": (N, 3, D)}),
  ),
  "koleo": of("koleo", ["z"], koleo, draw({"z": (7, D)}), False, condition=koleo_condition, alone=False),
  "meco": Loss(of_scores, meco, scores, False, exponent=largest_entry("data", "noise", "log_noise")),
  "multi_similarity": of(
    "multi_similarity", ["z", "labels"], multi_similarity, labeled, False,
    alpha=2.0, beta=50.0, base=0.5, margin=0.1, exponent=is_(75.0)),
  "multi_similarity unmined": of(
    "multi_similarity", ["z", "labels"], multi_similarity, labeled, False,
    alpha=2.0, beta=50.0, base=0.5, margin=None, exponent=is_(75.0)),
  "mv_dhel": of("mv_dhel", ["views"], mv_dhel, many_views),
  "mv_info_nce": of("mv_info_nce", ["views"], mv_info_nce, many_views),
  "n_pairs": of(
    "n_pairs", ["a", "b", "labels"], n_pairs,
    draw({"a": (N, D), "b": (N, D)}, labels=LABELS[:N]), False, l2_weight=0.1, exponent=largest_square("a", "b")),
  "negative_cosine": of("negative_cosine", "ab", negative_cosine, pair, False),
  "nt_xent": two_views("nt_xent", nt_xent),
  "poly_view": of("poly_view", ["views"], poly_view, many_views, aggregate="geometric"),
  "poly_view arithmetic": of("poly_view", ["views"], poly_view, many_views, aggregate="arithmetic"),
  "poly_view sufficient": of(
    "poly_view", ["views"], poly_view, many_views, aggregate="sufficient statistics"
  ),
  "proxy_nca": of("proxy_nca", ["z", "labels", "w"], proxy_nca, proxies, exponent=lambda x, tau: 4 / tau),
  "proxy_nca softmax": of(
    "proxy_nca", ["z", "labels", "w"], proxy_nca, proxies, own_in_denominator=True, exponent=lambda x, tau: 4 / tau),
  "rince": two_views("rince", rince, q=0.5, weight=0.025),
  "self_distillation": Loss(
    lambda x, tau: losses.self_distillation(
      x["views"], x["teacher"], center=x["center"], temperature=tau, teacher_temperature=0.1
    ),
    lambda x, tau: self_distillation(x, tau, 0.1),
    draw({"views": (4, N, 5), "teacher": (2, N, 5), "center": (5,)}), free=("center",), exponent=lambda x, tau: max(largest_entry("views")(x, tau), largest_entry("teacher", "center")(x, 0.1))),
  "sogclr": of_memory(relative=True, bimodal=False),
  "sogclr two modalities": of_memory(relative=True, bimodal=True),
  "sogclr of similarities": of_memory(relative=False, bimodal=False),
  "siglip": Loss(
    lambda x, tau: losses.siglip(x["a"], x["b"], temperature=tau, bias=x["bias"]), siglip,
    draw({"a": (N, D), "b": (N, D), "bias": ()}), exponent=lambda x, tau: 1 / tau + abs(x["bias"])),
  "sinkhorn": Loss(
    lambda x, tau: losses.sinkhorn(x["z"], epsilon=tau), sinkhorn, draw({"z": (N, 5)}), exponent=largest_entry("z")),
  "soft_contrastive": of("soft_contrastive", ["a", "b", "guide"], soft_contrastive,
    draw({"a": (N, D), "b": (N, D), "guide": (N, 5)}), free=("guide",)),
  "soft_contrastive softmax": of("soft_contrastive", ["a", "b", "guide"], soft_contrastive,
    draw({"a": (N, D), "b": (N, D), "guide": (N, 5)}), guide_temperature=0.35, free=("guide",)),
  "soft_nearest_neighbor": of(
    "soft_nearest_neighbor", ["z", "labels"], soft_nearest_neighbor, labeled, exponent=largest_square("z")),
  "spectral": of("spectral", "ab", spectral, pair, False, exponent=lambda x, tau: largest_square("a", "b")(x, tau) ** 2 / 16),
  "spectral shortened": of("spectral", "ab", spectral, pair, False, max_length=2.0),
  "sup_con": of("sup_con", ["z", "labels"], sup_con, labeled),
  "sup_con_in": of("sup_con_in", ["z", "labels"], sup_con_in, labeled),
  "swapped_prediction": of(
    "swapped_prediction", ["views", "assignments"], swapped_prediction, assigned,
    free=("assignments",), exponent=largest_entry("views")),
  "symile": of("symile", "abc", symile, three),
  "symile shuffled": of("symile", "abc", symile, three, shuffles=SHUFFLES, alone=False),
  "triplet": of("triplet", ["z", "labels"], triplet, labeled, False, margin=0.5, mining="batch hard", exponent=largest_entry("z")),
  "triplet all": of("triplet", ["z", "labels"], triplet, labeled, False, margin=0.5, mining="batch all", exponent=largest_entry("z")),
  "triplet semi-hard": of(
    "triplet", ["z", "labels"], triplet, labeled, False, margin=0.5, mining="semi-hard", exponent=largest_entry("z")),
  "uniformity": of("uniformity", ["z"], uniformity, draw({"z": (7, D)}), False, t=2.0, alone=False, exponent=is_(8.0)),
  "vicreg": of("vicreg", "ab", vicreg, pair, False, alone=False, exponent=is_(25.0)),
  "w_mse": of("w_mse", "ab", w_mse, tall, False, condition=w_mse_condition(0.0), alone=False),
  "w_mse slices": of(
    "w_mse", "ab", w_mse, tall, False, slices=2, shrinkage=0.1,
    condition=w_mse_condition(0.1, 2), alone=False,
  ),
}  # fmt: skip
"""Every public loss: a name here begins with the loss's own."""
