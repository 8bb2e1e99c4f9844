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

from contrastax import losses
from contrastax.core import Group, Pairs
from contrastax.pairwise import cosine, dot, negative_squared_distance
from contrastax.positives import Relation, same_example

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
    values.append(-similarity(z[i], z[j]) / tau[i] + np.log(total))
  return np.array(values)


@dataclasses.dataclass(frozen=True)
class Case:
  """A loss on arrays: which loop it is, what it takes, how many anchors it has.

  `chance`: the value where all similarities are equal.
  """

  loss: Callable
  loop: Callable
  shapes: tuple
  anchors: int
  chance: float

  def arrays(self):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in self.shapes]

  def temperatures(self):
    return np.linspace(0.05, 2.0, self.anchors)


N, D = 4, 8
PAIR = ((N, D), (N, D))
CASES = {
  "info_nce in batch": Case(losses.info_nce, info_nce_loop, PAIR, N, np.log(N)),
  "info_nce shared": Case(losses.info_nce, info_nce_loop, (*PAIR, (12, D)), N, np.log(13)),
  "info_nce per anchor": Case(losses.info_nce, info_nce_loop, (*PAIR, (N, 3, D)), N, np.log(4)),
  "nt_xent": Case(losses.nt_xent, nt_xent_loop, PAIR, 2 * N, np.log(2 * N - 1)),
  "dcl": Case(losses.dcl, dcl_loop, PAIR, 2 * N, np.log(2 * N - 2)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def evaluate(loss, arrays, temperature, weights=1.0):
  """The values [n], and the gradients of Σ weight · value by τ [n] and by each array."""
  anchors = len(arrays[0]) * (1 if loss is losses.info_nce else 2)
  dtype = np.promote_types(arrays[0].dtype, np.float32)
  tau, weights = (np.broadcast_to(x, anchors).astype(dtype) for x in (temperature, weights))
  return _differentiated(loss, len(arrays))(weights, tau, *arrays)


@functools.cache
def _differentiated(loss, arrays):
  def total(weights, temperature, *arrays):
    values = loss(*arrays, temperature=temperature)
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
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0, "per anchor"])
def test_values_and_gradients_are_those_of_the_papers_formula(float64, case, temperature):
  tau = np.full(case.anchors, temperature) if temperature != "per anchor" else case.temperatures()
  arrays = case.arrays()
  weights = np.linspace(1, 2, case.anchors)  # so that no anchor's gradient hides in a sum
  values, gradients = evaluate(case.loss, arrays, tau, weights)
  assert values.dtype == np.float64
  np.testing.assert_allclose(values, case.loop(*arrays, temperature=tau), rtol=1e-10, atol=1e-12)

  step = 1e-4 * np.min(tau)
  of_temperature = slopes(lambda t: (weights * case.loop(*arrays, temperature=t)).sum(), tau, step)
  assert_close(gradients[0], of_temperature, 1e-6)
  for place, found in enumerate(gradients[1:]):

    def at(array, place=place):
      others = [*arrays[:place], array, *arrays[place + 1 :]]
      return (weights * case.loop(*others, temperature=tau)).sum()

    assert_close(found, slopes(at, arrays[place], step), 1e-6)


# Any finite input, any temperature.


def spoilt(arrays, kind):
  """Degenerate inputs, from random ones of the same shapes."""
  rows = [array.reshape(-1, array.shape[-1]) for array in arrays]
  if kind == "duplicate":
    rows = [np.broadcast_to(rows[0][0], r.shape) for r in rows]
  elif kind == "antipodal":
    rows = [rows[0], -rows[0], *(np.resize(-rows[0], r.shape) for r in rows[2:])]
  elif kind == "one zero":
    rows = [np.where(np.arange(len(r))[:, None] == 1, 0, r) for r in rows]
  else:
    scale = {"random": 1, "zero": 0, "huge": 1e30, "small": 1e-10, "tiny": 1e-30}[kind]
    rows = [scale * np.sign(r) * np.clip(np.abs(r), 0.1, 10) for r in rows]
  return [r.reshape(array.shape) for r, array in zip(rows, arrays, strict=True)]


KINDS = ("random", "duplicate", "antipodal", "one zero", "zero", "huge", "small", "tiny")


@each_case
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_finite_for_any_input(case, kind):
  for dtype in (jnp.float32, jnp.bfloat16) if case.loop is nt_xent_loop else (jnp.float32,):
    arrays = [jnp.asarray(a, dtype) for a in spoilt(case.arrays(), kind)]
    for tau in (1e-3, 0.01, 0.1, 1.0, 10.0):
      values, gradients = evaluate(case.loss, arrays, tau)
      assert values.dtype == np.float32
      assert np.isfinite(values).all(), (dtype, tau, values)
      for gradient in gradients:
        assert np.isfinite(np.asarray(gradient, np.float32)).all(), (dtype, tau, gradient)
      if kind in ("duplicate", "zero", "tiny"):  # all similarities are equal
        np.testing.assert_allclose(values, case.chance, rtol=1e-5, atol=2e-6 / tau)
      if kind in ("huge", "small") and dtype == jnp.float32:  # directions are all that counts
        usual = [jnp.asarray(a, dtype) for a in spoilt(case.arrays(), "random")]
        expected, _ = evaluate(case.loss, usual, tau)
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=2e-6 / tau)


@each_case
@pytest.mark.parametrize("temperature", [1e-3, 0.01, 0.1, 10.0])
def test_float32_loses_nothing_but_rounding_at_any_temperature(case, temperature):
  arrays = case.arrays()
  with jax.enable_x64(True):
    expected, _ = evaluate(case.loss, arrays, temperature)
  found, _ = evaluate(case.loss, [array.astype(np.float32) for array in arrays], temperature)
  # A cosine is exact to some 1e-7, which the temperature divides.
  atol = 1e-6 + 1e-6 / temperature
  np.testing.assert_allclose(found, expected, rtol=2e-6, atol=atol)


@each_case
def test_the_limit_of_low_temperature_is_the_hardest_candidate(float64, case):
  """τ·L lies between max_j s_ij − s_i⁺ and that plus τ log(candidates)."""
  tau, arrays = 1e-3, case.arrays()
  scaled = tau * np.asarray(evaluate(case.loss, arrays, tau)[0])
  views = case.loss is not losses.info_nce
  anchors = np.concatenate(arrays[:2]) if views else arrays[0]
  positives = np.concatenate(arrays[1::-1]) if views else arrays[1]
  for i, (anchor, positive) in enumerate(zip(anchors, positives, strict=True)):
    if views:
      negatives = [z for j, z in enumerate(anchors) if j % N != i % N]
    elif len(arrays) == 2:
      negatives = [p for j, p in enumerate(positives) if j != i]
    else:
      negatives = arrays[2][i] if arrays[2].ndim == 3 else arrays[2]
    candidates = [*negatives] if case.loss is losses.dcl else [positive, *negatives]
    hardest = max(similarity(anchor, c) for c in candidates) - similarity(anchor, positive)
    assert hardest - 1e-12 <= scaled[i] <= hardest + tau * np.log(len(candidates)) + 1e-12


@pytest.mark.parametrize("loss", [losses.info_nce, losses.nt_xent, losses.dcl])
def test_a_single_example_has_no_negative_and_costs_nothing(loss):
  z1, z2 = np.ones((1, 3), np.float32), np.float32([[1, 0, -2]])
  values, gradients = evaluate(loss, [z1, z2], 0.1)
  np.testing.assert_array_equal(values, np.zeros(len(values)))
  for gradient in gradients:
    np.testing.assert_array_equal(gradient, np.zeros(np.shape(gradient)))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)], ids=["shared", "per anchor"])
def test_no_negatives_at_all_cost_nothing(shape):
  anchors, positives = np.eye(3, dtype=np.float32)[:2], np.ones((2, 3), np.float32)
  found = losses.info_nce(anchors, positives, jnp.zeros(shape), temperature=0.1)
  np.testing.assert_array_equal(found, [0, 0])


def group(vectors, index, *, view, as_positive=1.0, as_negative=1.0):
  """Vectors as anchors or candidates of `same_example`."""
  full = functools.partial(jnp.full, index.shape)
  side = {"index": jnp.asarray(index), "view": full(view)}
  return Group(
    vectors, {**side, "as_positive": full(as_positive), "as_negative": full(as_negative)}
  )


@pytest.mark.parametrize("loss", [losses.groups.info_nce, losses.groups.dcl])
def test_anchors_without_a_positive_or_a_negative_have_their_documented_value(float64, loss):
  """Anchor 0 has no positive, anchor 1 no negative, anchor 2 neither, anchor 3 both."""
  rng = np.random.default_rng(0)
  vectors, candidates = rng.normal(size=(4, 3)), rng.normal(size=(4, 2, 3))
  as_positive = np.array([[0, 0], [1, 0], [0, 0], [1, 0]], float)
  as_negative = np.array([[0, 1], [0, 0], [0, 0], [0, 1]], float)
  index = np.stack([np.arange(4), np.full(4, -1)], 1)

  def total(vectors, candidates):
    anchors = group(vectors, np.arange(4), view=0)
    keys = Group(candidates, {
      "index": index, "view": np.ones((4, 2), int),
      "as_positive": as_positive, "as_negative": as_negative,
    })  # fmt: skip
    contrast = loss(
      anchors, (keys,), relation=same_example(), temperature=0.1,
      stats=("positive", "count", "log_mean", "mean_logit"),
    )  # fmt: skip
    return contrast.value.sum(), contrast

  gradients, contrast = jax.jit(jax.grad(total, (0, 1), has_aux=True))(vectors, candidates)
  np.testing.assert_array_equal(contrast.value[:3], np.zeros(3))
  assert contrast.value[3] != 0
  positive = [10 * similarity(vectors[i], candidates[i, 0]) for i in range(4)]
  negative = [10 * similarity(vectors[i], candidates[i, 1]) for i in range(4)]
  expected = {
    "positive": [0, positive[1], 0, positive[3]],
    "count": [1, 0, 0, 1],
    "log_mean": [negative[0], 0, 0, negative[3]],
    "mean_logit": [negative[0], 0, 0, negative[3]],
  }
  for name, values in expected.items():
    np.testing.assert_allclose(contrast.stats[name], values, rtol=1e-12, err_msg=name)

  for gradient in gradients:
    np.testing.assert_array_equal(gradient[:3], np.zeros_like(gradient[:3]))
    assert np.abs(gradient[3]).max() > 0


# The same losses on groups: weights, several positives, several groups, other scores.


@dataclasses.dataclass(frozen=True)
class graded(Relation):
  """Positives share a label, weighted by the candidate's quality; the others are negatives."""

  def __call__(self, a, c, similarity):
    same = a["label"] == c["label"]
    return Pairs(jnp.where(same, c["quality"], 0), jnp.where(same, 0.0, 1.0))


def weighted_problem():
  """Anchors [5, 4] of two labels; shared keys, a queue of negatives, and a set per anchor."""
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
  return anchors, (keys, queue, mixes)


SCORES = {
  cosine(): similarity,
  dot(): lambda a, b: a @ b,
  negative_squared_distance(): lambda a, b: -((a - b) ** 2).sum(),
}
TAUS = np.array([0.3, 0.5, 1.0, 2.0, 0.2])


def logits_and_weights(anchors, groups, score, i):
  """Logits, positive and negative weights of all candidates of anchor i, one after another."""
  for candidates in groups:
    for j in range(candidates.vectors.shape[-2]):
      at = (i, j) if candidates.per_anchor else (j,)
      same = anchors.side["label"][i] == candidates.side["label"][at]
      logit = score(anchors.vectors[i], candidates.vectors[at]) / TAUS[i]
      positive = same * candidates.side["quality"][at] * candidates.side["as_positive"][at]
      negative = (not same) * candidates.side["as_negative"][at]
      yield logit, positive, negative


@pytest.mark.parametrize(
  ("loss", "score"),
  [
    (losses.groups.info_nce, dot()),
    (losses.groups.info_nce, negative_squared_distance()),
    (losses.groups.dcl, cosine()),
  ],
  ids=["info_nce-dot", "info_nce-distance", "dcl-cosine"],
)
def test_weights_multiply_as_the_formula_on_groups_says(float64, loss, score):
  anchors, groups = weighted_problem()
  found = loss(anchors, groups, relation=graded(), temperature=TAUS, score=score)
  assert found.stats == {} and found.memory == ()
  for i in range(5):
    pull = weight = total = 0.0
    for logit, positive, negative in logits_and_weights(anchors, groups, SCORES[score], i):
      pull += positive * logit
      weight += positive
      under_the_logarithm = negative if loss is losses.groups.dcl else positive + negative
      total += under_the_logarithm * np.exp(logit)
    np.testing.assert_allclose(found.value[i], -pull / weight + np.log(total), rtol=1e-10)


def test_weights_have_gradients_finite_at_weight_zero_too(float64):
  anchors, (keys, queue, mixes) = weighted_problem()

  @jax.jit
  @jax.value_and_grad
  def found(weight):
    groups = (keys, queue.attach(as_negative=weight), mixes)
    total = losses.groups.info_nce(anchors, groups, relation=graded(), temperature=TAUS)
    return total.value.sum()

  weight = queue.side["as_negative"]
  assert 0 in weight
  _, gradient = found(weight)
  assert np.isfinite(gradient).all()
  step = 1e-6 * (weight > 0)
  both = [found(weight + sign * step)[0] for sign in (1, -1)]
  np.testing.assert_allclose(gradient[weight > 0].sum(), (both[0] - both[1]) / 2e-6, rtol=1e-6)


def test_stats_are_what_they_are_said_to_be(float64):
  anchors, groups = weighted_problem()
  found = losses.groups.info_nce(
    anchors, groups, relation=graded(), temperature=TAUS, stats=losses.groups.STATS
  )
  expected = {name: [] for name in losses.groups.STATS}
  for i in range(5):
    logit, positive, negative = np.transpose(
      list(logits_and_weights(anchors, groups, similarity, i))
    )
    mass = negative * np.exp(logit)
    expected["positive"].append((positive * logit).sum() / positive.sum())
    expected["count"].append(negative.sum())
    expected["log_mean"].append(np.log(mass.sum() / negative.sum()))
    expected["mean_logit"].append((mass * logit).sum() / mass.sum())
  for name, values in expected.items():
    np.testing.assert_allclose(found.stats[name], values, rtol=1e-10, err_msg=name)


def test_stats_carry_no_gradient_and_change_nothing(float64):
  anchors, groups = weighted_problem()

  def of(vectors, stats):
    return losses.groups.info_nce(
      Group(vectors, anchors.side), groups, relation=graded(), temperature=TAUS, stats=stats
    )

  @jax.jit
  def found(v):
    observed = jax.grad(lambda v: sum(s.sum() for s in of(v, losses.groups.STATS).stats.values()))
    without = jax.value_and_grad(lambda v: of(v, ()).value.sum())
    beside = jax.value_and_grad(lambda v: of(v, losses.groups.STATS).value.sum())
    return observed(v), without(v), beside(v)

  observed, without, beside = found(anchors.vectors)
  np.testing.assert_array_equal(observed, np.zeros((5, 4)))
  np.testing.assert_allclose(without[0], beside[0], rtol=1e-12)
  np.testing.assert_allclose(without[1], beside[1], rtol=1e-12, atol=1e-13)


def test_an_unknown_stat_is_named_beside_the_known_ones():
  anchors, groups = weighted_problem()
  with pytest.raises(ValueError, match=r"unknown stats \['mean'\]; known: positive, count, log"):
    losses.groups.info_nce(anchors, groups, relation=graded(), temperature=1.0, stats=("mean",))


def test_with_several_positives_it_is_supcons_outer_loss(float64):
  """Khosla et al. eq. 2: −1/|P(i)| Σ_{p ∈ P(i)} log( e^{s_ip/τ} / Σ_{a ≠ i} e^{s_ia/τ} )."""
  rng = np.random.default_rng(0)
  z, label, tau = rng.normal(size=(6, 4)), np.array([0, 0, 1, 1, 0, 2]), 0.2
  side = {"index": np.arange(6), "view": np.zeros(6, int), "label": label}
  one = {"as_positive": np.ones(6), "as_negative": np.ones(6)}
  everything = Group(z, {**side, **one})
  found = losses.groups.info_nce(
    everything, (everything,), relation=_SameLabel(), temperature=tau, same_set=True
  ).value
  for i in range(6):
    others = [a for a in range(6) if a != i]
    positives = [p for p in others if label[p] == label[i]]
    total = sum(np.exp(similarity(z[i], z[a]) / tau) for a in others)
    terms = [np.log(np.exp(similarity(z[i], z[p]) / tau) / total) for p in positives]
    expected = -np.mean(terms) if positives else 0
    np.testing.assert_allclose(found[i], expected, rtol=1e-10)


@dataclasses.dataclass(frozen=True)
class _SameLabel(Relation):
  def __call__(self, a, c, similarity):
    same, itself = a["label"] == c["label"], a["index"] == c["index"]
    return Pairs(jnp.where(same & ~itself, 1.0, 0.0), jnp.where(same, 0.0, 1.0))


# Identities.


def test_the_gradient_of_info_nce_is_dcls_times_one_minus_the_positives_mass(float64):
  """∇L_i = q_i ∇L_i^DCL, q_i = 1 − softmax mass of the positive (Yeh et al., §3)."""
  rng = np.random.default_rng(0)
  vectors, keys, tau = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), 0.3

  def jacobians(loss):
    def values(vectors, keys):
      queries, candidates = group(vectors, np.arange(4), view=0), group(keys, np.arange(4), view=1)
      return loss(queries, (candidates,), relation=same_example(), temperature=tau).value

    return jax.jit(jax.jacrev(values, (0, 1)))(vectors, keys)

  s = np.array([[np.exp(similarity(a, k) / tau) for k in keys] for a in vectors])
  q = 1 - np.diag(s) / s.sum(1)
  assert q.min() < 0.9  # else it would be no test
  found, decoupled = jacobians(losses.groups.info_nce), jacobians(losses.groups.dcl)
  for mine, theirs in zip(found, decoupled, strict=True):
    np.testing.assert_allclose(mine, q[:, None, None] * theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [losses.nt_xent, losses.dcl])
def test_two_view_losses_know_no_order_of_examples_or_views_and_no_lengths(float64, loss):
  z1, z2 = CASES["nt_xent"].arrays()
  values, _ = evaluate(loss, [z1, z2], 0.1)
  order = np.array([2, 0, 3, 1])
  permuted, _ = evaluate(loss, [z1[order], z2[order]], 0.1)
  np.testing.assert_allclose(permuted, values[np.concatenate([order, order + N])], rtol=1e-12)
  swapped, _ = evaluate(loss, [z2, z1], 0.1)
  np.testing.assert_allclose(swapped, np.roll(values, N), rtol=1e-12)
  length = np.geomspace(1e-3, 1e3, N)[:, None]
  stretched, _ = evaluate(loss, [length * z1, z2 / length], 0.1)
  np.testing.assert_allclose(stretched, values, rtol=1e-12)


def test_info_nce_takes_each_anchors_own_positive_and_negatives(float64):
  arrays = CASES["info_nce per anchor"].arrays()
  order = np.array([2, 0, 3, 1])
  values, _ = evaluate(losses.info_nce, arrays, 0.1)
  permuted, _ = evaluate(losses.info_nce, [array[order] for array in arrays], 0.1)
  np.testing.assert_allclose(permuted, values[order], rtol=1e-12)


def test_negatives_per_anchor_that_are_the_same_for_all_are_shared_negatives(float64):
  anchors, positives, negatives = CASES["info_nce shared"].arrays()
  shared, _ = evaluate(losses.info_nce, [anchors, positives, negatives], 0.1)
  repeated = np.broadcast_to(negatives, (N, *negatives.shape))
  per_anchor = losses.info_nce(anchors, positives, repeated, temperature=np.full(N, 0.1))
  np.testing.assert_allclose(per_anchor, shared, rtol=1e-12)


@pytest.mark.parametrize("loss", [losses.info_nce, losses.nt_xent])
def test_a_scalar_temperature_is_that_of_every_anchor(float64, loss):
  arrays = CASES["nt_xent"].arrays()
  each, gradients = evaluate(loss, arrays, 0.1)
  total = jax.value_and_grad(lambda tau: loss(*arrays, temperature=tau).sum())
  value, gradient = jax.jit(total)(0.1)
  np.testing.assert_allclose(value, each.sum(), rtol=1e-12)
  np.testing.assert_allclose(gradient, gradients[0].sum(), rtol=1e-10)


# The public surface. A new loss joins by being listed here once.

z, w = np.eye(4, 3, dtype=np.float32), np.ones((4, 3), np.float32)
ANCHORS_OF = {
  "dcl": (lambda: losses.dcl(z, w, temperature=0.1), 8),
  "info_nce": (lambda: losses.info_nce(z, w, temperature=0.1), 4),
  "nt_xent": (lambda: losses.nt_xent(z, w, temperature=0.1), 8),
}
ARRAYS = {"a", "anchors", "b", "groups", "labels", "negatives", "positives", "z", "z1", "z2"}


def public(module):
  return {
    name: value
    for name, value in vars(module).items()
    if callable(value) and not name.startswith("_") and "losses" in value.__module__
  }


def test_every_public_loss_is_listed_here():
  assert set(ANCHORS_OF) == set(public(losses))


@pytest.mark.parametrize("name", ANCHORS_OF)
def test_every_loss_returns_one_value_per_anchor(name):
  call, anchors = ANCHORS_OF[name]
  assert jax.eval_shape(call).shape == (anchors,)


@pytest.mark.parametrize("module", [losses, losses.groups], ids=["arrays", "groups"])
def test_every_loss_cites_its_paper_and_takes_keywords_after_its_arrays(module):
  for name, loss in public(module).items():
    assert re.search(r"arXiv\s+\d{4}\.\d{4,5}", loss.__doc__), name
    for parameter in inspect.signature(loss).parameters.values():
      if parameter.kind is not inspect.Parameter.KEYWORD_ONLY and module is losses:
        assert parameter.name in ARRAYS, (name, parameter.name)


def test_views_of_different_shapes_are_refused():
  with pytest.raises(AssertionError, match=r"Arrays have different shapes: \[\(4, 3\), \(2, 3\)\]"):
    losses.nt_xent(z, w[:2], temperature=0.1)
  with pytest.raises(AssertionError, match=r"shape \(3, 2, 3\) but expected \(4, None, 3\)"):
    losses.info_nce(z, w, np.ones((3, 2, 3), np.float32), temperature=0.1)
