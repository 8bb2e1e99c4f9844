"""Tiles: the results and gradients of the dense evaluation, in memory that is linear.

What the dense evaluation gives is compared with NumPy in test_pairwise.py; a ring of devices
with one device in test_mesh.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import criteria
from contrastax.core import Group, Score
from contrastax.pairwise import (
  Plan,
  bilinear,
  cosine,
  count,
  dot,
  log_sum_exp,
  max_,
  min_,
  multilinear,
  negative_squared_distance,
  reduce,
  reductions,
  softmax_mean,
  sum_,
)
from contrastax.relations import same_label

DENSE = Plan("dense")


# A problem that looks at everything.


@dataclasses.dataclass(frozen=True)
class Quantities:
  """Channels that look at all they are given, treat the two roles differently, and leave out."""

  def __call__(self, similarity, a, c, shared):
    logit = shared["scale"] * similarity / a["tau"] + a["bias"] * c["bias"]
    other = a["label"] != c["label"]
    return {
      "log": jnp.where(other, logit, -jnp.inf),
      "mean": (logit * c["tau"], similarity + c["bias"] + shared["shift"]),
      "sum": jnp.where(other, 0, c["bias"] * logit),
      "most": logit,
      "least": jnp.where(other, logit, jnp.inf),
      "count": other,
      "top": similarity * c["tau"],
    }


ROWS = {
  "log": log_sum_exp,
  "mean": softmax_mean,
  "sum": sum_,
  "most": max_,
  "least": min_,
  "count": count,
  "top": reductions.top_k(4),
}
FEW = {name: ROWS[name] for name in ("log", "mean", "most")}
FEWER = {"log": log_sum_exp}
N = 11


def group(seed, *shape, d=3):
  rng = np.random.default_rng(seed)
  side = {
    "tau": rng.uniform(0.5, 2, shape),
    "bias": rng.normal(size=shape),
    "label": rng.integers(0, 3, shape),
  }
  return Group(rng.normal(size=(*shape, d)), side)


def problem(*groups, score_params=()):
  shared = {"scale": np.float64(1.5), "shift": np.float64(0.3)}
  return group(0, N), groups, score_params, shared


def is_float(x):
  return jnp.issubdtype(x.dtype, jnp.floating)


def weighed(tree):
  """A sum in which every entry of every float result counts differently."""
  leaves = list(filter(is_float, jax.tree.leaves(tree)))
  return sum(
    (jnp.cos(1.0 + i + jnp.arange(x.size)) * x.ravel()).sum() for i, x in enumerate(leaves)
  )


@functools.partial(jax.jit, static_argnames=("wanted", "reductions", "options"))
def evaluated(arguments, *, wanted=(0, 1, 2, 3), reductions, options):
  """The results, and the gradients of the arguments of number `wanted`."""

  def total(*some):
    full = list(arguments)
    for at, argument in zip(wanted, some, strict=True):
      full[at] = argument
    anchors, groups, score_params, shared = full
    out = reduce(
      Quantities(), anchors, groups, score_params=score_params, shared=shared, reductions=dict(reductions),
      **dict(options),
    )  # fmt: skip
    return weighed(out), out

  some = tuple(arguments[at] for at in wanted)
  of_argument = range(len(some))
  gradients, out = jax.grad(total, of_argument, has_aux=True, allow_int=True)(*some)
  return out, [g for g in jax.tree.leaves(gradients) if g.dtype != jax.dtypes.float0]


def found(arguments, plan, *, reductions=FEW, wanted=(0, 1, 2, 3), score=dot(), **options):
  options = tuple({"plan": plan, "score": score, **options}.items())
  return evaluated(arguments, reductions=tuple(reductions.items()), wanted=wanted, options=options)


def assert_same(one, other, rtol=1e-12):
  """Relative to each array's largest entry."""

  def compare(x, y):
    x, y = np.asarray(x), np.asarray(y)
    some = np.isfinite(y)
    np.testing.assert_array_equal(x[~some], y[~some])
    scale = max(1e-3, np.abs(y[some]).max(initial=0))
    np.testing.assert_allclose(x[some], y[some], rtol=0, atol=rtol * scale)

  jax.tree.map(compare, one, other)


# The same as dense.

BLOCKS = {
  "ragged": (4, 3),
  "larger than the sets": 64,
  "one pair": 1,
  "all anchors, few candidates": (64, 2),
  "few anchors, all candidates": (3, 64),
  "without padding": (11, 1),
}
full = pytest.mark.full


def each_block(*by_default):
  return pytest.mark.parametrize(
    "block",
    [pytest.param(b, id=n, marks=() if n in by_default else full) for n, b in BLOCKS.items()],
  )


@each_block("ragged", "larger than the sets")
def test_all_reductions_of_several_groups(float64, block):
  arguments = problem(group(1, N), group(2, 5), group(3, N, 2))
  assert_same(
    found(arguments, Plan(block), reductions=ROWS), found(arguments, DENSE, reductions=ROWS)
  )


@each_block("ragged")
def test_both_directions_each_with_its_own_temperature(float64, block):
  arguments = problem(group(1, 9), group(2, N, 2))
  found_both = functools.partial(found, arguments, both=True)
  assert_same(found_both(Plan(block)), found_both(DENSE))


@each_block()
def test_all_reductions_in_both_directions(float64, block):
  arguments = problem(group(1, N), group(2, 5), group(3, N, 2))
  found_both = functools.partial(found, arguments, both=True, reductions=ROWS)
  assert_same(found_both(Plan(block)), found_both(DENSE))


def own_set(anchors, *others):
  """The anchors' vectors as the first group, which carries sides of its own."""
  arguments = problem(Group(anchors.vectors, group(9, N).side), *others)
  return anchors, *arguments[1:]


def same(arguments, plan, same_set, **options):
  """The results, and gradients of anchors and of the group that says the same, as one."""
  anchors, (keys, *others), *rest = arguments
  del keys

  @jax.jit
  def total(vectors, side, own_side, others, rest):
    out = reduce(
      Quantities(), Group(vectors, side), (Group(vectors, own_side), *others),
      score_params=rest[0], shared=rest[1], plan=plan, same_set=same_set, **options,
    )  # fmt: skip
    return weighed(out), out

  gradient = jax.jit(jax.grad(total, range(5), has_aux=True, allow_int=True))
  keys_side = arguments[1][0].side
  of_all, out = gradient(anchors.vectors, anchors.side, keys_side, others, rest)
  return out, [g for g in jax.tree.leaves(of_all) if g.dtype != jax.dtypes.float0]


@dataclasses.dataclass(frozen=True)
class Skewed(Score):
  """A score of a user's own: not symmetric, in no two parts, and without a value at zero."""

  def __call__(self, params, anchors, candidates):
    a, c = anchors[:, None], candidates if candidates.ndim == 3 else candidates[None]
    product = jnp.tanh(params * a[..., 0] * c[..., 1]) + a[..., 1] * c[..., 2] ** 2
    return product / jnp.linalg.norm(a, axis=-1) / (1 + jnp.linalg.norm(c, axis=-1))


SCORES = {
  "symmetric": (cosine(), ()),
  "bilinear": (bilinear(), np.random.default_rng(4).normal(size=(3, 3))),
  "a user's own": (Skewed(), np.float64(0.7)),
}


@pytest.mark.parametrize(
  "score", ["symmetric", "a user's own", pytest.param("bilinear", marks=full)]
)
@pytest.mark.parametrize("block", [(4, 3), pytest.param(64, marks=full)])
def test_the_anchors_own_set(float64, score, block):
  """Known to be the same or not, with a symmetric score, which halves the work, or not."""
  score, params = SCORES[score]
  anchors, groups, _, shared = own_set(group(0, N), group(2, 5))
  arguments = anchors, groups, params, shared
  expected = same(arguments, DENSE, False, score=score, reductions=FEW)
  assert all(np.abs(part).max() > 1e-3 for part in expected[1])
  assert_same(same(arguments, Plan(block), True, score=score, reductions=FEW), expected)
  if score == cosine():
    assert_same(same(arguments, DENSE, True, score=score, reductions=FEW), expected)


@full
@pytest.mark.parametrize("block", [(4, 3), 1, 64, (3, 64)])
def test_the_anchors_own_set_in_both_directions(float64, block):
  arguments = own_set(group(0, N), group(2, 5))
  expected = same(arguments, DENSE, False, score=dot(), reductions=ROWS, both=True)
  assert_same(same(arguments, Plan(block), True, score=dot(), reductions=ROWS, both=True), expected)


@full
@pytest.mark.parametrize("block", [(4, 3), 1, 64, (3, 64)])
def test_all_reductions_of_the_anchors_own_set(float64, block):
  arguments = own_set(group(0, N), group(2, 5))
  expected = same(arguments, DENSE, False, score=dot(), reductions=ROWS)
  assert_same(same(arguments, Plan(block), True, score=dot(), reductions=ROWS), expected)


@pytest.mark.parametrize(
  "score",
  [negative_squared_distance(), *(pytest.param(s, marks=full) for s in (cosine(), multilinear(2)))],
  ids=lambda score: type(score).__name__,
)
def test_scores_in_tiles(float64, score):
  wide = 6 if score == multilinear(2) else 3
  arguments = problem(group(1, 7, d=wide), group(3, N, 2, d=wide))
  options = {"reductions": FEWER, "score": score}
  assert_same(found(arguments, Plan((4, 3)), **options), found(arguments, DENSE, **options))


@dataclasses.dataclass(frozen=True)
class TemperaturePerPair(Score):
  """cosine / τ(a, c), with log τ a small network of both vectors."""

  def init(self, key, d):
    keys = jax.random.split(key)
    return {
      "first": jax.random.normal(keys[0], (2, d, 5)),
      "second": 0.3 * jax.random.normal(keys[1], (5,)),
    }

  def __call__(self, params, anchors, candidates):
    of_a, of_c = anchors @ params["first"][0], candidates @ params["first"][1]
    hidden = jnp.tanh(of_a[:, None] + (of_c if candidates.ndim == 3 else of_c[None]))
    return cosine()((), anchors, candidates) * jnp.exp(-hidden @ params["second"])


def test_a_temperature_per_pair_is_a_score_with_parameters(float64):
  score = TemperaturePerPair()
  params = jax.tree.map(np.asarray, score.init(jax.random.key(0), 3))
  arguments = problem(group(1, 7), group(3, N, 2), score_params=params)
  tiled, dense = (found(arguments, p, reductions=FEW, score=score) for p in (Plan((4, 3)), DENSE))
  assert_same(tiled, dense)
  (of_params,) = [g for g in dense[1] if g.shape == (2, 3, 5)]
  assert np.abs(of_params).min() > 1e-3


def test_a_gradient_of_some_arguments_is_theirs_of_all(float64):
  arguments = problem(group(1, 7), group(2, 5), score_params=SCORES["bilinear"][1])
  options = {"reductions": FEWER, "score": bilinear(), "both": True}
  _, expected = found(arguments, DENSE, **options)
  sizes = [len(list(filter(is_float, jax.tree.leaves(argument)))) for argument in arguments]
  for wanted in ((1,), (2,), (0, 3)):
    _, gradients = found(arguments, Plan((4, 3)), wanted=wanted, **options)
    firsts = [sum(sizes[:at]) for at in wanted]
    theirs = [
      g
      for at, first in zip(wanted, firsts, strict=True)
      for g in expected[first : first + sizes[at]]
    ]
    assert gradients
    assert_same(gradients, theirs)


def test_a_gradient_of_one_array_of_a_group(float64):
  """The others, of the same group and of other groups, are constants."""
  anchors, (keys, queue), _, shared = problem(group(1, 7), group(2, 5))

  def gradient(plan):
    @jax.jit
    def total(bias):
      out = reduce(
        Quantities(), anchors, (keys, queue.attach(bias=bias)), score=dot(), reductions=FEW,
        shared=shared, plan=plan,
      )  # fmt: skip
      return weighed(out)

    return jax.grad(total)(queue.side["bias"])

  assert_same(gradient(Plan((4, 3))), gradient(DENSE))


def test_ties_across_tiles_and_groups_belong_to_the_first_candidate(float64):
  vectors = np.ones((1, 3))
  a, keys, queue = (Group(vectors.repeat(n, 0), {}) for n in (5, 7, 4))

  def channels(similarity, a, c, shared):
    return {"most": similarity, "least": similarity, "top": similarity}

  @functools.partial(jax.jit, static_argnums=1)
  def gradient(groups, plan):
    def total(groups):
      rows = {name: ROWS[name] for name in ("most", "least", "top")}
      out = reduce(channels, a, groups, score=dot(), reductions=rows, plan=plan)
      return out["most"].sum() + 2 * out["least"].sum(), out["top"][1]

    return jax.grad(total, has_aux=True)(groups)

  for plan in (DENSE, Plan(2), Plan((2, 3))):
    (of_keys, of_queue), places = gradient((keys, queue), plan)
    expected = np.zeros((7, 3))
    expected[0] = 15
    np.testing.assert_array_equal(of_keys.vectors, expected)
    np.testing.assert_array_equal(of_queue.vectors, np.zeros((4, 3)))
    np.testing.assert_array_equal(places, [[0, 1, 2, 3]] * 5)


def test_zero_vectors_in_tiles_that_are_padded(float64):
  """Padding is no zero vector, whose gradient would not be finite, and takes no part."""
  anchors, (keys,), *rest = problem(group(1, 7))
  anchors, keys = (
    Group(np.where(np.arange(len(g.vectors))[:, None] < 2, 0, g.vectors), g.side)
    for g in (anchors, keys)
  )
  arguments = anchors, (keys,), *rest
  options = {"reductions": FEW, "score": cosine()}
  tiled = found(arguments, Plan((4, 3)), **options)
  assert all(np.isfinite(g).all() for g in tiled[1])
  assert_same(tiled, found(arguments, DENSE, **options))


# Half precision.


def test_half_precision_vectors_in_tiles(float64):
  """Reductions and the sums of gradients are float32: as exact as at once, rounded once."""
  arguments = problem(group(1, 401), group(2, N, 3))
  arguments = group(0, N), *arguments[1:]

  def cast(dtype, of_vectors):
    def to(x):
      return jnp.asarray(x, dtype) if is_float(x) else x

    def group(g):
      return Group(jnp.asarray(g.vectors, jnp.bfloat16).astype(of_vectors), to_all(g.side))

    to_all = functools.partial(jax.tree.map, to)
    anchors, groups, *rest = arguments
    return group(anchors), tuple(map(group, groups)), *to_all(rest)

  options = {"reductions": FEWER, "score": cosine()}
  wide = cast(jnp.float64, jnp.float64)
  expected, of_wide = found(wide, DENSE, **options)
  for plan in (DENSE, Plan((4, 1))):
    values, gradients = found(cast(jnp.float32, jnp.bfloat16), plan, **options)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(values))
    assert_same(values, expected, rtol=3e-6)
    for one, exact in zip(gradients, of_wide, strict=True):
      assert_same(one.astype(float), exact, rtol=1e-2 if one.dtype == jnp.bfloat16 else 1e-5)
  assert sum(g.dtype == jnp.bfloat16 for g in gradients) == 3


# Memory and work: of the compiled programs, which do not run.


def supervised(n, m, plan, *, same_set=False, constant_queue=False, d=32):
  """InfoNCE by labels, with a queue and a temperature per anchor, and its gradient, compiled."""

  def total(vectors, keys, queue, tau, label, label_of_queue):
    queue = jax.lax.stop_gradient(queue) if constant_queue else queue

    def group(vectors, label):
      one, index = jnp.ones(label.shape), jnp.arange(label.size)
      side = {"index": index, "view": 0 * index, "label": label}
      return Group(vectors, {**side, "as_positive": one, "as_negative": one})

    anchors = group(vectors, label)
    keys = anchors if same_set else group(keys, label)
    value = criteria.evaluate(
      criteria.info_nce(), anchors, (keys, group(queue, label_of_queue)),
      relation=same_label(), temperature=tau,
      same_set=same_set, plan=plan,
    ).value  # fmt: skip
    return value.mean()

  def of(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)

  gradient = jax.jit(jax.value_and_grad(total, (0, 1, 2, 3)))
  labels = of(n, dtype=jnp.int32), of(m, dtype=jnp.int32)
  return gradient.lower(of(n, d), of(n, d), of(m, d), of(n), *labels).compile()


def temporaries(*arguments, **options):
  return supervised(*arguments, **options).memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
  "with_n",
  [pytest.param(False, id="fixed queue", marks=full), pytest.param(True, id="growing queue")],
)
def test_the_memory_of_tiles_is_linear(with_n):
  def growth(plan):
    few, many = (temporaries(n, n if with_n else 4096, plan) for n in (2048, 8192))
    return many / few

  assert growth(Plan(128)) < 4.5  # measured: 2.1 and 3.5
  assert growth(DENSE) > (12 if with_n else 6)  # measured: 13.8 and 8


def test_the_anchors_own_set_needs_a_tenth_of_the_memory_of_dense():
  tiled, dense = (temporaries(4096, 512, plan, same_set=True) for plan in (Plan(256), DENSE))
  assert tiled < dense / 10  # measured: 1/111


@pytest.mark.parametrize("plan", [DENSE, Plan(256)], ids=["dense", "tiled"])
def test_candidates_that_are_constant_cost_no_backward_pass(plan):
  """The product that gives their gradient; of tiles, the compiler counts one of each kind."""
  n, m, d = 1024, 2048, 32
  compiled = [supervised(n, m, plan, constant_queue=constant, d=d) for constant in (False, True)]
  flops = [program.cost_analysis()["flops"] for program in compiled]
  assert flops[0] - flops[1] > 2 * d * (n * m if plan is DENSE else 256 * 256)
  memory = [program.memory_analysis().temp_size_in_bytes for program in compiled]
  assert plan is DENSE or memory[1] < memory[0]
