"""Candidates that are moved by a gradient: noise, adversarial negatives and positives."""

import functools
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic import D, N, compared, group, made, normal, two_views, unit

from contrastax.core import Group
from contrastax.negatives.adversarial import adversarial_negatives, adversarial_positives
from contrastax.negatives.noise import noise
from contrastax.pairwise import Plan, bilinear, cosine, dot
from contrastax.relations import same_example, same_label

GOLDEN = pathlib.Path(os.environ.get("GOLDEN_DIR", pathlib.Path(__file__).parent / "golden"))
PLANS = pytest.mark.parametrize("plan", [Plan("dense"), Plan((4, 3))], ids=["dense", "tiles"])


# Noise.


def moved_by_formula(v, a, c, weight, steps, size, tau):
  """The ascent on Σ_i log Σ_j w_ij e^{s_ij/τ}, its gradient written out."""
  others = (weight * np.exp(unit(a) @ unit(c).T / tau)).sum(1)
  for _ in range(steps):
    direction, length = unit(v), np.linalg.norm(v, axis=1, keepdims=True)
    cosines = unit(a) @ direction.T
    share = np.exp(cosines / tau)
    share /= (others + share.sum(1))[:, None]
    across = share.T @ unit(a) - (share * cosines).sum(0)[:, None] * direction
    v = v + size * unit(across / length)
  return v


@PLANS
def test_noise_climbs_the_contrastive_loss(float64, plan):
  anchors, keys = group(normal(0, N, D)), group(normal(1, N, D), view=1)
  held = group(normal(2, 4, D), view=-1, index=np.array([0, 7, 8, 9]), as_negative=0.5)
  held = held.attach(as_positive=np.zeros(4))
  compare = compared(same_set=False, plan=plan)
  (drawn,) = made(
    noise(count=7, steps=0, size=0.1, temperature=0.2), anchors, (keys, held), compare
  )
  (found,) = made(
    noise(count=7, steps=3, size=0.1, temperature=0.2), anchors, (keys, held), compare
  )
  weight = np.ones((N, N + 4))
  weight[:, N:] = 0.5 * (
    np.arange(N)[:, None] != np.asarray(held.side["index"])
  )  # the own key held: neither
  c = np.concatenate([keys.vectors, held.vectors])
  expected = moved_by_formula(
    np.asarray(drawn.vectors), np.asarray(anchors.vectors), c, weight, 3, 0.1, 0.2
  )
  np.testing.assert_allclose(found.vectors, expected, rtol=1e-10)


def test_noise_moves_as_in_the_public_code(float64):
  with np.load(GOLDEN / "dclr__official.npz") as kept:
    cases = json.loads(str(kept["meta"]))["cases"]
    for case in cases:
      a, b, start = (kept[case["inputs"][name]] for name in ("a", "b", "noise"))
      how = case["params"]
      source = noise(count=len(start), steps=how["pgd"], size=1e-3, temperature=how["tau"])
      anchors, keys = group(a), group(b, view=1)
      moved = jax.jit(lambda *x, to=source: to._moved(*x, compared(same_set=False)))
      found = moved(start, anchors, (keys,))
      np.testing.assert_allclose(found, kept[f"case{case['case']}_out_noise"], rtol=0, atol=1e-12)
  assert len(cases) == 4


def test_noise_is_normal_and_drawn_by_number_and_key(float64):
  anchors = two_views()
  (many,) = made(noise(count=4000, steps=0, size=1.0, temperature=1.0), anchors, (anchors,))
  (many,) = jax.tree.map(np.asarray, (many,))
  np.testing.assert_allclose(many.vectors.mean(0), 0, atol=0.06)
  np.testing.assert_allclose(np.cov(many.vectors.T), np.eye(D), atol=0.1)
  few = noise(count=3, steps=0, size=1.0, temperature=1.0)
  np.testing.assert_array_equal(made(few, anchors, (anchors,))[0].vectors, many.vectors[:3])
  assert not np.allclose(made(few, anchors, (anchors,), key=1)[0].vectors, many.vectors[:3])


def test_noise_does_not_depend_on_the_order_of_rows(float64):
  source = noise(count=3, steps=2, size=0.3, temperature=0.1)
  one, order = two_views(), np.random.default_rng(0).permutation(2 * N)
  other = jax.tree.map(lambda x: np.asarray(x)[order], one)
  (found,), (again,) = made(source, one, (one,)), made(source, other, (other,))
  np.testing.assert_allclose(again.vectors, found.vectors, rtol=1e-12)


def test_noise_is_a_shared_negative_of_no_example_without_gradient(float64):
  anchors, source = two_views(), noise(count=3, steps=2, size=0.3, temperature=0.1)
  (found,) = made(source, anchors, (anchors,))
  assert found.vectors.shape == (3, D)
  np.testing.assert_array_equal(found.side["index"], -1)
  np.testing.assert_array_equal(found.side["as_negative"], 1)
  np.testing.assert_array_equal(found.side["as_positive"], 0)

  def total(vectors):
    both = Group(vectors, anchors.side)
    return (made(source, both, (both,))[0].vectors ** 3).sum()

  np.testing.assert_array_equal(jax.jit(jax.grad(total))(anchors.vectors), 0)


def test_noise_moves_however_small_its_share_of_the_softmax():
  """Anchors that agree with their keys, τ = 0.02: shares of noise are about e^−30 and less."""
  both = group(np.float32(normal(0, N, D)))
  both = Group(np.tile(both.vectors, (2, 1)), two_views().side)
  still = noise(count=4, steps=0, size=0.1, temperature=0.02)
  moving = noise(count=4, steps=1, size=0.1, temperature=0.02)
  (start,), (found,) = (made(source, both, (both,)) for source in (still, moving))
  step = np.asarray(found.vectors) - np.asarray(start.vectors)
  np.testing.assert_allclose(np.linalg.norm(step, axis=1), 0.1, rtol=1e-3)


def test_noise_that_no_anchor_meets_stays():
  source = noise(count=4, steps=2, size=0.1, temperature=0.1)
  anchors = group(np.float32(normal(0, N, D)))
  (found,) = made(source, anchors, (anchors,), compared(_nothing))
  assert np.isfinite(found.vectors).all()
  still = noise(count=4, steps=0, size=0.1, temperature=0.1)
  np.testing.assert_array_equal(found.vectors, made(still, anchors, (anchors,))[0].vectors)


def _nothing(a, c, similarity):
  return jax.tree.map(jnp.zeros_like, same_example()(a, c, similarity))


# Adversaries.


@functools.partial(jax.jit, static_argnames="score")
def log_p(anchors, own, k, tau, score):
  """log p(j | k) of each key k over anchors, −∞ for itself: [keys, anchors]."""
  logits = score(k, anchors.vectors) / tau
  same = [own.side[name][:, None] == anchors.side[name] for name in ("index", "view")]
  return jax.nn.log_softmax(jnp.where(same[0] & same[1], -jnp.inf, logits), axis=1)


def own_keys(n=N):
  """Of each of the 2n vectors the other view."""
  return jax.tree.map(lambda x: np.roll(x, n, 0), two_views(n))


W = jnp.asarray(normal(9, D, D))
SCORES = {
  "cosine": (cosine(), (), lambda k, a: _unit(k) @ _unit(a).T),
  "dot": (dot(), (), lambda k, a: k @ a.T),
  "bilinear": (bilinear(), W, lambda k, a: k @ (a @ W).T),
}


@functools.partial(jax.jit, static_argnums=0)
def _related(relation, side, candidates):
  return relation({name: x[:, None] for name, x in side.items()}, candidates, 0.0)


def related(relation, side, candidates):
  """The pairs of each vector with its own candidates."""
  return jax.tree.map(np.asarray, _related(relation, side, candidates))


WAYS = pytest.mark.parametrize(
  ("name", "plan"),
  [*((name, Plan("dense")) for name in SCORES), ("bilinear", Plan((4, 3)))],
  ids=[*SCORES, "tiles"],
)


def _unit(x):
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@functools.partial(jax.jit, static_argnames="score")
def lost_by_formula(both, keys, radius, tau, score):
  def surprise(k):
    found = jnp.exp(log_p(both, keys, k, tau, score))
    return -jnp.log((found * (both.side["index"] == both.side["index"][:, None])).sum(1)).sum()

  length = jnp.linalg.norm(keys.vectors, axis=1, keepdims=True)
  return keys.vectors + radius * length * _unit(jax.grad(surprise)(keys.vectors))


@WAYS
def test_a_negative_is_the_key_moved_to_where_it_is_less_likely(float64, name, plan):
  both, keys, (score, params, formula) = two_views(), own_keys(), SCORES[name]
  source = adversarial_negatives(radius=0.2, temperature=0.3)
  compare = compared(score=score, params=params, plan=plan)
  (found,) = made(source, both, (both,), compare)
  expected = lost_by_formula(both, keys, 0.2, 0.3, formula)
  np.testing.assert_allclose(np.asarray(found.vectors)[:, 0], expected, rtol=1e-9)
  pairs = related(same_example(), both.side, found.side)
  assert pairs.negative.all() and not pairs.positive.any()
  np.testing.assert_array_equal(found.side["as_negative"], 1)
  np.testing.assert_array_equal(found.side["as_positive"], 0)


def test_a_negative_is_moved_where_its_likelihood_rounds_to_one():
  """τ = 0.02 in float32: 1 − p is 0, and so would the gradient of log p be."""
  with jax.enable_x64(True):
    anchors, keys = group(5 * np.eye(D)), group(np.eye(D) + 0.1 * normal(1, D, D), view=1)
    source = adversarial_negatives(radius=0.2, temperature=0.02)
    (expected,) = made(source, anchors, (keys,), compared(same_set=False))
    p = np.exp(log_p(anchors, keys, keys.vectors, 0.02, SCORES["cosine"][2]))
    assert (1 - np.diag(p) < 1e-8).all()
    expected = np.asarray(expected.vectors)
  anchors, keys = jax.tree.map(np.float32, jax.tree.map(np.asarray, (anchors, keys)))
  (found,) = made(source, anchors, (keys,), compared(same_set=False))
  assert found.vectors.dtype == jnp.float32
  np.testing.assert_allclose(found.vectors, expected, atol=1e-4)


@WAYS
def test_a_positive_is_moved_away_and_back_along_the_divergence(float64, name, plan):
  both, keys, (score, params, formula) = two_views(), own_keys(), SCORES[name]
  radius, size, tau = 0.8, 0.1, 0.3 if name == "cosine" else 3.0  # p is not 1
  before = log_p(both, keys, keys.vectors, tau, formula)
  length = np.linalg.norm(keys.vectors, axis=1, keepdims=True)

  @jax.jit
  @jax.value_and_grad
  def divergence(k):
    after = log_p(both, keys, k, tau, formula)
    some = before > -jnp.inf
    return jnp.where(some, jnp.exp(before) * jnp.where(some, before - after, 0), 0).sum()

  moved, fell = np.asarray(lost_by_formula(both, keys, radius, tau, formula)), []
  for steps in range(3):
    source = adversarial_positives(radius=radius, size=size, steps=steps, temperature=tau)
    (found,) = made(source, both, (both,), compared(score=score, params=params, plan=plan))
    np.testing.assert_allclose(np.asarray(found.vectors)[:, 0], moved, rtol=1e-8)
    value, slope = divergence(moved)
    fell.append(value)
    moved = moved - size * length * unit(np.asarray(slope))
  assert fell[0] > fell[1] > fell[2] > 0


@pytest.mark.parametrize("relation", [same_example(), same_label()], ids=["example", "label"])
def test_a_made_positive_is_its_anchors_alone(float64, relation):
  both = two_views()
  source = adversarial_positives(radius=0.5, size=0.1, temperature=0.3)
  (found,) = jax.tree.map(np.asarray, made(source, both, (both,), compared(relation)))
  assert found.vectors.shape == (2 * N, 1, D)
  np.testing.assert_array_equal(found.side["label"][:, 0], both.side["label"])
  np.testing.assert_array_equal(found.side["index"][:, 0], both.side["index"])
  np.testing.assert_array_equal(found.side["as_positive"], 1)
  np.testing.assert_array_equal(found.side["as_negative"], 0)
  assert related(relation, both.side, found.side).positive.all()


@pytest.mark.parametrize(
  ("source", "side"),
  [
    (adversarial_negatives(radius=0.2, temperature=0.3), "as_negative"),
    (adversarial_positives(radius=0.2, size=0.1, temperature=0.3), "as_positive"),
  ],
)
def test_without_a_key_nothing_is_made_and_nothing_has_a_gradient(float64, source, side):
  anchors, keys = group(normal(0, N, D)), group(normal(1, N, D), view=1)
  keys = keys.attach(index=np.array([3, 2, 9, 0, 5, 4]))  # none of example 1
  compare = compared(same_set=False)
  (found,) = jax.tree.map(np.asarray, made(source, anchors, (keys,), compare))
  np.testing.assert_array_equal(found.side[side][:, 0], [1, 0, 1, 1, 1, 1])
  assert np.isfinite(found.vectors).all()
  own = np.asarray(keys.vectors)[[3, 3, 1, 0, 5, 4]]  # moved by a fifth at most, twice
  far = np.linalg.norm(found.vectors[:, 0] - own, axis=1) / np.linalg.norm(own, axis=1)
  assert (np.delete(far, 1) < 0.31).all()

  def total(a, k):
    a, k = Group(a, anchors.side), Group(k, keys.side)
    return (made(source, a, (k,), compare)[0].vectors ** 3).sum()

  for gradient in jax.jit(jax.grad(total, (0, 1)))(anchors.vectors, keys.vectors):
    np.testing.assert_array_equal(gradient, 0)
