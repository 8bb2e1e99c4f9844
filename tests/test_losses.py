"""The losses on arrays: against loops to read beside the papers, identities, and at the edges."""

import dataclasses
import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import (
  CASES,
  LABELS,
  PAIR,
  N,
  assert_close,
  each_case,
  evaluate,
  hard_negative_loop,
  hard_negative_terms,
  hardest,
  similarity,
  slopes,
  views_and_others,
)
from loss_groups import GROUPS, candidates, each_group_loss, lacking_problem

from contrastax import criteria, losses
from contrastax.core import Criterion, Group
from contrastax.relations import same_example


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
  loss = functools.partial(losses.hard_negative, temperature=0.5, beta=1e6, tau_plus=0.0)
  found = np.asarray(jax.jit(loss)(z1, z2))
  for i, (anchor, positive, others) in enumerate(zip(*views_and_others(z1, z2), strict=True)):
    gap = (hardest(anchor, others) - similarity(anchor, positive)) / 0.5
    np.testing.assert_allclose(found[i], np.log1p(len(others) * np.exp(gap)), rtol=1e-8)


def test_with_large_sigma_all_positives_weigh_the_same(float64):
  z1, z2 = CASES["nt_xent"].arrays()

  @jax.jit
  def both(z1, z2):
    return losses.dclw(z1, z2, temperature=0.1, sigma=1e9), losses.dcl(z1, z2, temperature=0.1)

  found, expected = both(z1, z2)
  np.testing.assert_allclose(found, expected, rtol=1e-7)


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


# Identities.


def with_gradients(losses, *arrays):
  """Of each loss the values [n] and the gradients of Σ_i i · value_i by all arrays."""

  def of_one(loss, arrays):
    def total(*arrays):
      values = loss(*arrays)
      return (jnp.arange(1, 1 + len(values)) * values).sum(), values

    gradients, values = jax.grad(total, tuple(range(len(arrays))), has_aux=True)(*arrays)
    return values, *gradients

  return jax.jit(lambda *arrays: [of_one(loss, arrays) for loss in losses])(*arrays)


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
  one, other = with_gradients(IDENTITIES[name], *arrays)
  for found, expected in zip(one, other, strict=True):
    assert np.abs(expected).max() > 1e-3
    assert_close(found, expected, 1e-10)


def test_the_mean_inside_the_logarithm_is_never_above_the_one_outside(float64):
  """Jensen; they are equal where there is one positive, or none."""
  z = np.random.default_rng(0).normal(size=(9, 4))
  label = np.array([0, 0, 0, 1, 1, 2, 0, 3, 3])

  @jax.jit
  def both(tau):
    return [loss(z, label, temperature=tau) for loss in (losses.sup_con_in, losses.sup_con)]

  for tau in (0.01, 0.5, 10.0):
    inside, outside = map(np.asarray, both(tau))
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
  per_anchor = jax.jit(losses.info_nce)(anchors, positives, repeated, temperature=np.full(N, 0.1))
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
SOFTMAX = (losses.softmax, losses.decoupled, losses.debiasing, losses.modalities)


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

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def differentiated(positive, vectors):
    groups = (keys.attach(as_positive=positive),)
    moved = Group(vectors, anchors.side)
    weight = GROUPS[name][0](moved, groups, relation=relation, temperature=tau).weight
    return weight.sum(), weight

  one = keys.side["as_positive"]
  # An anchor whose positive is NaN has one, so that the mean shows the NaN.
  nan = np.where(np.arange(4)[:, None] == 3, np.nan, anchors.vectors)
  for positive, vectors in ((one, anchors.vectors), (one * 1e-30, anchors.vectors), (one, nan)):
    _, weight = differentiated(positive, vectors)
    np.testing.assert_array_equal(weight, [0.0, 1, 0, 1])
  gradient, _ = differentiated(one * 1e-30, anchors.vectors)
  np.testing.assert_array_equal(gradient, np.zeros_like(one))
