"""The pairwise engine, its scores and reductions, and relations, against NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from contrastax.core import Group, Pairs
from contrastax.pairwise import (
  cosine,
  dot,
  log_sum_exp,
  negative_squared_distance,
  reduce,
  softmax_mean,
  sum_,
  unit,
)
from contrastax.positives import Relation, same_example

# Scores.

SCORES = {
  dot(): lambda a, c: a @ c,
  cosine(): lambda a, c: a @ c / np.linalg.norm(a) / np.linalg.norm(c),
  negative_squared_distance(): lambda a, c: -((a - c) ** 2).sum(),
}
each_score = pytest.mark.parametrize("score", SCORES, ids=lambda score: type(score).__name__)


@each_score
def test_scores_of_shared_candidates_and_of_a_set_per_anchor(float64, score):
  rng = np.random.default_rng(0)
  anchors, shared, own = (rng.normal(size=size) for size in ((4, 3), (5, 3), (4, 2, 3)))
  formula = SCORES[score]
  expected = [[formula(a, c) for c in shared] for a in anchors]
  np.testing.assert_allclose(score((), anchors, shared), expected, rtol=1e-12)
  expected = [[formula(a, c) for c in mine] for a, mine in zip(anchors, own, strict=True)]
  np.testing.assert_allclose(score((), anchors, own), expected, rtol=1e-12)
  assert score.init(jax.random.key(0), 3) == ()


@each_score
def test_products_of_half_precision_accumulate_in_float32(score):
  rng = np.random.default_rng(0)
  anchors, candidates = (jnp.asarray(rng.normal(size=(3, 64)), jnp.bfloat16) for _ in range(2))
  found = score((), anchors, candidates)
  assert found.dtype == jnp.float32
  exact = [[SCORES[score](a, c) for c in candidates.astype(float)] for a in anchors.astype(float)]
  np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


def test_a_cosine_is_a_cosine_for_vectors_of_any_length():
  rng = np.random.default_rng(0)
  anchors, candidates = (rng.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
  expected = cosine()((), anchors, candidates)
  for length in (1e-10, 1e-6, 1e15, 1e30):
    found = cosine()((), np.float32(length) * anchors, candidates)
    np.testing.assert_allclose(found, expected, atol=1e-6)
  itself = np.diag(cosine()((), anchors, anchors))
  np.testing.assert_allclose(itself, np.ones(4), atol=3e-7)


def test_a_vector_of_almost_no_length_has_no_direction_and_no_gradient():
  vectors = np.float32([[0, 0, 0], [9e-13, 0, 0], [1e-30, 1e-30, 0], [2e-12, 0, 0]])
  np.testing.assert_allclose(unit(vectors), [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
  gradient = jax.jit(jax.grad(lambda v: unit(v).sum()))(vectors)
  np.testing.assert_array_equal(gradient[:3], np.zeros((3, 3)))
  np.testing.assert_allclose(gradient[3], [0, 5e11, 5e11], rtol=1e-6)


def test_a_squared_distance_is_never_negative():
  points = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
  found = negative_squared_distance()((), points, points)
  assert found.max() <= 0
  np.testing.assert_allclose(np.diag(found), np.zeros(50), atol=1e-5)


# Reductions, fed piece by piece.

ROW = {
  sum_: np.sum,
  log_sum_exp: lambda x: np.log(np.exp(x).sum()),
  softmax_mean: lambda x, v: (
    np.log(np.exp(x).sum()),
    (np.exp(x) * v).sum() / np.exp(x).sum(),
  ),
}
"""Each reduction of one row, as NumPy would write it."""

each_reduction = pytest.mark.parametrize("reduction", ROW, ids=lambda r: type(r).__name__)


def of_row(reduction, row):
  return ROW[reduction](row, row**2) if reduction is softmax_mean else ROW[reduction](row)


def fed(reduction, pieces, axis=1):
  """A softmax mean is fed pairs (x, x²)."""
  state, place = reduction.empty(jnp.zeros(pieces[0].shape[1 - axis])), 0
  for x in pieces:
    piece = (x, jnp.where(x > -jnp.inf, x, 0) ** 2) if reduction is softmax_mean else x
    places = jnp.expand_dims(place + jnp.arange(x.shape[axis], dtype=jnp.int32), 1 - axis)
    state = reduction.merge(state, reduction.of(piece, places, axis))
    place += x.shape[axis]
  return reduction.finish(state)


@each_reduction
@pytest.mark.parametrize("axis", [0, 1])
def test_pieces_in_any_split_give_the_reduction_of_the_whole(float64, reduction, axis):
  x = 20 * np.random.default_rng(0).normal(size=(3, 7))
  expected = np.transpose([of_row(reduction, row) for row in x])

  @jax.jit
  def found(pairs):
    splits = [jnp.split(pairs, cuts, axis) for cuts in ([], [4], [1, 2, 5])]
    return [fed(reduction, order, axis) for s in splits for order in (s, s[::-1])]

  for result in found(x.T if axis == 0 else x):
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@each_reduction
def test_pairs_of_the_identity_take_no_part(float64, reduction):
  x = np.random.default_rng(0).normal(size=(3, 4))
  identity = reduction.identity[0] if reduction is softmax_mean else reduction.identity
  nothing = np.full((3, 2), identity)
  expected = np.transpose([of_row(reduction, row) for row in x])
  mixed = [nothing, x[:, :1], nothing, np.hstack([x[:, 1:], nothing])]
  np.testing.assert_allclose(fed(reduction, mixed), expected, rtol=1e-12)


def test_a_row_of_no_pairs_has_its_documented_value_and_no_gradient(float64):
  x = np.array([[-np.inf, -np.inf], [-np.inf, 2.0]])
  np.testing.assert_array_equal(fed(log_sum_exp, [x]), [-np.inf, 2])
  np.testing.assert_array_equal(fed(softmax_mean, [x]), [[-np.inf, 2], [0, 4]])
  for reduction in (log_sum_exp, softmax_mean):

    def total(x, reduction=reduction):
      return sum(jnp.sum(out) for out in jax.tree.leaves(fed(reduction, [x[:, :1], x[:, 1:]])))

    gradient = jax.jit(jax.grad(total))(x)
    weight = 1 if reduction is log_sum_exp else 5  # d(x + x²) at 2
    np.testing.assert_array_equal(gradient, [[0, 0], [0, weight]])


def test_large_and_small_numbers_neither_overflow_nor_vanish():
  x = np.float32([[1000, 999], [-1000, -1001]])
  expected = [1000 + np.log1p(np.exp(-1)), -1000 + np.log1p(np.exp(-1))]
  np.testing.assert_allclose(fed(log_sum_exp, [x]), expected, rtol=1e-7)
  np.testing.assert_allclose(fed(log_sum_exp, [x[:, :1], x[:, 1:]]), expected, rtol=1e-7)


# reduce: all pairs of anchors and groups.


@dataclasses.dataclass(frozen=True)
class Quantities:
  """Channels that look at all they are given, and treat the two roles differently."""

  slope: float

  def __call__(self, similarity, a, c, shared):
    logit = shared["scale"] * similarity / a["tau"] + self.slope * c["bias"]
    return {
      "sum": a["bias"] * similarity,
      "log": logit,
      "mean": (logit * c["tau"], similarity + c["bias"]),
      "candidates alone": c["bias"],
    }


ROWS = {
  "sum": sum_,
  "log": log_sum_exp,
  "mean": softmax_mean,
  "candidates alone": sum_,
}
SHARED = {"scale": np.float64(1.5)}


def problem():
  """Anchors, and three groups: two that all share, and one with a set per anchor."""
  rng = np.random.default_rng(0)

  def group(*shape):
    side = {"tau": rng.uniform(0.5, 2, shape), "bias": rng.normal(size=shape)}
    return Group(rng.normal(size=(*shape, 3)), side)

  return group(4), (group(5), group(2), group(4, 3))


def run(anchors, groups, shared=SHARED, **options):
  return reduce(Quantities(0.5), anchors, groups, score=dot(), rows=ROWS, shared=shared, **options)


def row_by_numpy(similarity, a, c):
  """All channels of one row, reduced: similarity and c's sides are [candidates], a's scalars."""
  logit = SHARED["scale"] * similarity / a["tau"] + 0.5 * c["bias"]
  x = {
    "sum": a["bias"] * similarity,
    "log": logit,
    "mean": (logit * c["tau"], similarity + c["bias"]),
    "candidates alone": c["bias"],
  }
  return {
    name: ROW[reduction](*x[name]) if reduction is softmax_mean else ROW[reduction](x[name])
    for name, reduction in ROWS.items()
  }


def assert_rows(found, expected):
  """`expected`: a list with the reductions of each row."""
  for name in ROWS:
    values = np.transpose([row[name] for row in expected])
    np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)


def assert_same(found, expected, rtol=1e-12):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-13), found, expected
  )


def test_rows_run_over_all_groups(float64):
  anchors, groups = problem()
  expected = []
  for i in range(4):
    mine = [jax.tree.map(lambda x, i=i: x[i], g) if g.per_anchor else g for g in groups]
    vectors = np.concatenate([g.vectors for g in mine])
    side = {k: np.concatenate([g.side[k] for g in mine]) for k in ("tau", "bias")}
    of_anchor = {k: anchors.side[k][i] for k in ("tau", "bias")}
    expected.append(row_by_numpy(vectors @ anchors.vectors[i], of_anchor, side))
  assert_rows(run(anchors, groups), expected)


def test_exchanged_roles_make_every_shared_candidate_an_anchor(float64):
  anchors, groups = problem()
  rows, columns = run(anchors, groups, both=True)
  assert_same(rows, run(anchors, groups))
  assert columns[2] is None  # a set per anchor has no columns
  for group, found in zip(groups[:2], columns, strict=False):
    assert_same(found, run(group, (anchors,)))
    expected = []
    for j, vector in enumerate(group.vectors):
      of_candidate = {k: group.side[k][j] for k in ("tau", "bias")}
      expected.append(row_by_numpy(anchors.vectors @ vector, of_candidate, anchors.side))
    assert_rows(found, expected)


def test_gradients_reach_vectors_sides_and_shared_numbers(float64):
  anchors, (_, keys, own) = problem()

  @jax.jit
  def all_of_it(anchors, groups, shared):
    rows, columns = run(anchors, groups, shared, both=True)
    return [jax.tree.leaves(part) for part in (rows, *columns)]

  check_grads(all_of_it, (anchors, (keys, own), SHARED), order=1, modes=["rev"], rtol=1e-6)


def test_where_a_group_is_cut_changes_nothing(float64):
  @jax.jit
  def found(anchors, groups):
    def weighed(anchors, groups):
      out = jax.tree.leaves(run(anchors, groups))
      return sum((np.arange(1, 5) * row).sum() for row in out), out

    return jax.grad(weighed, (0, 1), has_aux=True)(anchors, groups)

  def cut(group):
    """After the first candidate."""
    yield jax.tree.map(lambda x: x[:, :1] if group.per_anchor else x[:1], group)
    yield jax.tree.map(lambda x: x[:, 1:] if group.per_anchor else x[1:], group)

  anchors, (keys, _, own) = problem()
  groups = (keys, own)
  (of_anchors, of_groups), values = found(anchors, groups)
  pieces = tuple(piece for group in groups for piece in cut(group))
  (of_anchors_when_cut, of_pieces), values_when_cut = found(anchors, pieces)
  assert_same(values_when_cut, values)
  assert_same(of_anchors_when_cut, of_anchors)
  assert_same(of_pieces, tuple(piece for group in of_groups for piece in cut(group)))


def test_an_empty_group_changes_nothing(float64):
  anchors, (keys, *_) = problem()
  empty = jax.tree.map(lambda x: x[:0], keys)
  assert_same(run(anchors, (keys, empty)), run(anchors, (keys,)))


def test_same_set_is_a_hint_and_not_another_result(float64):
  anchors, (keys, *_) = problem()
  own = Group(anchors.vectors, {"tau": 2 * anchors.side["tau"], "bias": anchors.side["bias"] - 1})

  def weighed(vectors, same_set):
    a, c = Group(vectors, anchors.side), Group(vectors, own.side)
    out = jax.tree.leaves(run(a, (c, keys), same_set=same_set))
    return sum((np.arange(1, 5) * row).sum() for row in out)

  both = jax.jit(jax.value_and_grad(weighed), static_argnums=1)
  assert_same(both(anchors.vectors, True), both(anchors.vectors, False))


@dataclasses.dataclass(frozen=True)
class Others:
  """Everything but a vector itself."""

  def __call__(self, similarity, a, c, shared):
    return {"others": jnp.where(a["index"] == c["index"], -jnp.inf, similarity)}


def test_an_anchor_that_meets_only_itself_reduces_to_minus_infinity_without_a_gradient(float64):
  point = np.array([[1.0, 2.0]])

  def total(vectors):
    group = Group(vectors, {"index": np.zeros(1, int)})
    found = reduce(
      Others(), group, (group,), score=dot(), rows={"others": log_sum_exp}, same_set=True
    )
    return found["others"].sum()

  value, gradient = jax.value_and_grad(total)(point)
  assert value == -np.inf
  np.testing.assert_array_equal(gradient, np.zeros((1, 2)))


TRACED = []


@dataclasses.dataclass(frozen=True)
class Counted:
  """Channels that note when they are traced."""

  factor: float

  def __call__(self, similarity, a, c, shared):
    TRACED.append(self.factor)
    return {"x": self.factor * similarity}


def test_equal_channels_are_compiled_once():
  def gradient(factor, seed):
    vectors = np.random.default_rng(seed).normal(size=(3, 2)).astype(np.float32)

    def total(vectors):
      group = Group(vectors, {})
      channels = Counted(factor)  # a new object each time, equal to the last
      return reduce(channels, group, (group,), score=dot(), rows={"x": log_sum_exp})["x"].sum()

    return jax.grad(total)(vectors)

  del TRACED[:]
  first = gradient(2.0, seed=0)
  traces = len(TRACED)
  assert traces > 0
  assert np.abs(gradient(2.0, seed=1) - first).max() > 0.1
  assert len(TRACED) == traces
  gradient(3.0, seed=0)
  assert TRACED[traces:] and set(TRACED[traces:]) == {3.0}


def test_half_precision_vectors_reduce_in_float32():
  anchors, groups = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), problem())
  found = reduce(Others(), with_index(anchors), (with_index(groups[0]),), score=dot(),
                 rows={"others": log_sum_exp})  # fmt: skip
  assert found["others"].dtype == jnp.float32


def with_index(group):
  return Group(group.vectors, {"index": np.arange(len(group.vectors))})


# What a user can get wrong.


def longer_side(group):
  return Group(group.vectors, {**group.side, "bias": np.zeros(9)})


def flat(group):
  return Group(group.vectors[..., :2], group.side)


MISTAKES = {
  "no groups": (
    lambda a, g: (a, (), {}),
    "no candidate group; an anchor needs at least its keys",
  ),
  "other sides": (
    lambda a, g: (a, (g[0], Group(g[1].vectors, {"tau": g[1].side["tau"]})), {}),
    r"groups of one call carry the same sides: \['bias', 'tau'\] and \['tau'\]",
  ),
  "same_set": (
    lambda a, g: (a, g, {"same_set": True}),
    r"the keys are the anchors, but their shapes are \(5, 3\) and \(4, 3\)",
  ),
  "dimensions": (
    lambda a, g: (a, (flat(g[0]),), {}),
    r"has shape \(5, 2\) but expected \(None, 3\)",
  ),
  "sets of other anchors": (
    lambda a, g: (a, (jax.tree.map(lambda x: x[:3], g[2]),), {}),
    r"has shape \(3, 3, 3\) but expected \(4, None, 3\)",
  ),
  "anchors in sets": (lambda a, g: (g[2], g, {}), r"has rank 3 .* but expected 2"),
  "side of a group": (lambda a, g: (a, (longer_side(g[0]),), {}), "bias"),
  "side of the anchors": (lambda a, g: (longer_side(a), g, {}), "bias"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
  change, message = MISTAKES[name]
  anchors, groups, options = change(*problem())
  with pytest.raises((ValueError, AssertionError), match=message):
    run(anchors, groups, **options)


# Relations.


def pairs(relation, anchors, candidates):
  """The weights of all pairs: sides [n] and [m] -> [n, m], positive and negative."""
  a = {name: np.asarray(x)[:, None] for name, x in anchors.items()}
  c = {name: np.asarray(x)[None] for name, x in candidates.items()}
  return jax.tree.map(np.asarray, relation(a, c, jnp.zeros((a["index"].size, c["index"].size))))


ANCHORS = {"index": [0, 1, 2], "view": [0, 0, 1], "label": [0, 0, 1]}
CANDIDATES = {"index": [0, 1, 2, -1], "view": [1, 0, 0, 1], "label": [0, 0, 0, 1]}


def test_same_example_tells_positives_negatives_and_a_vector_itself():
  found = pairs(same_example(), ANCHORS, CANDIDATES)
  np.testing.assert_array_equal(found.positive, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]])
  np.testing.assert_array_equal(found.negative, [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]])


@dataclasses.dataclass(frozen=True)
class by_label(Relation):
  """Halves positives; of the negatives only those of another label remain."""

  def __call__(self, a, c, similarity):
    other = jnp.where(a["label"] == c["label"], 0.0, 1.0)
    return Pairs(jnp.full_like(other, 0.5), other)


def test_and_multiplies_both_weights():
  both = same_example() & by_label()
  found = pairs(both, ANCHORS, CANDIDATES)
  np.testing.assert_array_equal(found.positive, [[0.5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0.5, 0]])
  np.testing.assert_array_equal(found.negative, [[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0]])
  twice = pairs(both & by_label(), ANCHORS, CANDIDATES)
  np.testing.assert_array_equal(twice.positive, 0.5 * found.positive)
  assert both == same_example() & by_label()
  assert hash(both) == hash(same_example() & by_label())
