"""Candidates that are made: out of noise, by an adversary's gradient, out of mixed labels."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest

from contrastax import encoders, methods, views
from contrastax.core import Compare, Group, UserError
from contrastax.negatives import in_batch, queue
from contrastax.negatives.adversarial import adversarial_negatives, adversarial_positives
from contrastax.negatives.noise import noise
from contrastax.negatives.supremix import supremix
from contrastax.pairwise import Plan, bilinear, cosine, dot
from contrastax.relations import label_distance, same_example, same_label

GOLDEN = pathlib.Path(os.environ.get("GOLDEN_DIR", pathlib.Path(__file__).parent / "golden"))
PLANS = pytest.mark.parametrize("plan", [Plan("dense"), Plan((4, 3))], ids=["dense", "tiles"])
N, D = 6, 5
LABELS = np.array([0.5, 2.0, 1.0, 3.5, 1.0, 2.5])


def group(vectors, view=0, index=None, as_negative=1.0, **side):
  n = len(vectors)
  side |= {
    "index": np.arange(n) if index is None else index,
    "view": np.full(n, view),
    "as_positive": np.ones(n),
    "as_negative": np.full(n, as_negative),
  }
  return jax.tree.map(jnp.asarray, Group(vectors, side))


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)


def two_views(n=N, labels=LABELS):
  """All vectors of two views, as a SimCLR has them."""
  index = np.tile(np.arange(n), 2)
  both = group(normal(0, 2 * n, D), index=index, label=labels[index % len(labels)])
  return both.attach(view=jnp.repeat(jnp.arange(2), n))


def compared(relation=same_example(), score=cosine(), params=(), same_set=True, plan=Plan("dense")):
  return Compare(relation, score, params, same_set, plan)


def made(source, anchors, groups, compare=None, key=0):
  """The groups that a source adds."""
  compare = compare or compared(same_set=anchors is groups[0])

  def candidates(anchors, groups):
    return source.candidates((), anchors, groups, jax.random.key(key), compare)[1]

  return jax.jit(candidates)(anchors, groups)[len(groups) :]


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


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
  held = held.attach(as_positive=jnp.zeros(4))
  compare = compared(same_set=False, plan=plan)
  (drawn,) = made(
    noise(count=7, steps=0, size=0.1, temperature=0.2), anchors, (keys, held), compare
  )
  (found,) = made(
    noise(count=7, steps=3, size=0.1, temperature=0.2), anchors, (keys, held), compare
  )
  weight = np.ones((N, N + 4))
  weight[:, N:] = 0.5 * (np.arange(N)[:, None] != held.side["index"])  # the own key held: neither
  c = np.concatenate([keys.vectors, held.vectors])
  expected = moved_by_formula(np.asarray(drawn.vectors), anchors.vectors, c, weight, 3, 0.1, 0.2)
  np.testing.assert_allclose(found.vectors, expected, rtol=1e-10)


def test_noise_moves_as_in_the_public_code(float64):
  with np.load(GOLDEN / "dclr__official.npz") as kept:
    cases = json.loads(str(kept["meta"]))["cases"]
    for case in cases:
      a, b, start = (kept[case["inputs"][name]] for name in ("a", "b", "noise"))
      how = case["params"]
      source = noise(count=len(start), steps=how["pgd"], size=1e-3, temperature=how["tau"])
      anchors, keys = group(a), group(b, view=1)
      found = source._moved(jnp.asarray(start), anchors, (keys,), compared(same_set=False))
      np.testing.assert_allclose(found, kept[f"case{case['case']}_out_noise"], rtol=0, atol=1e-12)
  assert len(cases) == 4


def test_noise_is_normal_and_drawn_by_number_and_key(float64):
  anchors = two_views()
  (many,) = made(noise(count=4000, steps=0, size=1.0, temperature=1.0), anchors, (anchors,))
  np.testing.assert_allclose(many.vectors.mean(0), 0, atol=0.06)
  np.testing.assert_allclose(np.cov(many.vectors.T), np.eye(D), atol=0.1)
  few = noise(count=3, steps=0, size=1.0, temperature=1.0)
  np.testing.assert_array_equal(made(few, anchors, (anchors,))[0].vectors, many.vectors[:3])
  assert not np.allclose(made(few, anchors, (anchors,), key=1)[0].vectors, many.vectors[:3])


def test_noise_does_not_depend_on_the_order_of_rows(float64):
  source = noise(count=3, steps=2, size=0.3, temperature=0.1)
  one, order = two_views(), np.random.default_rng(0).permutation(2 * N)
  other = jax.tree.map(lambda x: x[order], one)
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

  np.testing.assert_array_equal(jax.grad(total)(anchors.vectors), 0)


def test_noise_moves_however_small_its_share_of_the_softmax():
  """Anchors that agree with their keys, τ = 0.02: shares of noise are about e^−30 and less."""
  both = group(np.float32(normal(0, N, D)))
  both = Group(jnp.tile(both.vectors, (2, 1)), two_views().side)
  still = noise(count=4, steps=0, size=0.1, temperature=0.02)
  moving = noise(count=4, steps=1, size=0.1, temperature=0.02)
  (start,), (found,) = (made(source, both, (both,)) for source in (still, moving))
  np.testing.assert_allclose(np.linalg.norm(found.vectors - start.vectors, axis=1), 0.1, rtol=1e-3)


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


def log_p(anchors, own, k, tau, score):
  """log p(j | k) of each key k over anchors, −∞ for itself: [keys, anchors]."""
  logits = score(k, anchors.vectors) / tau
  same = [own.side[name][:, None] == anchors.side[name] for name in ("index", "view")]
  return jax.nn.log_softmax(jnp.where(same[0] & same[1], -jnp.inf, logits), axis=1)


def own_keys(n=N):
  """Of each of the 2n vectors the other view."""
  both = two_views(n)
  return jax.tree.map(lambda x: jnp.roll(x, n, 0), both)


W = jnp.asarray(normal(9, D, D))
SCORES = {
  "cosine": (cosine(), (), lambda k, a: _unit(k) @ _unit(a).T),
  "dot": (dot(), (), lambda k, a: k @ a.T),
  "bilinear": (bilinear(), W, lambda k, a: k @ (a @ W).T),
}


WAYS = pytest.mark.parametrize(
  ("name", "plan"),
  [*((name, Plan("dense")) for name in SCORES), ("bilinear", Plan((4, 3)))],
  ids=[*SCORES, "tiles"],
)


def _unit(x):
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def lost_by_formula(both, keys, radius, tau, score):
  def surprise(k):
    found = jnp.exp(log_p(both, keys, k, tau, score))
    return -jnp.log((found * (both.side["index"] == both.side["index"][:, None])).sum(1)).sum()

  length = jnp.linalg.norm(keys.vectors, axis=1, keepdims=True)
  return keys.vectors + radius * length * _unit(jax.jit(jax.grad(surprise))(keys.vectors))


@WAYS
def test_a_negative_is_the_key_moved_to_where_it_is_less_likely(float64, name, plan):
  both, keys, (score, params, formula) = two_views(), own_keys(), SCORES[name]
  source = adversarial_negatives(radius=0.2, temperature=0.3)
  compare = compared(score=score, params=params, plan=plan)
  (found,) = made(source, both, (both,), compare)
  expected = lost_by_formula(both, keys, 0.2, 0.3, formula)
  np.testing.assert_allclose(found.vectors[:, 0], expected, rtol=1e-9)
  pairs = same_example()({n: x[:, None] for n, x in both.side.items()}, found.side, 0.0)
  assert pairs.negative.all() and not pairs.positive.any()
  np.testing.assert_array_equal(found.side["as_negative"], 1)
  np.testing.assert_array_equal(found.side["as_positive"], 0)


def test_a_negative_is_moved_where_its_likelihood_rounds_to_one():
  """τ = 0.02 in float32: 1 − p is 0, and so would the gradient of log p be."""
  with jax.enable_x64(True):
    anchors, keys = group(5 * np.eye(D)), group(np.eye(D) + 0.1 * normal(1, D, D), view=1)
    source = adversarial_negatives(radius=0.2, temperature=0.02)
    (expected,) = made(source, anchors, (keys,), compared(same_set=False))
    p = jnp.exp(log_p(anchors, keys, keys.vectors, 0.02, SCORES["cosine"][2]))
    assert (1 - jnp.diag(p) < 1e-8).all()
    expected = np.asarray(expected.vectors)
  anchors, keys = jax.tree.map(lambda x: jnp.float32(x), (anchors, keys))
  (found,) = made(source, anchors, (keys,), compared(same_set=False))
  assert found.vectors.dtype == jnp.float32
  np.testing.assert_allclose(found.vectors, expected, atol=1e-4)


@WAYS
def test_a_positive_is_moved_away_and_back_along_the_divergence(float64, name, plan):
  both, keys, (score, params, formula) = two_views(), own_keys(), SCORES[name]
  radius, size, tau = 0.8, 0.1, 0.3 if name == "cosine" else 3.0  # p is not 1
  before = log_p(both, keys, keys.vectors, tau, formula)
  length = jnp.linalg.norm(keys.vectors, axis=1, keepdims=True)

  @jax.jit
  @jax.value_and_grad
  def divergence(k):
    after = log_p(both, keys, k, tau, formula)
    some = before > -jnp.inf
    return jnp.where(some, jnp.exp(before) * jnp.where(some, before - after, 0), 0).sum()

  moved, fell = lost_by_formula(both, keys, radius, tau, formula), []
  for steps in range(3):
    source = adversarial_positives(radius=radius, size=size, steps=steps, temperature=tau)
    (found,) = made(source, both, (both,), compared(score=score, params=params, plan=plan))
    np.testing.assert_allclose(found.vectors[:, 0], moved, rtol=1e-8)
    value, slope = divergence(moved)
    fell.append(value)
    moved = moved - size * length * _unit(slope)
  assert fell[0] > fell[1] > fell[2] > 0


@pytest.mark.parametrize("relation", [same_example(), same_label()], ids=["example", "label"])
def test_a_made_positive_is_its_anchors_alone(float64, relation):
  both = two_views()
  source = adversarial_positives(radius=0.5, size=0.1, temperature=0.3)
  (found,) = made(source, both, (both,), compared(relation))
  assert found.vectors.shape == (2 * N, 1, D)
  np.testing.assert_array_equal(found.side["label"][:, 0], both.side["label"])
  np.testing.assert_array_equal(found.side["index"][:, 0], both.side["index"])
  np.testing.assert_array_equal(found.side["as_positive"], 1)
  np.testing.assert_array_equal(found.side["as_negative"], 0)
  pairs = relation({n: x[:, None] for n, x in both.side.items()}, found.side, 0.0)
  assert pairs.positive.all()


@pytest.mark.parametrize(
  ("source", "side"),
  [
    (adversarial_negatives(radius=0.2, temperature=0.3), "as_negative"),
    (adversarial_positives(radius=0.2, size=0.1, temperature=0.3), "as_positive"),
  ],
)
def test_without_a_key_nothing_is_made_and_nothing_has_a_gradient(float64, source, side):
  anchors, keys = group(normal(0, N, D)), group(normal(1, N, D), view=1)
  keys = keys.attach(index=jnp.array([3, 2, 9, 0, 5, 4]))  # none of example 1
  compare = compared(same_set=False)
  (found,) = made(source, anchors, (keys,), compare)
  np.testing.assert_array_equal(found.side[side][:, 0], [1, 0, 1, 1, 1, 1])
  assert np.isfinite(found.vectors).all()
  own = keys.vectors[np.array([3, 3, 1, 0, 5, 4])]  # moved by a fifth at most, twice
  far = np.linalg.norm(found.vectors[:, 0] - own, axis=1) / np.linalg.norm(own, axis=1)
  assert (np.delete(far, 1) < 0.31).all()

  def total(a, k):
    a, k = Group(a, anchors.side), Group(k, keys.side)
    return (made(source, a, (k,), compare)[0].vectors ** 3).sum()

  for gradient in jax.grad(total, (0, 1))(anchors.vectors, keys.vectors):
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
  "source",
  [
    adversarial_negatives(radius=0.2, temperature=0.3),
    adversarial_positives(radius=0.2, size=0.1, temperature=0.3),
    supremix(negatives=3, positives=2, alpha=2.0),
  ],
)
def test_what_is_made_does_not_depend_on_the_order_of_rows(float64, source):
  one, order = two_views(), np.random.default_rng(0).permutation(2 * N)
  other = jax.tree.map(lambda x: x[order], one)
  found, again = made(source, one, (one,)), made(source, other, (other,))
  found = jax.tree.map(lambda x: x[order], found)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), again, found)


@pytest.mark.parametrize(
  "source",
  [
    noise(count=3, steps=2, size=0.1, temperature=0.3),
    adversarial_negatives(radius=0.2, temperature=0.3),
    adversarial_positives(radius=0.2, size=0.1, temperature=0.3),
    supremix(negatives=3, positives=2, alpha=2.0),
  ],
)
def test_half_precision_is_kept_and_loses_little(source):
  both = two_views()
  whole, half = (
    Group(both.vectors.astype(jnp.bfloat16).astype(dtype), both.side)
    for dtype in (jnp.float32, jnp.bfloat16)
  )
  expected, found = (made(source, both, (both,)) for both in (whole, half))
  for x, y in zip(found, expected, strict=True):
    assert x.vectors.dtype == jnp.bfloat16
    if not isinstance(source, adversarial_positives):  # a step back is as long where KL is flat
      np.testing.assert_allclose(jnp.float32(x.vectors), y.vectors, atol=0.05)


# Mixes by label.


def mixes(both, keys=None, **options):
  source = supremix(**{"negatives": 0, "positives": 0, "alpha": 2.0, **options})
  compare = compared(same_label(), same_set=keys is None)
  return made(source, both, (both if keys is None else keys,), compare)


def test_a_mixed_negative_has_its_part_of_both_labels(float64):
  both = two_views()
  (found,) = mixes(both, negatives=60, alpha=2.0, beta=8.0)
  found, z = jax.tree.map(np.asarray, found), unit(np.asarray(both.vectors))
  y = np.asarray(both.side["label"])
  shares, seen = [], set()
  for i in range(2 * N):
    for vector, label in zip(found.vectors[i], found.side["label"][i], strict=True):
      hits = []
      for j in np.flatnonzero(y != y[i]):
        share = (label - y[j]) / (y[i] - y[j])
        if np.abs(unit(share * z[i] + (1 - share) * z[j]) - vector).max() < 1e-9:
          hits.append(j)
          shares.append(share)
      assert len(hits) == 1
      seen.add((i, *hits))
  assert min(shares) > 0 and max(shares) < 1
  np.testing.assert_allclose(np.mean(shares), 0.2, atol=0.02)
  assert len(seen) == (y[:, None] != y).sum()  # every negative is drawn
  np.testing.assert_array_equal(found.side["as_negative"], 1)
  np.testing.assert_array_equal(found.side["as_positive"], 0)
  np.testing.assert_array_equal(found.side["index"], -1)


@pytest.mark.parametrize("window", [np.inf, 1.6])
def test_a_mixed_positive_has_the_anchors_label_exactly(float64, window):
  both = two_views()
  (found,) = mixes(both, positives=80, window=window)
  found, z = jax.tree.map(np.asarray, found), unit(np.asarray(both.vectors))
  y = np.asarray(both.side["label"])
  np.testing.assert_array_equal(found.side["label"], np.broadcast_to(y[:, None], (2 * N, 80)))
  np.testing.assert_array_equal(found.side["as_negative"], 0)
  seen = 0
  for i in range(2 * N):
    near = np.abs(y - y[i]) < window
    pairs = {}
    for j in np.flatnonzero(near & (y < y[i])):
      for k in np.flatnonzero(near & (y > y[i])):
        share = (y[k] - y[i]) / (y[k] - y[j])
        pairs[j, k] = unit(share * z[j] + (1 - share) * z[k])
    np.testing.assert_array_equal(found.side["as_positive"][i], float(bool(pairs)))
    drawn = set()
    for vector in found.vectors[i] if pairs else ():
      hits = [pair for pair, x in pairs.items() if np.abs(x - vector).max() < 1e-9]
      assert len(hits) == 1
      drawn.update(hits)
    assert len(drawn) >= 0.6 * len(pairs)
    seen += len(pairs)
  assert seen == {np.inf: 128, 1.6: 104}[window]


def test_relations_see_mixes_as_they_are_meant(float64):
  both = two_views()
  negative, positive = mixes(both, negatives=8, positives=8)
  a = {name: x[:, None] for name, x in both.side.items()}
  relation = same_label() & label_distance()
  pairs = relation(a, positive.side, 0.0)
  assert (pairs.positive == 1).all() and not pairs.negative.any()
  pairs = relation(a, negative.side, 0.0)
  assert not pairs.positive.any()
  expected = 1 + np.abs(a["label"] - negative.side["label"])
  np.testing.assert_allclose(pairs.negative, expected, rtol=1e-12)
  assert (expected > 1).all()


def test_where_there_is_nothing_to_mix_mixes_weigh_nothing(float64):
  both = two_views(labels=np.ones(N))
  for found in mixes(both, negatives=4, positives=4):
    np.testing.assert_array_equal(found.side["as_negative"], 0)
    np.testing.assert_array_equal(found.side["as_positive"], 0)
    assert np.isfinite(found.vectors).all()
  both = two_views()
  for window in (1e-300, 1.0):  # of 1.0, say, 2.0 is 1 away, and that is not within
    (found,) = mixes(both, positives=4, window=window)
    np.testing.assert_array_equal(found.side["as_positive"], 0)
  (found,) = mixes(both, positives=4, window=1.01)
  expected = [[0], [1], [1], [0], [1], [1]]
  np.testing.assert_array_equal(found.side["as_positive"], np.tile(expected, (2, 4)))


def test_mixes_are_of_keys_drawn_by_example_and_have_no_gradient(float64):
  anchors = group(normal(0, N, D), label=LABELS)
  keys = group(normal(1, N, D), view=1, label=LABELS, as_negative=0.0)
  (found,) = mixes(anchors, keys, negatives=5)
  same, apart = (anchors.side["label"][:, None] == x for x in (LABELS, found.side["label"]))
  assert same.any() and not apart.any()
  fewer = jax.tree.map(lambda x: x[2:4], anchors)
  (again,) = mixes(fewer, keys, negatives=5)
  np.testing.assert_allclose(again.vectors, found.vectors[2:4], rtol=1e-12)
  other = supremix(negatives=5, positives=0, alpha=2.0)
  (moved,) = made(other, anchors, (keys,), compared(same_label(), same_set=False), key=1)
  assert not np.allclose(moved.vectors, found.vectors)

  def total(a, k, y):
    a, k = Group(a, anchors.side).attach(label=y), Group(k, keys.side).attach(label=y)
    negative, positive = mixes(a, k, negatives=5, positives=5)
    return ((negative.vectors + positive.vectors) ** 3).sum() + negative.side["label"].sum()

  given = anchors.vectors, keys.vectors, anchors.side["label"]
  for gradient in jax.grad(total, (0, 1, 2))(*given):
    np.testing.assert_array_equal(gradient, 0)


# Refusals.


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (lambda: noise(count=0, steps=1, size=1, temperature=1), "noise: count must be an integer of at least 1, not 0"),
    (lambda: noise(count=1, steps=-1, size=1, temperature=1), "noise: steps must be an integer of at least 0, not -1"),
    (lambda: noise(count=1, steps=1, size=0, temperature=1), "noise: size must be a number above 0, not 0"),
    (lambda: noise(count=1, steps=1, size=1, temperature="a"), "noise: temperature must be a number above 0, not 'a'"),
    (lambda: adversarial_negatives(radius=-1, temperature=1), "adversarial_negatives: radius must be a number above 0, not -1"),
    (lambda: adversarial_negatives(radius=1, temperature=0), "temperature must be a number above 0, not 0"),
    (lambda: adversarial_positives(radius=1, size=np.nan, temperature=1), "adversarial_positives: size must be a number above 0, not nan"),
    (lambda: adversarial_positives(radius=1, size=1, temperature=1, steps=1.5), "steps must be an integer of at least 0, not 1.5"),
    (lambda: supremix(negatives=-1, positives=2, alpha=1), "supremix: negatives must be an integer of at least 0, not -1"),
    (lambda: supremix(negatives=0, positives=0, alpha=1), "mixes nothing with negatives = positives = 0; leave it out"),
    (lambda: supremix(negatives=1, positives=0, alpha=0), "supremix: alpha must be a number above 0, not 0"),
    (lambda: supremix(negatives=1, positives=0, alpha=None), "supremix: alpha must be a number above 0, not None"),
    (lambda: supremix(negatives=1, positives=0, alpha=1, beta=-2), "supremix: beta must be a number above 0, not -2"),
    (lambda: supremix(negatives=1, positives=0, alpha=1, window=0), "supremix: window must be a number above 0, not 0"),
    (lambda: mixes(two_views(labels=np.arange(N)), negatives=1), "mixes labels, but those of the data are int"),
    (lambda: mixes(group(normal(0, N, D)), negatives=1), "but the data have none; give numbers as float32 'label'"),
  ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(wrong, message):
  with pytest.raises(UserError) as raised:
    wrong()
  assert message in str(raised.value)
  assert "\n" not in str(raised.value)


# In a method.

BATCH = {
  "index": jnp.arange(N, dtype=jnp.int32),
  "image": jnp.asarray(np.random.default_rng(0).uniform(size=(N, 8, 8, 1)), jnp.float32),
  "label": jnp.asarray(LABELS, jnp.float32),
}


def metrics_of(kind, **parts):
  """The metrics of one objective under jit, whose gradient is finite."""
  head = encoders.projection((8,), D)
  method = kind(
    encoder=encoders.mlp((8,)), projection=head, views=views.affine_jitter(), examples=N, **parts
  )
  params, state = method.init(jax.random.key(0), BATCH)

  def run(params):
    return method.objective(params, state, BATCH, jax.random.key(1))

  (loss, (_, metrics)), gradient = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
  assert np.isfinite(loss) and loss > 0
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
  return {name: float(x) for name, x in metrics.items()}


@pytest.mark.parametrize(
  ("source", "more"),
  [
    (noise(count=5, steps=2, size=1e-3, temperature=0.1), 5),
    (adversarial_negatives(radius=0.2, temperature=0.1), 1),
    (adversarial_positives(radius=0.5, size=0.2, temperature=0.1), 0),
  ],
)
@pytest.mark.parametrize("kind", [methods.SimCLR, methods.MoCo])
def test_in_a_method_there_are_more_candidates(kind, source, more):
  left = in_batch() + queue(2 * N)
  without, found = metrics_of(kind, negatives=left), metrics_of(kind, negatives=left + source)
  np.testing.assert_allclose(found["negatives"], without["negatives"] + more, rtol=1e-6)
  assert found["loss"] > without["loss"]  # a further negative, or a positive that is less similar


def test_in_a_method_of_numbers_mixes_join_the_distances():
  relation = same_label() & label_distance()

  def run(*sources):
    return metrics_of(methods.SimCLR, negatives=sum(sources, in_batch()), relation=relation)

  distance = np.abs(LABELS[:, None] - LABELS)
  expected = 2 * np.where(distance > 0, 1 + distance, 0).sum(1).mean()
  without = run()
  np.testing.assert_allclose(without["negatives"], expected, rtol=1e-6)
  positive = run(supremix(negatives=0, positives=3, alpha=2.0))
  np.testing.assert_allclose(positive["negatives"], expected, rtol=1e-6)
  assert positive["similarity"] != pytest.approx(without["similarity"], abs=1e-4)
  negative = run(supremix(negatives=4, positives=3, alpha=2.0, window=2.0))
  assert expected + 4 < negative["negatives"] < expected + 4 * (1 + distance.max())
  assert negative["effective_negatives"] > without["effective_negatives"]


# On several devices.


def on_devices(devices):
  """How far what is made by a mesh, in a ring of tiles, is from what one device makes, densely."""
  from jax.sharding import AxisType, NamedSharding, PartitionSpec

  mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
  both = two_views(8)
  divided = jax.device_put(both, NamedSharding(mesh, PartitionSpec("data")))
  found = {}
  for source in (
    noise(count=3, steps=2, size=0.1, temperature=0.3),
    adversarial_negatives(radius=0.2, temperature=0.3),
    adversarial_positives(radius=0.2, size=0.1, temperature=0.3),
    supremix(negatives=3, positives=2, alpha=2.0),
  ):

    def candidates(both, plan, source=source):
      same = Group(both.vectors, both.side)
      return source.candidates(
        (), same, (same,), jax.random.key(0), compared(same_label(), plan=plan)
      )[1]

    expected = candidates(both, Plan("dense"))
    ring = jax.jit(lambda x, make=candidates: make(x, Plan((3, 2), mesh)))(divided)
    apart = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), ring, expected)
    found[type(source).__name__] = max(float(x) for x in jax.tree.leaves(apart))
  return found


def test_several_devices_make_the_same():
  found = processes.measured(__file__, devices=4)
  assert len(found) == 4
  assert max(found.values()) < 1e-10, found


if __name__ == "__main__":
  print(json.dumps(on_devices(4)))
