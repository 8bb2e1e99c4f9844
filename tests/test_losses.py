"""The losses: against loops to read beside the papers, identities, and at the edges."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import criteria, losses
from contrastax.core import Criterion, Group, Pairs
from contrastax.pairwise import cosine, dot, negative_squared_distance
from contrastax.relations import Relation, same_example, same_label

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


@each_case
@pytest.mark.parametrize("temperature", [0.005, 0.07, 1.0, "per anchor"])
def test_values_and_gradients_are_those_of_the_papers_formula(float64, case, temperature):
  tau, arrays = case.temperature(temperature), case.arrays()
  loop = functools.partial(case.loop, **case.constants(*arrays))
  weights = np.linspace(1, 2, case.values)  # so that no anchor's gradient hides in a sum
  values, gradients = evaluate(case, arrays, tau, weights)
  assert (values.shape, values.dtype) == ((case.values,), np.float64)
  np.testing.assert_allclose(values, loop(*arrays, temperature=tau), rtol=1e-10, atol=1e-12)

  def of_temperature(t):
    return (weights * loop(*arrays, temperature=t)).sum()

  assert_close(gradients[0], slopes(of_temperature, tau, 1e-4 * np.min(tau) ** 2), 1e-6)
  for place, found in enumerate(gradients[1:]):

    def at(array, place=place):
      others = [*arrays[:place], array, *arrays[place + 1 :]]
      return (weights * loop(*others, temperature=tau)).sum()

    assert_close(found, slopes(at, arrays[place], 1e-4 * np.min(tau)), 1e-6)


def test_negatives_that_are_corrected_for_are_met_with_and_without_their_bound():
  """What the cases above are of: with the bound N e^{−1/τ} everywhere, somewhere, nowhere."""
  bounded = {}
  for name in ("hard_negative", "hard_negative uncorrected", "hard_negative at the bound"):
    own = CASES[name].loss.keywords.values()
    terms = hard_negative_terms(*CASES[name].arrays(), 0.07, *own)
    bounded[name.partition(" ")[2]] = [estimate < bound for _, estimate, bound in terms]
  assert any(bounded[""]) and not all(bounded[""])
  assert not any(bounded["uncorrected"]) and all(bounded["at the bound"])


# Any finite input, any temperature.


def spoilt(arrays, kind):
  """Degenerate inputs, from random ones of the same shapes. Scalars stay."""
  rows = [array.reshape(-1, array.shape[-1]) for array in arrays if array.ndim]
  if kind == "duplicate":
    rows = [np.broadcast_to(rows[0][0], r.shape) for r in rows]
  elif kind == "antipodal":
    rows = [rows[0], *(np.resize(-rows[0], r.shape) for r in rows[1:])]
    rows[0][1] = -rows[0][0]
  elif kind == "one zero":
    rows = [np.where(np.arange(len(r))[:, None] == 1, 0, r) for r in rows]
  else:
    scale = {"random": 1, "zero": 0, "huge": 1e30, "small": 1e-10, "tiny": 1e-30}[kind]
    rows = [scale * np.sign(r) * np.clip(np.abs(r), 0.1, 10) for r in rows]
  return [*(r.reshape(a.shape) for r, a in zip(rows, arrays, strict=False)), *arrays[len(rows) :]]


KINDS = ("random", "duplicate", "antipodal", "one zero", "zero", "huge", "small", "tiny")


def rounding(case, temperature):
  """A cosine in float32 is exact to some 1e-7, which the temperature divides."""
  return 5e-7 * (1 + 1 / temperature) * case.condition


@each_case
@pytest.mark.parametrize("kind", KINDS)
def test_any_input_has_its_value_and_a_finite_gradient(case, kind):
  for dtype in (jnp.float32, jnp.bfloat16):
    arrays = [np.asarray(a).astype(dtype) for a in spoilt(case.arrays(), kind)]
    for tau in (1e-3, 0.01, 0.1, 1.0, 10.0):
      values, gradients = evaluate(case, arrays, tau)
      assert values.dtype == np.float32
      for gradient in gradients:
        assert np.isfinite(np.asarray(gradient, np.float32)).all(), (dtype, tau, gradient)
      with jax.enable_x64(True):
        exact, _ = evaluate(case, [a.astype(np.float64) for a in arrays], np.float32(tau))
      close = functools.partial(
        np.testing.assert_allclose, values, rtol=2e-6, atol=rounding(case, tau),
        err_msg=f"{dtype.__name__}, temperature {tau}",
      )  # fmt: skip
      close(exact)
      if kind in ("duplicate", "zero", "tiny"):  # all similarities are equal
        scalars = [np.float64(a) for a in arrays if not a.ndim]
        close(case.chance(1 / tau if kind == "duplicate" else 0.0, *scalars))


@each_case
@pytest.mark.parametrize("temperature", [1e-3, 0.01, 0.1, 10.0])
def test_float32_loses_nothing_but_rounding_at_any_temperature(case, temperature):
  arrays = case.arrays()
  with jax.enable_x64(True):
    expected, of_expected = evaluate(case, arrays, temperature)
  found, gradients = evaluate(case, [array.astype(np.float32) for array in arrays], temperature)
  tolerance = rounding(case, temperature)
  np.testing.assert_allclose(found, expected, rtol=2e-6, atol=tolerance)
  for mine, exact in zip(gradients, of_expected, strict=True):
    largest = np.abs(exact).max() + 1e-30  # losses that small have none in float32
    np.testing.assert_allclose(mine, exact, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_a_correction_that_cancels_loses_what_it_must_and_no_more(beta):
  """G is a difference, N R − τ⁺ N P, which may be 1e5 times smaller than its terms.

  With ε/τ the rounding of a logit, that of log R is up to (1 + 2β) ε/τ, and in log(e^p + G)
  the roundings of log R and log P become up to κ times as much,

    κ = (N R + τ⁺ N P) / ((1 − τ⁺) (e^p + G))  ≤  max(1, 2 τ⁺ N / (1 − τ⁺)),

  however near the cancellation: e^p, which is P, stays.
  """
  n, tau, largest = 16, 0.5, 0
  rng = np.random.default_rng(0)
  z1 = rng.normal(size=(n, 16))
  z2 = z1 + 0.5 * rng.normal(size=(n, 16))
  of_0, uncorrected, _ = next(hard_negative_terms(z1, z2, tau, beta, 0.0))
  for left in (0.1, 1e-3, 1e-5):  # of what anchor 0 has of negatives
    share = uncorrected / (2 * n - 2) / np.exp(of_0) * (1 - left)
    own = {"temperature": tau, "beta": beta, "tau_plus": share}
    found = losses.hard_negative(z1.astype(np.float32), z2.astype(np.float32), **own)
    p, corrected, bound = np.transpose(list(hard_negative_terms(z1, z2, tau, beta, share)))
    taken = share * (2 * n - 2) * np.exp(p) / (1 - share)
    kappa = (corrected + 2 * taken) / (np.exp(p) + np.maximum(corrected, bound))
    assert kappa.max() <= max(1, 2 * share * (2 * n - 2) / (1 - share))
    largest = max(largest, kappa.max())
    error = np.abs(found - hard_negative_loop(z1, z2, **own))
    assert (error <= 5e-7 * (1 + 1 / tau) * (1 + (1 + 2 * beta) * kappa)).all()
  assert largest > 5  # else it would be no test


# Limits.


@each_case
@pytest.mark.parametrize("temperature", [1e-3, 1e-5])
def test_at_low_temperature_only_the_hardest_candidates_count(float64, case, temperature):
  """τ·L = its limit + τ·O(log of the number of candidates)."""
  arrays = case.arrays()
  values, _ = evaluate(case, arrays, temperature)
  limit = list(case.limit(*arrays))
  np.testing.assert_allclose(temperature * values, limit, rtol=0, atol=8 * temperature)


@each_case
def test_at_high_temperature_all_candidates_count_the_same(float64, case):
  arrays = case.arrays()
  values, _ = evaluate(case, arrays, 1e8)
  expected = case.chance(0.0, *(a for a in arrays if not a.ndim))
  np.testing.assert_allclose(values, np.broadcast_to(expected, case.values), atol=1e-6)


def test_with_large_beta_every_negative_is_the_hardest(float64):
  z1, z2 = CASES["nt_xent"].arrays()
  found = losses.hard_negative(z1, z2, temperature=0.5, beta=1e6, tau_plus=0.0)
  for i, (anchor, positive, others) in enumerate(zip(*views_and_others(z1, z2), strict=True)):
    gap = (hardest(anchor, others) - similarity(anchor, positive)) / 0.5
    np.testing.assert_allclose(found[i], np.log1p(len(others) * np.exp(gap)), rtol=1e-8)


def test_with_large_sigma_all_positives_weigh_the_same(float64):
  z1, z2 = CASES["nt_xent"].arrays()
  found = losses.dclw(z1, z2, temperature=0.1, sigma=1e9)
  np.testing.assert_allclose(found, losses.dcl(z1, z2, temperature=0.1), rtol=1e-7)


ALONE = [n for n, c in CASES.items() if c.shapes == PAIR and not c.temperatures]


@pytest.mark.parametrize("name", ALONE)
def test_a_single_example_has_no_negative_and_costs_nothing(name):
  case = CASES[name]
  z1, z2 = np.ones((1, 3), np.float32), np.float32([[1, 0, -2]])
  alone = dataclasses.replace(case, values=case.values // N)
  rounding = 1e-5 if case.loss is losses.clip else 0
  values, gradients = evaluate(alone, [z1, z2], 0.1)
  for found in (values, *gradients):
    np.testing.assert_allclose(found, np.zeros(np.shape(found)), rtol=0, atol=rounding)


# On groups: weights, several positives, several groups, other scores.


@dataclasses.dataclass(frozen=True)
class graded(Relation):
  """One label: a positive as good as the candidate's quality, a negative a little; else a negative."""

  def __call__(self, a, c, similarity):
    same = a["label"] == c["label"]
    return Pairs(jnp.where(same, c["quality"], 0), jnp.where(same, 0.25, 1.0))


def weighted_problem():
  """Anchors [5, 4] of two labels; shared keys, a queue of negatives, a set per anchor; τ [5]."""
  rng = np.random.default_rng(1)

  def side(*shape, positive, negative):
    return {
      "label": rng.integers(0, 2, shape),
      "quality": rng.uniform(0.2, 1, shape),
      "as_positive": positive * rng.uniform(0.2, 1, shape),
      "as_negative": negative * rng.uniform(0.2, 1, shape),
    }

  filled = np.array([1, 1, 1, 0, 0, 0])  # a queue with three empty places
  anchors = Group(rng.normal(size=(5, 4)), {"label": np.array([0, 1, 0, 1, 0])})
  keys = Group(rng.normal(size=(7, 4)), side(7, positive=1, negative=1))
  queue = Group(rng.normal(size=(6, 4)), side(6, positive=0, negative=filled))
  mixes = Group(rng.normal(size=(5, 3, 4)), side(5, 3, positive=0, negative=1))
  return anchors, (keys, queue, mixes), np.array([0.3, 0.5, 1.0, 2.0, 0.2])


SCORES = {
  cosine(): similarity,
  dot(): lambda a, b: a @ b,
  negative_squared_distance(): lambda a, b: -((a - b) ** 2).sum(),
}


def rows_of(problem, score=similarity):
  """Of each anchor ℓ, w⁺ and w⁻ of all candidates, one after another; and its τ."""
  anchors, groups, tau = problem
  for i in range(len(anchors.vectors)):
    row = []
    for candidates in groups:
      for j in range(candidates.vectors.shape[-2]):
        at = (i, j) if candidates.per_anchor else (j,)
        side = {name: values[at] for name, values in candidates.side.items()}
        same = anchors.side["label"][i] == side["label"]
        logit = score(anchors.vectors[i], candidates.vectors[at]) / tau[i]
        positive = same * side["quality"] * side["as_positive"]
        negative = (0.25 if same else 1.0) * side["as_negative"]
        row.append((logit, positive, negative))
    yield *np.transpose(row), tau[i]


def mean(weight, x):
  return (weight * x).sum() / weight.sum()


def hard_negative_of(logit, positive, negative, tau, v, beta=0.7, tau_plus=0.05):
  p, count = mean(positive, logit), negative.sum()
  r = mean(negative * np.exp(beta * logit), np.exp(logit))
  estimate = count * (r - tau_plus * mean(positive, np.exp(logit))) / (1 - tau_plus)
  return np.log1p(max(estimate, count * np.exp(-1 / tau)) / np.exp(p))


STATS = ("positive", "count", "log_mean", "mean_logit", "divergence")


# Every public loss on groups, and its formula for one anchor: of its ℓ, w⁺, w⁻, τ, and DCLW's v.
def first_visit(*arguments, **more):
  """SogCLR where nothing was visited yet; what it remembers is in test_individual.py."""
  criterion, (anchors, groups) = criteria.sogclr(), arguments
  anchors = anchors.attach(row=jnp.arange(len(anchors.vectors)))
  memory = criterion.init(50)
  return criteria.evaluate(criterion, anchors, groups, memory=memory, **more)._replace(memory=())


def called(criterion, **more):
  return functools.partial(criteria.evaluate, criterion, **more)


GROUPS = {
  "info_nce": (
    called(criteria.info_nce()),
    lambda x, p, n, tau, v: -mean(p, x) + np.log(((p + n) * np.exp(x)).sum()),
  ),
  "sup_con_in": (
    called(criteria.sup_con_in()),
    lambda x, p, n, tau, v: -np.log(mean(p, np.exp(x)) / ((p + n) * np.exp(x)).sum()),
  ),
  "dcl": (
    called(criteria.dcl()),
    lambda x, p, n, tau, v: -mean(p, x) + np.log((n * np.exp(x)).sum()),
  ),
  "dclw": (
    called(criteria.dclw(sigma=0.4)),
    lambda x, p, n, tau, v: -v * mean(p, x) + np.log((n * np.exp(x)).sum()),
  ),
  "hard_negative": (
    called(criteria.hard_negative(beta=0.7, tau_plus=0.05)), hard_negative_of,
  ),
  "debiased": (
    called(criteria.debiased(tau_plus=0.5)),  # anchor 0 is at the bound
    functools.partial(hard_negative_of, beta=0, tau_plus=0.5),
  ),
  "siglip": (
    called(criteria.siglip(), bias=0.5),
    lambda x, p, n, tau, v: (p * np.log1p(np.exp(-x - 0.5)) + n * np.log1p(np.exp(x + 0.5))).sum(),
  ),
  "sogclr": (
    first_visit, lambda x, p, n, tau, v: -mean(p, x) + np.log((n * np.exp(x)).sum() / n.sum()),
  ),
}  # fmt: skip
each_group_loss = pytest.mark.parametrize("name", GROUPS)
each_that_compares = pytest.mark.parametrize("name", [name for name in GROUPS if name != "siglip"])
"""The sigmoid loss says something of a positive alone, and of a negative alone."""


def von_mises_fisher_weights(rows, sigma=0.4):
  e = np.array([np.exp(tau * mean(positive, logit) / sigma) for logit, positive, _, tau in rows])
  return 2 - e / e.mean()


def on_groups(name, relation=graded(), score=cosine(), stats=STATS):
  """(anchors, groups, τ) -> values, stats, and the gradients of Σ i · value_i by all of them."""
  return _on_groups(name, relation, score, stats)


@functools.cache
def _on_groups(name, relation, score, stats):
  def total(problem):
    anchors, groups, tau = problem
    found = GROUPS[name][0](
      anchors, groups, relation=relation, temperature=tau, score=score, stats=stats
    )
    assert found.memory == ()
    return (jnp.arange(1, 1 + len(tau)) * found.value).sum(), (found.value, found.stats)

  @jax.jit
  def found(problem):
    gradients, (values, observed) = jax.grad(total, has_aux=True, allow_int=True)(problem)
    return values, observed, gradients

  return found


def numbers(tree):
  """{path: array} of the arrays of a tree that are not integers."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
  return {path: leaf for path, leaf in named.items() if leaf.dtype.kind == "f"}


@pytest.mark.parametrize(
  ("name", "score"),
  [*((name, cosine()) for name in GROUPS), *(("info_nce", score) for score in SCORES if score != cosine())],
  ids=lambda of: of if isinstance(of, str) else type(of).__name__,
)  # fmt: skip
def test_weights_multiply_as_the_formula_on_groups_says(float64, name, score):
  """Values, and gradients by all vectors, temperatures and weights."""
  problem = weighted_problem()
  leaves, structure = jax.tree.flatten(problem)
  values, _, gradients = on_groups(name, score=score)(problem)
  v = von_mises_fisher_weights(list(rows_of(problem, SCORES[score])))

  def formula(problem):
    rows = rows_of(problem, SCORES[score])
    return np.array([GROUPS[name][1](*row, of_i) for row, of_i in zip(rows, v, strict=True)])

  np.testing.assert_allclose(values, formula(problem), rtol=1e-10)
  found = jax.tree.leaves_with_path(gradients)
  for place, (path, gradient) in enumerate(found):
    if leaves[place].dtype.kind != "f":
      continue

    def at(leaf, place=place):
      moved = structure.unflatten([*leaves[:place], leaf, *leaves[place + 1 :]])
      return (np.arange(1, 6) * formula(moved)).sum()

    expected = slopes(at, leaves[place], 1e-5)
    path, counted = jax.tree_util.keystr(path), leaves[place] != 0  # what weighs 0 comes next
    assert np.isfinite(gradient).all(), path
    atol = 1e-7 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(
      gradient[counted], expected[counted], rtol=0, atol=atol, err_msg=path
    )


@each_group_loss
def test_a_candidate_that_weighs_nothing_has_no_gradient_by_its_weight_or_vector(float64, name):
  """It is not there, as the test of copies says: no step moves a queue's empty places."""
  problem = weighted_problem()
  _, (_, queue, _), _ = problem
  _, _, (_, (_, found, _), _) = on_groups(name)(problem)
  empty = queue.side["as_negative"] == 0
  np.testing.assert_array_equal(found.vectors[empty], np.zeros((3, 4)))
  np.testing.assert_array_equal(found.side["as_negative"][empty], np.zeros(3))
  assert np.abs(found.side["as_negative"][~empty]).min() > 0


@each_group_loss
def test_a_weight_is_a_number_of_copies(float64, name):
  """Of none, too: a queue's empty places are as if they were not there."""
  anchors, (keys, queue, mixes), tau = weighted_problem()
  fold, times = np.array([1, 2, 1, 3, 1, 2, 1]), np.array([0, 2, 1, 0, 3, 1])
  weighted = keys.attach(as_positive=1.0 * fold), queue.attach(as_negative=1.0 * times), mixes
  copies = keys.attach(as_positive=np.ones(7), as_negative=keys.side["as_negative"] / fold)
  copied = repeated(copies, fold), repeated(queue.attach(as_negative=np.ones(6)), times), mixes

  @jax.jit
  def values(groups):
    return GROUPS[name][0](anchors, groups, relation=graded(), temperature=tau).value

  found, expected = values(weighted), values(copied)
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def repeated(group, times):
  return jax.tree.map(lambda x: np.repeat(x, times, 0), group)


@dataclasses.dataclass(frozen=True)
class as_numbers(Relation):
  """A relation's masks as weights of 0 and 1."""

  masks: Relation

  def __call__(self, a, c, similarity):
    return Pairs(*(1.0 * mask for mask in self.masks(a, c, similarity)))


@pytest.mark.parametrize("name", ["info_nce", "sup_con_in", "dcl", "hard_negative"])
def test_masks_are_weights_of_0_and_1(float64, name):
  """Values, and gradients by all vectors, temperatures and weights."""
  anchors, (keys, _, _), tau = weighted_problem()
  keys = keys.attach(as_negative=keys.side["as_negative"] * (np.arange(7) != 2))
  problem = with_index(anchors), (with_index(keys),), tau
  found = on_groups(name, relation=same_label(), stats=())(problem)
  expected = numbers(on_groups(name, relation=as_numbers(same_label()), stats=())(problem))
  for path, array in numbers(found).items():
    np.testing.assert_allclose(array, expected[path], rtol=1e-10, atol=1e-12, err_msg=path)


def with_index(group):
  return group.attach(index=np.arange(len(group.vectors)), view=np.zeros(len(group.vectors), int))


# Anchors without a positive, without a negative.


def candidates(vectors, index, positive=0.0, negative=0.0):
  """Candidates of `same_example`, of another view than the anchors."""
  shape = vectors.shape[:-1]
  full = functools.partial(np.broadcast_to, shape=shape)
  side = {"index": full(index), "view": np.ones(shape, int)}
  return Group(vectors, {**side, "as_positive": full(positive), "as_negative": full(negative)})


def lacking_problem(some=1.0):
  """Anchor 0 has no positive, anchor 1 no negative, anchor 2 neither, anchor 3 both."""
  rng = np.random.default_rng(0)
  anchors = Group(rng.normal(size=(4, 3)), {"index": np.arange(4), "view": np.zeros(4, int)})
  keys = candidates(
    rng.normal(size=(4, 2, 3)), np.stack([np.arange(4), np.full(4, -1)], 1),
    positive=some * np.array([[0, 0], [1, 0], [0, 0], [1, 0]]),
    negative=np.array([[0, 1.0], [0, 0], [0, 0], [0, 1]]),
  )  # fmt: skip
  return anchors, (keys,), np.full(4, 0.1)


@each_that_compares
def test_anchors_without_a_positive_or_a_negative_have_their_documented_value(float64, name):
  problem = anchors, (keys,), _ = lacking_problem()
  values, observed, gradients = on_groups(name, relation=same_example())(problem)
  np.testing.assert_array_equal(values[:3], np.zeros(3))
  assert values[3] != 0
  for path, gradient in numbers(gradients).items():
    assert np.isfinite(gradient).all(), path
    if "vectors" in path or path == "[2]":  # vectors and temperatures
      np.testing.assert_array_equal(gradient[:3], np.zeros_like(gradient[:3]), err_msg=path)
      assert np.abs(gradient[3]).max() > 0, path

  positive, negative = (
    [10 * similarity(anchors.vectors[i], keys.vectors[i, j]) for i in range(4)] for j in (0, 1)
  )
  expected = {
    "positive": [0, positive[1], 0, positive[3]],
    "count": [1, 0, 0, 1],
    "log_mean": [negative[0], 0, 0, negative[3]],
    "mean_logit": [negative[0], 0, 0, negative[3]],
  }
  for stat, of_each in expected.items():
    np.testing.assert_allclose(observed[stat], of_each, rtol=1e-12, err_msg=stat)
  if name == "dclw":  # the mean of its weights is over all that have a positive: 1 and 3
    v = 2 - 2 / (1 + np.exp((positive[1] - positive[3]) * 0.1 / 0.4))
    np.testing.assert_allclose(values[3], -v * positive[3] + negative[3], rtol=1e-12)


@each_that_compares
def test_without_any_positive_nothing_costs_anything(float64, name):
  values, _, gradients = on_groups(name, relation=same_example())(lacking_problem(some=0.0))
  np.testing.assert_array_equal(values, np.zeros(4))
  for path, gradient in numbers(gradients).items():
    assert np.isfinite(gradient).all(), path
    if "vectors" in path:
      np.testing.assert_array_equal(gradient, np.zeros_like(gradient), err_msg=path)


@pytest.mark.parametrize("name", ["hard_negative", "debiased"])
def test_where_the_bound_holds_negatives_have_no_gradient(float64, name):
  """Anchor 0 is at its positive and far from its negatives, anchor 1 the other way around."""
  vectors, away = np.array([[1, 0, 0], [0, 1, 0.0]]), np.array([[0, -1, 0.5], [0, 0.5, 1]])
  problem = (
    Group(vectors, {"index": np.arange(2), "view": np.zeros(2, int)}),
    (candidates(vectors * [[1], [-1]], np.arange(2), positive=1.0),
     candidates(np.stack([away, away]), -1, negative=1.0)),
    np.full(2, 0.1),
  )  # fmt: skip
  values, _, gradients = on_groups(name, relation=same_example(), stats=())(problem)
  _, (_, to_negatives), to_temperature = gradients
  np.testing.assert_allclose(values[0], np.log1p(2 * np.exp(-20)), rtol=1e-6)
  np.testing.assert_array_equal(to_negatives.vectors[0], np.zeros((2, 3)))
  assert np.abs(to_negatives.vectors[1]).max() > 0
  assert to_temperature[0] > 0  # by which the bound itself rises


@each_group_loss
def test_stats_are_what_they_are_said_to_be(float64, name):
  problem = weighted_problem()
  _, observed, _ = on_groups(name)(problem)
  expected = {stat: [] for stat in STATS}
  for logit, positive, negative, _ in rows_of(problem):
    expected["positive"].append(mean(positive, logit))
    expected["count"].append(negative.sum())
    expected["log_mean"].append(np.log(mean(negative, np.exp(logit))))
    expected["mean_logit"].append(mean(negative * np.exp(logit), logit))
    weight = negative * np.exp(logit) / (negative * np.exp(logit)).sum()
    expected["divergence"].append((weight * (logit - np.log(mean(negative, np.exp(logit))))).sum())
  assert observed.keys() == expected.keys()
  for stat, of_each in expected.items():
    np.testing.assert_allclose(observed[stat], of_each, rtol=1e-10, err_msg=stat)


@pytest.mark.parametrize("name", ["info_nce", "hard_negative"])
def test_stats_carry_no_gradient_and_change_nothing(float64, name):
  problem = weighted_problem()

  @jax.jit
  @functools.partial(jax.grad, allow_int=True)
  def of_stats(problem):
    anchors, groups, tau = problem
    found = GROUPS[name][0](anchors, groups, relation=graded(), temperature=tau, stats=STATS)
    return sum(observed.sum() for observed in found.stats.values())

  for path, gradient in numbers(of_stats(problem)).items():
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient), err_msg=path)
  without, beside = on_groups(name, stats=())(problem), on_groups(name)(problem)
  assert without[1] == {}
  beside = numbers((beside[0], {}, beside[2]))
  for path, array in numbers(without).items():
    np.testing.assert_allclose(array, beside[path], rtol=1e-12, atol=1e-13, err_msg=path)


# Identities.


def with_gradients(loss, *arrays):
  """The values [n] and the gradients of Σ_i i · value_i by all arrays."""

  def total(*arrays):
    values = loss(*arrays)
    return (jnp.arange(1, 1 + len(values)) * values).sum(), values

  found = jax.jit(jax.grad(total, tuple(range(len(arrays))), has_aux=True))(*arrays)
  return found[1], *found[0]


TAU = np.linspace(0.1, 1, 2 * N)
IDENTITIES = {
  "HCL with β = 0 is debiased": (
    lambda a, b, t: losses.hard_negative(a, b, temperature=t, beta=0.0, tau_plus=0.2),
    lambda a, b, t: losses.debiased(a, b, temperature=t, tau_plus=0.2),
  ),
  "debiased of nothing is NT-Xent": (
    lambda a, b, t: losses.debiased(a, b, temperature=t, tau_plus=0.0),
    lambda a, b, t: losses.nt_xent(a, b, temperature=t),
  ),
  "NT-Xent is the softplus of DCL": (
    lambda a, b, t: losses.nt_xent(a, b, temperature=t),
    lambda a, b, t: jax.nn.softplus(losses.dcl(a, b, temperature=t)),
  ),
  "SupCon of labels that occur twice is NT-Xent": (
    lambda a, b, t: losses.sup_con(jnp.concatenate([a, b]), jnp.arange(2 * N) % N, temperature=t),
    lambda a, b, t: losses.nt_xent(a, b, temperature=t),
  ),
  "SupCon's losses agree if labels occur twice": (
    lambda a, b, t: losses.sup_con_in(jnp.concatenate([a, b]), np.arange(2 * N) % N, temperature=t),
    lambda a, b, t: losses.sup_con(jnp.concatenate([a, b]), np.arange(2 * N) % N, temperature=t),
  ),
  "CLIP is InfoNCE both ways": (
    lambda a, b, t: losses.clip(a, b, temperature=t[:N]),
    lambda a, b, t: (
      losses.info_nce(a, b, temperature=t[:N]) + losses.info_nce(b, a, temperature=t[:N])
    ) / 2,
  ),
  "CLIP with two temperatures is InfoNCE both ways": (
    lambda a, b, t: losses.clip(a, b, temperature=(t[0], t[N:])),
    lambda a, b, t: (
      losses.info_nce(a, b, temperature=t[0]) + losses.info_nce(b, a, temperature=t[N:])
    ) / 2,
  ),
  "CLIP with two temperatures is itself the other way": (
    lambda a, b, t: losses.clip(a, b, temperature=(t[0], t[1])),
    lambda a, b, t: losses.clip(b, a, temperature=(t[1], t[0])),
  ),
  "SigLIP's pairs are the same from both sides": (
    lambda a, b, t: losses.siglip(a, b, temperature=t[0], bias=t[1]).sum(keepdims=True),
    lambda a, b, t: losses.siglip(b, a, temperature=t[0], bias=t[1]).sum(keepdims=True),
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities(float64, name):
  """Of values, and of gradients by vectors and temperatures."""
  arrays = *CASES["nt_xent"].arrays(), TAU
  one, other = (with_gradients(loss, *arrays) for loss in IDENTITIES[name])
  for found, expected in zip(one, other, strict=True):
    assert np.abs(expected).max() > 1e-3
    assert_close(found, expected, 1e-10)


def test_the_mean_inside_the_logarithm_is_never_above_the_one_outside(float64):
  """Jensen; they are equal where there is one positive, or none."""
  z = np.random.default_rng(0).normal(size=(9, 4))
  label = np.array([0, 0, 0, 1, 1, 2, 0, 3, 3])
  for tau in (0.01, 0.5, 10.0):
    inside, outside = (
      loss(z, label, temperature=tau) for loss in (losses.sup_con_in, losses.sup_con)
    )
    several = label == 0
    assert (inside[several] < outside[several]).all()
    np.testing.assert_allclose(inside[~several], outside[~several], rtol=1e-10, atol=1e-14)


def test_the_gradient_of_info_nce_is_dcls_times_one_minus_the_positives_mass(float64):
  """∇L_i = q_i ∇L_i^DCL, q_i = 1 − softmax mass of the positive (Yeh et al., §3)."""
  rng = np.random.default_rng(0)
  vectors, keys, tau = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), 0.3
  side = {"index": np.arange(4), "view": np.zeros(4, int)}

  def jacobians(criterion):
    def values(vectors, keys):
      groups = (candidates(keys, np.arange(4), positive=1.0, negative=1.0),)
      anchors = Group(vectors, side)
      return criteria.evaluate(
        criterion, anchors, groups, relation=same_example(), temperature=tau
      ).value

    return jax.jit(jax.jacrev(values, (0, 1)))(vectors, keys)

  s = np.array([[np.exp(similarity(a, k) / tau) for k in keys] for a in vectors])
  q = 1 - np.diag(s) / s.sum(1)
  assert q.min() < 0.9  # else it would be no test
  found, decoupled = jacobians(criteria.info_nce()), jacobians(criteria.dcl())
  for mine, theirs in zip(found, decoupled, strict=True):
    np.testing.assert_allclose(mine, q[:, None, None] * theirs, rtol=1e-9, atol=1e-12)


ORDER = np.array([2, 0, 3, 1])
UNLABELED = {name: case for name, case in CASES.items() if len(case.shapes) > 1}
each_unlabeled_case = pytest.mark.parametrize("case", UNLABELED.values(), ids=UNLABELED)


@each_unlabeled_case
def test_examples_and_views_have_no_order_and_vectors_no_length(float64, case):
  arrays = case.arrays()
  values, _ = evaluate(case, arrays, 0.1)
  permuted, _ = evaluate(case, [a[ORDER] if a.shape[:1] == (N,) else a for a in arrays], 0.1)
  order = np.concatenate([ORDER, ORDER + N]) if case.values == 2 * N else ORDER
  np.testing.assert_allclose(permuted, values[order], rtol=1e-12)
  if case.values == 2 * N:
    swapped, _ = evaluate(case, arrays[::-1], 0.1)
    np.testing.assert_allclose(swapped, np.roll(values, N), rtol=1e-12)
  lengths = [
    np.geomspace(1e-3, 1e3, a[..., 0].size).reshape(*a.shape[:-1], 1) for a in arrays if a.ndim
  ]
  lengths += [1.0] * (len(arrays) - len(lengths))
  stretched, _ = evaluate(case, [a * by for a, by in zip(arrays, lengths, strict=True)], 0.1)
  np.testing.assert_allclose(stretched, values, rtol=1e-12)


@pytest.mark.parametrize("loss", [losses.sup_con, losses.sup_con_in])
def test_labeled_vectors_have_no_order_and_labels_no_names(float64, loss):
  z = CASES["sup_con"].arrays()[0]
  values = loss(z, LABELS, temperature=0.1)
  order = np.array([5, 2, 0, 6, 1, 4, 3])
  permuted = loss(z[order], LABELS[order], temperature=0.1)
  np.testing.assert_allclose(permuted, values[order], rtol=1e-12)
  renamed = loss(z, np.array([-7, 2**31 - 1, 0])[LABELS], temperature=0.1)
  np.testing.assert_allclose(renamed, values, rtol=1e-12)


def test_negatives_per_anchor_that_are_the_same_for_all_are_shared_negatives(float64):
  anchors, positives, negatives = CASES["info_nce shared"].arrays()
  shared, _ = evaluate(CASES["info_nce shared"], [anchors, positives, negatives], 0.1)
  repeated = np.broadcast_to(negatives, (N, *negatives.shape))
  per_anchor = losses.info_nce(anchors, positives, repeated, temperature=np.full(N, 0.1))
  np.testing.assert_allclose(per_anchor, shared, rtol=1e-12)


@pytest.mark.parametrize("name", ["info_nce shared", "sup_con", "clip", "siglip", "hard_negative"])
def test_a_scalar_temperature_is_that_of_every_anchor(float64, name):
  case = CASES[name]
  arrays = case.arrays()
  each, gradients = evaluate(case, arrays, 0.1)
  total = jax.value_and_grad(lambda tau: case.loss(*arrays, temperature=tau).sum())
  value, gradient = jax.jit(total)(0.1)
  np.testing.assert_allclose(value, each.sum(), rtol=1e-12)
  np.testing.assert_allclose(gradient, gradients[0].sum(), rtol=1e-9)


# The public surface.

ARRAYS = {
  "a", "anchors", "assignments", "b", "data", "data_log_noise", "groups", "guide", "labels",
  "log_noise", "modalities", "negatives", "noise", "positives", "predictions", "proxies", "scores",
  "student", "targets", "teacher", "views", "x", "y", "z", "z1", "z2",
}  # fmt: skip
SOFTMAX = (losses.softmax, losses.modalities)


def public(module):
  """Its losses."""
  return {
    name: value
    for name, value in vars(module).items()
    if callable(value) and not name.startswith("_") and value.__module__.startswith(module.__name__)
  }


def test_every_public_loss_is_in_the_tables_above():
  """Of those without a loop here test_formulas.py has all."""
  softmax = {name for module in SOFTMAX for name in public(module)} - {"symile"}
  assert {name.split()[0] for name in CASES} == softmax
  assert set(GROUPS) == set(public(criteria)) - {"evaluate"}


CITED = r"arXiv\s+\d{4}\.\d{4,5}|\(NIPS\)"


def test_every_loss_cites_its_paper_and_takes_keywords_after_its_arrays():
  for name, loss in public(losses).items():
    assert re.search(CITED, loss.__doc__), name
    keywords = set()
    for parameter in inspect.signature(loss).parameters.values():
      if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        keywords.add(parameter.name)
      else:
        assert parameter.name in ARRAYS, (name, parameter.name)
    if name in CASES:
      assert keywords >= {"temperature", "plan"}, name


CRITERIA = {
  "info_nce": criteria.info_nce,
  "sup_con_in": criteria.sup_con_in,
  "dcl": criteria.dcl,
  "dclw": criteria.dclw,
  "hard_negative": functools.partial(criteria.hard_negative, beta=0.7, tau_plus=0.05),
  "debiased": functools.partial(criteria.debiased, tau_plus=0.5),
  "siglip": criteria.siglip,
  "sogclr": criteria.sogclr,
}
"""Each criterion with numbers for the fields that have no default."""


@each_group_loss
def test_criteria_are_values_that_cite_their_paper_and_are_called_alike(name):
  criterion, equal = CRITERIA[name](), CRITERIA[name]()
  assert isinstance(criterion, Criterion) and criterion == equal and hash(criterion) == hash(equal)
  assert len({make() for make in CRITERIA.values()}) == len(CRITERIA)
  for field in dataclasses.fields(criterion):
    if isinstance(getattr(criterion, field.name), float):
      other = dataclasses.replace(criterion, **{field.name: 0.125})
      assert other != criterion and len({criterion, equal, other}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
      setattr(criterion, field.name, 0.5)
  assert re.search(CITED, type(criterion).__doc__)
  expected = dict(inspect.signature(Criterion.__call__).parameters)
  found = dict(inspect.signature(type(criterion).__call__).parameters)
  assert criterion.learns_bias == (found.pop("bias", None) is not None) == (name == "siglip")
  assert [(p.name, p.kind) for p in found.values()] == [(p.name, p.kind) for p in expected.values()]


@each_group_loss
def test_the_weight_of_an_outcome_is_0_exactly_for_anchors_without_a_positive(float64, name):
  (anchors, (keys,), tau), relation = lacking_problem(), same_example()

  def found(anchors, positive):
    groups = (keys.attach(as_positive=positive),)
    return GROUPS[name][0](anchors, groups, relation=relation, temperature=tau).weight

  np.testing.assert_array_equal(found(anchors, keys.side["as_positive"]), [0.0, 1, 0, 1])
  small = keys.side["as_positive"] * 1e-30
  np.testing.assert_array_equal(found(anchors, small), [0.0, 1, 0, 1])
  # An anchor whose positive is NaN has one, so that the mean shows the NaN.
  nan = jnp.where(jnp.arange(4)[:, None] == 3, jnp.nan, anchors.vectors)
  np.testing.assert_array_equal(
    found(Group(nan, anchors.side), keys.side["as_positive"]), [0.0, 1, 0, 1]
  )
  gradient = jax.grad(lambda positive: found(anchors, positive).sum())(small)
  np.testing.assert_array_equal(gradient, np.zeros_like(small))


# What cannot be meant, in one line with what was found.

z, w = np.eye(4, 3, dtype=np.float32), np.ones((4, 3), np.float32)
PAIRED = {
  "clip": losses.clip,
  "dcl": losses.dcl,
  "dclw": losses.dclw,
  "debiased": functools.partial(losses.debiased, tau_plus=0.1),
  "hard_negative": functools.partial(losses.hard_negative, beta=1.0, tau_plus=0.1),
  "info_nce": losses.info_nce,
  "nt_xent": losses.nt_xent,
  "siglip": functools.partial(losses.siglip, bias=0.0),
}
LABELED = {"sup_con": losses.sup_con, "sup_con_in": losses.sup_con_in}


def refused(call, *parts):
  with pytest.raises(ValueError) as error:
    call()
  message = str(error.value)
  assert "\n" not in message
  for part in parts:
    assert part in message


@pytest.mark.parametrize("name", PAIRED)
def test_arrays_that_do_not_belong_together_are_refused(name):
  loss = functools.partial(PAIRED[name], temperature=0.1)
  refused(lambda: loss(z, w[:2]), "(4, 3)", "(2, 3)")
  refused(lambda: loss(z, w[:, :2]), "(4, 3)", "(4, 2)")
  refused(lambda: loss(z[0], w[0]), "(3,)")
  refused(lambda: loss(z[:0], w[:0]), "(0, 3)")


@pytest.mark.parametrize("name", LABELED)
def test_labels_that_are_not_one_for_each_vector_are_refused(name):
  loss = functools.partial(LABELED[name], temperature=0.1)
  refused(lambda: loss(z, np.array([0, 0, 1])), "(3,)", "[4]")
  refused(lambda: loss(z, np.zeros((4, 2), int)), "(4, 2)", "[4]")
  refused(lambda: loss(z[0], np.array([0, 0, 1])), "(3,)")
  refused(lambda: loss(z[:0], np.zeros(0, int)), "(0, 3)")


@pytest.mark.parametrize("shape", [(0, 3), (4, 0, 3), (3, 2, 3), (2, 4), (4, 2, 4), (3,)], ids=str)
def test_negatives_that_are_none_or_do_not_fit_are_refused(shape):
  refused(lambda: losses.info_nce(z, w, jnp.zeros(shape), temperature=0.1), str(shape), "(4, 3)")


@pytest.mark.parametrize("name", [*PAIRED, *LABELED])
def test_a_temperature_that_is_none_is_refused(name):
  """Where its value is known; a traced one is the caller's."""
  if name in LABELED:
    loss, anchors = functools.partial(LABELED[name], z, np.array([0, 0, 1, 1])), 4
  else:
    loss = functools.partial(PAIRED[name], z, w)
    anchors = 4 if name in ("clip", "info_nce", "siglip") else 8
  for wrong in (0, 0.0, -0.1, np.float32(0), jnp.zeros(()), np.nan):
    refused(lambda wrong=wrong: loss(temperature=wrong), "above 0", str(wrong))
  one_wrong = np.where(np.arange(anchors) == 2, -2.0, 0.1)
  refused(lambda: loss(temperature=one_wrong), "above 0", "-2.0")
  for shape in ((3,), (1,), (anchors, 1)):
    refused(lambda shape=shape: loss(temperature=np.ones(shape)), str(shape), str(anchors))
  if name == "clip":
    refused(lambda: loss(temperature=(0.1, 0.0)), "above 0")
    refused(lambda: loss(temperature=(np.ones(3), 0.1)), "(3,)")
  jax.eval_shape(lambda t: loss(temperature=t), jnp.zeros(()))


@each_group_loss
def test_losses_on_groups_refuse_the_same(name):
  anchors, groups, tau = jax.tree.map(lambda x: jnp.asarray(x), weighted_problem())
  loss = functools.partial(GROUPS[name][0], relation=graded())
  refused(lambda: loss(anchors, groups, temperature=-tau), "above 0")
  refused(lambda: loss(anchors, groups, temperature=tau[:2]), "(2,)", "5")
  refused(lambda: loss(anchors, (), temperature=tau), "no candidate group")
  empty = jax.tree.map(lambda x: x[:0], groups[1])
  refused(lambda: loss(anchors, (groups[0], empty), temperature=tau), "(0, 4)", "(5, 4)")
  refused(
    lambda: loss(anchors, groups, temperature=tau, stats=("mean",)),
    "unknown stats ['mean']", *STATS,
  )  # fmt: skip


@pytest.mark.parametrize("module", [losses, criteria], ids=["arrays", "criteria"])
def test_parameters_out_of_their_range_are_refused(module):
  """Of a criterion when it is made."""
  given = {"z1": z, "z2": w, "temperature": 0.1} if module is losses else {}
  hard, debiased, dclw = (
    functools.partial(loss, **given)
    for loss in (module.hard_negative, module.debiased, module.dclw)
  )
  for wrong in (-0.1, 1.0, 2.0, np.nan):
    refused(lambda wrong=wrong: debiased(tau_plus=wrong), "tau_plus", str(wrong))
    refused(lambda wrong=wrong: hard(beta=1.0, tau_plus=wrong), "tau_plus", str(wrong))
  for wrong in (-1.0, np.nan):
    refused(lambda wrong=wrong: hard(beta=wrong, tau_plus=0.1), "beta", str(wrong))
  for wrong in (0.0, -1.0, np.nan):
    refused(lambda wrong=wrong: dclw(sigma=wrong), "sigma", str(wrong))


def test_what_is_no_criterion_is_refused():
  anchors, groups, tau = weighted_problem()
  call = functools.partial(
    criteria.evaluate, anchors=anchors, groups=groups, relation=graded(), temperature=tau
  )
  refused(lambda: call(criteria.dcl), "dcl is a class; give an instance, dcl()")
  refused(lambda: call(losses.dcl), "criterion must be a core.Criterion", "criteria.info_nce()")


def test_sogclr_refuses_numbers_out_of_range_when_made_and_a_call_without_memory():
  for wrong in (0.0, 1.5, np.nan):
    refused(lambda wrong=wrong: criteria.sogclr(gamma=wrong), "gamma", str(wrong))
  anchors, groups, tau = weighted_problem()
  refused(
    lambda: criteria.evaluate(
      criteria.sogclr(), anchors, groups, relation=graded(), temperature=tau
    ),
    "memory=sogclr().init(size)",
  )  # fmt: skip
