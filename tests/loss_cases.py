"""The losses on arrays, the formulas of their papers as plain loops, and their evaluation."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest

from contrastax import losses

# The papers' formulas, as plain loops in float64.


def similarity(a, b):
  return a @ b / np.sqrt((a @ a) * (b @ b))


def info_nce_loop(anchors, positives, negatives=None, *, temperature):
  """−log( e^{s(a,p)/τ} / (e^{s(a,p)/τ} + Σ_n e^{s(a,n)/τ}) ), Oord et al. eq. 4, He et al. eq. 1."""
  n = len(anchors)
  tau = np.broadcast_to(temperature, n)
  values = []
  for i in range(n):
    if negatives is None:
      of_i = [positives[j] for j in range(n) if j != i]
    elif negatives.ndim == 3:
      of_i = negatives[i]
    else:
      of_i = negatives
    positive = np.exp(similarity(anchors[i], positives[i]) / tau[i])
    total = positive
    for negative in of_i:
      total += np.exp(similarity(anchors[i], negative) / tau[i])
    values.append(-np.log(positive / total))
  return np.array(values)


def nt_xent_loop(z1, z2, *, temperature):
  """ℓ(i, j) = −log( e^{s(i,j)/τ} / Σ_{k ≠ i} e^{s(i,k)/τ} ), Chen et al. eq. 1."""
  z = np.concatenate([z1, z2])
  n = len(z1)
  tau = np.broadcast_to(temperature, 2 * n)
  values = []
  for i in range(2 * n):
    j = (i + n) % (2 * n)
    total = 0.0
    for k in range(2 * n):
      if k != i:
        total += np.exp(similarity(z[i], z[k]) / tau[i])
    values.append(-np.log(np.exp(similarity(z[i], z[j]) / tau[i]) / total))
  return np.array(values)


def dcl_loop(z1, z2, *, temperature):
  """−s(i,j)/τ + log Σ_k e^{s(i,k)/τ}, k neither i nor its positive j; Yeh et al. eq. 5."""
  return dclw_loop(z1, z2, temperature=temperature, v=np.ones(2 * len(z1)))


def dclw_loop(z1, z2, *, temperature, v):
  """−v_i s(i,j)/τ + log Σ_k e^{s(i,k)/τ}, Yeh et al. eq. 6."""
  z = np.concatenate([z1, z2])
  n = len(z1)
  tau = np.broadcast_to(temperature, 2 * n)
  values = []
  for i in range(2 * n):
    j = (i + n) % (2 * n)
    total = 0.0
    for k in range(2 * n):
      if k not in (i, j):
        total += np.exp(similarity(z[i], z[k]) / tau[i])
    values.append(-v[i] * similarity(z[i], z[j]) / tau[i] + np.log(total))
  return np.array(values)


def dclw_weights(z1, z2, *, sigma):
  """v(i) = 2 − e^{s(i,j)/σ} / mean_k e^{s(k,k')/σ}, j and k' the other views of i and k."""
  n = len(z1)
  e = [np.exp(similarity(z1[i], z2[i]) / sigma) for i in range(n)]
  return np.array([2 - e[i % n] / np.mean(e) for i in range(2 * n)])


def sup_con_loop(z, *, temperature, labels):
  """−1/|P(i)| Σ_{p ∈ P(i)} log( e^{s(i,p)/τ} / Σ_{a ≠ i} e^{s(i,a)/τ} ), Khosla et al. eq. 2."""
  n = len(z)
  tau = np.broadcast_to(temperature, n)
  values = []
  for i in range(n):
    total = 0.0
    for a in range(n):
      if a != i:
        total += np.exp(similarity(z[i], z[a]) / tau[i])
    terms = []
    for p in range(n):
      if p != i and labels[p] == labels[i]:
        terms.append(np.log(np.exp(similarity(z[i], z[p]) / tau[i]) / total))
    values.append(-sum(terms) / len(terms) if terms else 0.0)
  return np.array(values)


def sup_con_in_loop(z, *, temperature, labels):
  """−log( 1/|P(i)| Σ_{p ∈ P(i)} e^{s(i,p)/τ} / Σ_{a ≠ i} e^{s(i,a)/τ} ), Khosla et al. eq. 3."""
  n = len(z)
  tau = np.broadcast_to(temperature, n)
  values = []
  for i in range(n):
    total = positives = count = 0.0
    for a in range(n):
      if a != i:
        total += np.exp(similarity(z[i], z[a]) / tau[i])
        if labels[a] == labels[i]:
          positives += np.exp(similarity(z[i], z[a]) / tau[i])
          count += 1
    values.append(-np.log(positives / count / total) if count else 0.0)
  return np.array(values)


def clip_loop(a, b, *, temperature):
  """(CE(logits by row, i) + CE(logits by column, i)) / 2, Radford et al. fig. 3."""
  n = len(a)
  forth, back = temperature if isinstance(temperature, tuple) else (temperature, temperature)
  forth, back = np.broadcast_to(forth, n), np.broadcast_to(back, n)
  values = []
  for i in range(n):
    row = column = 0.0
    for j in range(n):
      row += np.exp(similarity(a[i], b[j]) / forth[i])
      column += np.exp(similarity(a[j], b[i]) / back[i])
    match = similarity(a[i], b[i])
    of_row, of_column = np.exp(match / forth[i]) / row, np.exp(match / back[i]) / column
    values.append((-np.log(of_row) - np.log(of_column)) / 2)
  return np.array(values)


def siglip_loop(a, b, bias, *, temperature):
  """−Σ_j log( 1 / (1 + e^{z_ij (−t s(i,j) − b)}) ), t = 1/τ, z_ij = ±1; Zhai et al. eq. 1."""
  n = len(a)
  tau = np.broadcast_to(temperature, n)
  values = []
  for i in range(n):
    total = 0.0
    for j in range(n):
      z = 1 if i == j else -1
      total -= np.log(1 / (1 + np.exp(z * (-similarity(a[i], b[j]) / tau[i] - bias))))
    values.append(total)
  return np.array(values)


def hard_negative_loop(z1, z2, *, temperature, beta, tau_plus):
  """−log( e^p / (e^p + G) ), Robinson et al. eq. 4 and §3; with β = 0 Chuang et al. eq. 7."""
  values = []
  for p, estimate, bound in hard_negative_terms(z1, z2, temperature, beta, tau_plus):
    values.append(np.log1p(max(estimate, bound) / np.exp(p)))
  return np.array(values)


def hard_negative_terms(z1, z2, temperature, beta, tau_plus):
  """Of every anchor p, (N R − τ⁺ N e^p) / (1 − τ⁺), and the least that this may be, N e^{−1/τ}."""
  z = np.concatenate([z1, z2])
  n = len(z1)
  tau = np.broadcast_to(temperature, 2 * n)
  for i in range(2 * n):
    j = (i + n) % (2 * n)
    weighted = weights = 0.0
    for k in range(2 * n):
      if k not in (i, j):
        logit = similarity(z[i], z[k]) / tau[i]
        weighted += np.exp(beta * logit) * np.exp(logit)
        weights += np.exp(beta * logit)
    p, count = similarity(z[i], z[j]) / tau[i], 2 * n - 2
    r = weighted / weights
    yield p, count * (r - tau_plus * np.exp(p)) / (1 - tau_plus), count * np.exp(-1 / tau[i])


# The limits of τ·L as τ falls: only the hardest candidates are left.


def hardest(anchor, candidates):
  return max(similarity(anchor, c) for c in candidates)


def one_way_limit(anchors, positives, negatives=None):
  for i, (anchor, positive) in enumerate(zip(anchors, positives, strict=True)):
    of_i = np.delete(positives, i, 0) if negatives is None else negatives
    of_i = of_i[i] if of_i.ndim == 3 else of_i
    yield max(0, hardest(anchor, of_i) - similarity(anchor, positive))


def two_way_limit(a, b):
  yield from np.mean([list(one_way_limit(a, b)), list(one_way_limit(b, a))], 0)


def siglip_limit(a, b, bias):
  for i in range(len(a)):
    yield sum(max(0, (-1 if i == j else 1) * similarity(a[i], b[j])) for j in range(len(b)))


def two_view_limit(z1, z2):
  return one_way_limit(*views_and_others(z1, z2))


def decoupled_limit(z1, z2, v=None):
  anchors, positives, negatives = views_and_others(z1, z2)
  for i in range(len(anchors)):
    pull = (1 if v is None else v[i]) * similarity(anchors[i], positives[i])
    yield hardest(anchors[i], negatives[i]) - pull


def views_and_others(z1, z2):
  """All views, their other views, and all views of the other examples."""
  views, n = np.concatenate([z1, z2]), len(z1)
  others = [np.delete(views, [i % n, i % n + n], 0) for i in range(2 * n)]
  return views, np.concatenate([z2, z1]), np.stack(others)


def sup_con_limit(z, labels, nearest=np.mean):
  for i in range(len(z)):
    positives = [z[j] for j in range(len(z)) if j != i and labels[j] == labels[i]]
    to_positives = [similarity(z[i], p) for p in positives]
    yield hardest(z[i], np.delete(z, i, 0)) - nearest(to_positives) if positives else 0.0


@dataclasses.dataclass(frozen=True)
class Case:
  """A loss on arrays: which loop it is, what it takes, how many values it gives.

  chance: (logit, *scalars) -> the values where all similarities are equal.
  limit: (*arrays) -> the limits of τ·L as τ falls.
  temperatures: how many it takes; None: as many as values.
  constants: (*arrays) -> keywords of the loop which the loss detaches.
  near: how far the second array is from the first; None: anywhere.
  condition: of a logit's rounding, how many times as much a value's may be.
  """

  loss: Callable
  loop: Callable
  shapes: tuple
  values: int
  chance: Callable
  limit: Callable
  temperatures: int | None = None
  constants: Callable = lambda *arrays: {}
  near: float | None = None
  condition: float = 1.0

  def arrays(self):
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.normal(size=shape)) for shape in self.shapes]
    if self.near is not None:
      arrays[1] = arrays[0] + self.near * arrays[1]
    return arrays

  def temperature(self, temperature):
    """As many as there are of one temperature, or all different."""
    size = self.temperatures or self.values
    return np.linspace(0.05, 2, size) if temperature == "per anchor" else np.full(size, temperature)


N, D = 4, 8
PAIR = ((N, D), (N, D))
LABELS = np.array([0, 0, 1, 1, 1, 2, 0])  # nobody shares label 2
OTHERS = np.log([6, 6, 6, 6, 6, 1, 6])


def always(value):
  return lambda logit: value


def of_two_temperatures(clip):
  """CLIP's loss with its two temperatures of each row in one array, [2n]."""

  def loss(a, b, *, temperature, **more):
    return clip(a, b, temperature=(temperature[:N], temperature[N:]), **more)

  return loss


def supervised(loss, loop, limit):
  return Case(
    lambda z, **more: loss(z, LABELS, **more), functools.partial(loop, labels=LABELS),
    ((7, D),), 7, always(OTHERS), limit,
  )  # fmt: skip


def two_views(loss, loop, **more):
  return Case(loss, loop, PAIR, 2 * N, always(np.log(2 * N - 1)), two_view_limit, **more)


def decoupled(loss, loop, limit, **more):
  return Case(loss, loop, PAIR, 2 * N, always(np.log(2 * N - 2)), limit, **more)


def with_sigma(sigma):
  weights = functools.partial(dclw_weights, sigma=sigma)
  return decoupled(
    functools.partial(losses.dclw, sigma=sigma), dclw_loop,
    lambda z1, z2: decoupled_limit(z1, z2, weights(z1, z2)),
    constants=lambda z1, z2: {"v": weights(z1, z2)}, condition=1 / sigma,
  )  # fmt: skip


def hard(beta, tau_plus, near=None):
  own = {"beta": beta, "tau_plus": tau_plus}
  return two_views(
    functools.partial(losses.hard_negative, **own), functools.partial(hard_negative_loop, **own),
    near=near, condition=1 + 2 * beta,
  )  # fmt: skip


def siglip_chance(logit, bias):
  return np.logaddexp(0, -(logit + bias)) + (N - 1) * np.logaddexp(0, logit + bias)


def info_nce(shapes, candidates):
  return Case(losses.info_nce, info_nce_loop, shapes, N, always(np.log(candidates)), one_way_limit)


# Every public loss on arrays: a name here begins with the loss's own.
CASES = {
  "info_nce in batch": info_nce(PAIR, N),
  "info_nce shared": info_nce((*PAIR, (12, D)), 13),
  "info_nce per anchor": info_nce((*PAIR, (N, 3, D)), 4),
  "nt_xent": two_views(losses.nt_xent, nt_xent_loop),
  "dcl": decoupled(losses.dcl, dcl_loop, decoupled_limit),
  "dclw": with_sigma(0.5),
  "dclw sharp": with_sigma(0.01),
  "sup_con": supervised(losses.sup_con, sup_con_loop, lambda z: sup_con_limit(z, LABELS)),
  "sup_con_in": supervised(
    losses.sup_con_in, sup_con_in_loop, lambda z: sup_con_limit(z, LABELS, nearest=max)
  ),
  "clip": Case(losses.clip, clip_loop, PAIR, N, always(np.log(N)), two_way_limit),
  "clip pair": Case(
    of_two_temperatures(losses.clip), of_two_temperatures(clip_loop), PAIR, N, always(np.log(N)),
    two_way_limit, temperatures=2 * N,
  ),
  "siglip": Case(
    lambda a, b, bias, **more: losses.siglip(a, b, bias=bias, **more), siglip_loop,
    (*PAIR, ()), N, siglip_chance, siglip_limit,
  ),
  "hard_negative": hard(0.5, 0.1),
  "hard_negative uncorrected": hard(2.0, 0.0),
  "hard_negative at the bound": hard(1.0, 0.5, near=0.1),
  "debiased": two_views(
    functools.partial(losses.debiased, tau_plus=0.1),
    functools.partial(hard_negative_loop, beta=0, tau_plus=0.1),
  ),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def evaluate(case, arrays, temperature, weights=1.0):
  """The values, and the gradients of Σ weight · value by τ and by each array."""
  dtype = np.promote_types(arrays[0].dtype, np.float32)
  tau = np.broadcast_to(temperature, case.temperatures or case.values).astype(dtype)
  weights = np.broadcast_to(weights, case.values).astype(dtype)
  return differentiated(case, len(arrays))(weights, tau, *arrays)


@functools.cache
def differentiated(case, arrays):
  def total(weights, temperature, *arrays):
    values = case.loss(*arrays, temperature=temperature)
    return (weights * values).sum(), values

  gradients = jax.grad(total, tuple(range(1, 2 + arrays)), has_aux=True)
  return jax.jit(lambda *arguments: gradients(*arguments)[::-1])


def slopes(function, at, step):
  """The gradient of a scalar function of an array by central differences."""
  at = np.array(at, np.float64)
  result = np.zeros_like(at)
  for place in np.ndindex(at.shape):
    up, down = at.copy(), at.copy()
    up[place] += step
    down[place] -= step
    result[place] = (function(up) - function(down)) / (2 * step)
  return result


def assert_close(found, expected, tolerance):
  """Equal within `tolerance` of the largest expected entry."""
  expected = np.asarray(expected)
  np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
