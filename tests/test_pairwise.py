"""The pairwise engine: scores, reductions, relations and what is refused, against NumPy.

That tiles give what the dense evaluation gives is in test_tiles.py, and what a ring of devices
gives in test_mesh.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from contrastax import criteria
from contrastax.core import Group, Pairs, Score
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
  unit,
)
from contrastax.relations import Relation, same_example, same_label

# Scores.

W = np.random.default_rng(5).normal(size=(3, 3))
SCORES = {
  dot(): lambda a, c: a @ c,
  cosine(): lambda a, c: a @ c / np.linalg.norm(a) / np.linalg.norm(c),
  negative_squared_distance(): lambda a, c: -((a - c) ** 2).sum(),
  bilinear(): lambda a, c: sum(a[d] * W[d, e] * c[e] for d in range(3) for e in range(3)),
  multilinear(2): lambda a, c: sum(a[d] * c[d] * c[len(a) + d] for d in range(len(a))),
}
each_score = pytest.mark.parametrize("score", SCORES, ids=lambda score: type(score).__name__)


def score_problem(score):
  """Parameters, anchors, shared candidates, and a set per anchor."""
  rng = np.random.default_rng(0)
  wide = 6 if score == multilinear(2) else 3
  vectors = (rng.normal(size=size) for size in ((4, 3), (5, wide), (4, 2, wide)))
  return W if score == bilinear() else (), *vectors


@each_score
def test_scores_of_shared_candidates_and_of_a_set_per_anchor(float64, score):
  params, anchors, shared, own = score_problem(score)
  formula = SCORES[score]
  expected = [[formula(a, c) for c in shared] for a in anchors]
  np.testing.assert_allclose(score(params, anchors, shared), expected, rtol=1e-12)
  expected = [[formula(a, c) for c in mine] for a, mine in zip(anchors, own, strict=True)]
  np.testing.assert_allclose(score(params, anchors, own), expected, rtol=1e-12)


@each_score
def test_gradients_of_scores(float64, score):
  both = jax.jit(lambda params, a, shared, own: (score(params, a, shared), score(params, a, own)))
  check_grads(both, score_problem(score), order=1, modes=["rev"], rtol=1e-6)


@each_score
def test_only_a_score_that_is_symmetric_says_so(float64, score):
  params, anchors, shared, _ = score_problem(score)
  if score.symmetric:
    there, back = score(params, anchors, shared), score(params, shared, anchors)
    np.testing.assert_allclose(there, back.T, rtol=1e-12)
  assert score.symmetric == (score not in (bilinear(), multilinear(2)))
  assert isinstance(score, Score)
  assert not score.has_temperature and score.penalized is None and score.regularizer == 0


def test_what_scores_begin_with():
  for score in SCORES:
    if score != bilinear():
      assert score.init(jax.random.key(0), 3) == ()
  np.testing.assert_array_equal(bilinear().init(jax.random.key(0), 3), np.eye(3))


@pytest.mark.parametrize("score", list(SCORES)[:3], ids=lambda score: type(score).__name__)
def test_products_of_half_precision_accumulate_in_float32(score):
  rng = np.random.default_rng(0)
  anchors, candidates = (jnp.asarray(rng.normal(size=(3, 64)), jnp.bfloat16) for _ in range(2))
  found = score((), anchors, candidates)
  assert found.dtype == jnp.float32
  exact = [[SCORES[score](a, c) for c in candidates.astype(float)] for a in anchors.astype(float)]
  np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1e-3, 1, 1e4])
def test_of_vectors_of_half_precision_a_cosine_is_exact_to_float32(length):
  """Rounding unit vectors to half precision again would cost 1e-3."""
  rng = np.random.default_rng(0)
  a, c = (jnp.asarray(length * rng.normal(size=(16, 128)), jnp.bfloat16) for _ in range(2))
  c = c.at[0].set(a[0])
  g = rng.normal(size=(16, 16))
  found, pull = jax.vjp(functools.partial(cosine(), ()), a, c)
  gradients = pull(jnp.asarray(g, jnp.float32))
  with jax.enable_x64(True):
    rounded = [np.asarray(vectors).astype(np.float64) for vectors in (a, c)]
    exact, pull = jax.vjp(functools.partial(cosine(), ()), *rounded)
    expected = [np.asarray(gradient) for gradient in pull(g)]
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, exact, rtol=0, atol=3e-7)  # measured: 1.2e-7
  for gradient, value in zip(gradients, expected, strict=True):
    assert gradient.dtype == jnp.bfloat16
    apart = np.abs(np.asarray(gradient, np.float64) - value).max()
    assert apart < 1e-2 * np.abs(value).max()  # measured: 5e-3, bfloat16 has 4e-3


def test_half_precision_vectors_of_no_length_have_cosine_0_and_no_gradient():
  vectors = jnp.asarray([[0, 0], [9e-13, 0], [1, 2]], jnp.bfloat16)
  found, pull = jax.vjp(lambda v: cosine()((), v, vectors[2:]), vectors)
  np.testing.assert_allclose(found[:, 0], [0, 0, 1], atol=3e-7)
  np.testing.assert_array_equal(pull(jnp.ones((3, 1)))[0][:2].astype(float), np.zeros((2, 2)))


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


def largest(k):
  def of(x):
    order = np.argsort(-x, kind="stable")[:k]
    return x[order], order

  return of


TOP = reductions.top_k(3)
ROW = {
  sum_: np.sum,
  count: np.count_nonzero,
  log_sum_exp: lambda x: np.log(np.exp(x).sum()),
  softmax_mean: lambda x, v: (
    np.log(np.exp(x).sum()),
    (np.exp(x) * v).sum() / np.exp(x).sum(),
  ),
  max_: np.max,
  min_: np.min,
  TOP: largest(3),
}
"""Each reduction of one row, as NumPy would write it."""

NAMES = dict(zip(ROW, ("sum", "count", "log_sum_exp", "softmax_mean", "max", "min", "top_k")))  # noqa: B905
each_reduction = pytest.mark.parametrize("reduction", ROW, ids=NAMES.get)
each_with_a_gradient = pytest.mark.parametrize(
  "reduction", [r for r in ROW if hasattr(r, "pull")], ids=NAMES.get
)


def of_row(reduction, row):
  return ROW[reduction](row, row**2) if reduction is softmax_mean else ROW[reduction](row)


def stacked(rows):
  """The results of rows as those of all rows at once."""
  return jax.tree.map(lambda *values: np.stack(values), *rows)


def numbered(pieces, axis):
  """The places of candidates that come one piece after another."""
  first = 0
  for x in pieces:
    yield jnp.expand_dims(first + jnp.arange(x.shape[axis], dtype=jnp.int32), 1 - axis)
    first += x.shape[axis]


def fed_state(reduction, pieces, axis=1, places=None):
  """A softmax mean is fed pairs (x, x²)."""
  state = reduction.empty(jnp.zeros(pieces[0].shape[1 - axis]))
  for x, where in zip(pieces, places or numbered(pieces, axis), strict=True):
    piece = (x, jnp.where(x > -jnp.inf, x, 0) ** 2) if reduction is softmax_mean else x
    state = reduction.merge(state, reduction.from_tile(piece, where, axis))
  return state


def fed(reduction, *arguments, **options):
  return reduction.finish(fed_state(reduction, *arguments, **options))


def assert_same(found, expected, rtol=1e-12):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-13), found, expected
  )


@each_reduction
@pytest.mark.parametrize("axis", [0, 1])
def test_pieces_in_any_split_and_order_give_the_reduction_of_the_whole(float64, reduction, axis):
  x = 20 * np.random.default_rng(0).normal(size=(3, 7))
  x[:, 3] = 0

  @jax.jit
  def found(pairs):
    results = []
    for cuts in ([], [4], [1, 2, 5]):
      pieces = jnp.split(pairs, cuts, axis)
      places = list(numbered(pieces, axis))
      results.append(fed(reduction, pieces, axis, places=places))
      results.append(fed(reduction, pieces[::-1], axis, places=places[::-1]))
    return results

  for result in found(x.T if axis == 0 else x):
    assert_same(result, stacked([of_row(reduction, row) for row in x]))


@each_reduction
def test_pairs_of_the_identity_take_no_part(float64, reduction):
  x = np.random.default_rng(0).normal(size=(3, 4))
  identity = reduction.identity[0] if reduction is softmax_mean else reduction.identity
  nothing = np.full((3, 2), identity)
  mixed = [nothing, x[:, :1], nothing, np.hstack([x[:, 1:], nothing])]
  places = [np.array([p]) for p in ([8, 9], [0], [6, 7], [1, 2, 3, 4, 5])]
  expected = stacked([of_row(reduction, row) for row in x])
  assert_same(fed(reduction, mixed, places=places), expected)


def test_a_row_of_no_pairs_has_its_documented_value_and_no_gradient(float64):
  x = np.array([[-np.inf, -np.inf], [-np.inf, 2.0]])
  np.testing.assert_array_equal(fed(log_sum_exp, [x]), [-np.inf, 2])
  np.testing.assert_array_equal(fed(softmax_mean, [x]), [[-np.inf, 2], [0, 4]])
  np.testing.assert_array_equal(fed(max_, [x]), [-np.inf, 2])
  np.testing.assert_array_equal(fed(min_, [-x]), [np.inf, -2])
  for reduction in (log_sum_exp, softmax_mean, max_, min_):
    sign = -1 if reduction is min_ else 1

    def total(x, reduction=reduction, sign=sign):
      out = fed(reduction, [sign * x[:, :1], sign * x[:, 1:]])
      return sign * sum(jnp.sum(part) for part in jax.tree.leaves(out))

    gradient = jax.jit(jax.grad(total))(x)
    weight = 5 if reduction is softmax_mean else 1  # d(x + x²) at 2
    np.testing.assert_array_equal(gradient, [[0, 0], [0, weight]])


def test_large_and_small_numbers_neither_overflow_nor_vanish():
  x = np.float32([[1000, 999], [-1000, -1001]])
  expected = [1000 + np.log1p(np.exp(-1)), -1000 + np.log1p(np.exp(-1))]
  np.testing.assert_allclose(fed(log_sum_exp, [x]), expected, rtol=1e-7)
  np.testing.assert_allclose(fed(log_sum_exp, [x[:, :1], x[:, 1:]]), expected, rtol=1e-7)


@each_with_a_gradient
@pytest.mark.parametrize("axis", [0, 1])
def test_pull_is_the_gradient_that_jax_takes_of_the_whole(float64, reduction, axis):
  """Piece by piece, from the state of the whole: with ties, pairs and rows that take no part."""
  rng = np.random.default_rng(0)
  x, identity = rng.normal(size=(5, 6)), np.max(np.abs(reduction.identity))
  sign = -1 if reduction is min_ else 1
  x[1, 2] = x[2] = -sign * identity
  x[3] = x[3, 0]
  x = x.T if axis == 0 else x
  pieces = np.split(x, [2, 5], axis)
  places = list(numbered(pieces, axis))

  def of(x):
    return (x, jnp.cos(jnp.where(abs(x) < jnp.inf, x, 0))) if reduction is softmax_mean else x

  @jax.jit
  def both(x, pieces, g):
    all_places = jnp.concatenate(places, axis)

    def state_of(quantities):
      empty = reduction.empty(jnp.zeros(5))
      return reduction.merge(empty, reduction.from_tile(quantities, all_places, axis))

    (expected,) = jax.vjp(lambda quantities: reduction.finish(state_of(quantities)), of(x))[1](g)
    state = state_of(of(x))
    pulled = [
      reduction.vjp(of(piece), where, state, g, axis)
      for piece, where in zip(pieces, places, strict=True)
    ]
    return expected, jax.tree.map(lambda *parts: jnp.concatenate(parts, axis), *pulled)

  g = jax.tree.map(lambda part: rng.normal(size=part.shape), fed(reduction, [x], axis))
  expected, found = both(x, pieces, g)
  assert all(np.abs(part).max() > 0.1 for part in jax.tree.leaves(expected))
  assert_same(found, expected)


@pytest.mark.parametrize("reduction", [max_, min_], ids=NAMES.get)
@pytest.mark.parametrize("order", [1, -1])
def test_the_gradient_of_an_extremum_is_that_of_the_first_candidate(reduction, order):
  """The first by its number, in whatever order they come."""
  sign = -1 if reduction is min_ else 1
  x = sign * np.float32([[1, 3, 3, 2, 3], [5, 5, 5, 5, 5]])
  places = [np.array([p]) for p in ([0, 1], [2], [3, 4])][::order]

  def total(x):
    return fed(reduction, [x[:, p[0]] for p in places], places=places).sum()

  np.testing.assert_array_equal(jax.grad(total)(x), [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]])


def test_top_k_prefers_lower_places_and_ends_short_rows_in_nothing():
  nothing = -np.inf
  x = np.float32([[2, 7, 2, 7, 7], [nothing, 4, nothing, nothing, 3], [nothing] * 5])
  values = [[7, 7, 7], [4, 3, nothing], [nothing] * 3]
  places = [[1, 3, 4], [1, 4, -1], [-1] * 3]
  for cuts in ([], [1, 3]):
    pieces = np.split(x, cuts, 1)
    numbers = list(numbered(pieces, 1))
    for order in (1, -1):
      found = fed(TOP, pieces[::order], places=numbers[::order])
      np.testing.assert_array_equal(found[0], values)
      np.testing.assert_array_equal(found[1], places)
      assert found[1].dtype == jnp.int32
  few = fed(reductions.top_k(9), [x[:1]])
  np.testing.assert_array_equal(few[1], [[1, 3, 4, 0, 2, -1, -1, -1, -1]])


def test_what_only_observes_has_no_gradient():
  x = np.float32([[1, 3, 2]])
  gradient = jax.grad(lambda x: fed(reductions.top_k(2), [x])[0].sum() + x.sum())(x)
  np.testing.assert_array_equal(gradient, np.ones((1, 3)))
  assert fed(count, [x > 1]).dtype == jnp.int32


# reduce: all pairs of anchors and groups.


@dataclasses.dataclass(frozen=True)
class Quantities:
  """Channels that look at all they are given, and treat the two roles differently."""

  slope: float

  def __call__(self, similarity, a, c, shared):
    logit = shared["scale"] * similarity / a["tau"] + self.slope * c["bias"]
    return {
      "sum": a["bias"] * similarity,
      "count": similarity > a["bias"],
      "log": logit,
      "mean": (logit * c["tau"], similarity + c["bias"]),
      "most": logit * a["bias"],
      "least": similarity - c["bias"],
      "top": logit,
      "candidates alone": c["bias"],
    }


ROWS = {
  "sum": sum_,
  "count": count,
  "log": log_sum_exp,
  "mean": softmax_mean,
  "most": max_,
  "least": min_,
  "top": TOP,
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
  options = {"score": dot(), "reductions": ROWS} | options
  return reduce(Quantities(0.5), anchors, groups, shared=shared, **options)


def row_by_numpy(similarity, a, c):
  """All channels of one row, reduced: similarity and c's sides are [candidates], a's scalars."""
  logit = SHARED["scale"] * similarity / a["tau"] + 0.5 * c["bias"]
  x = {
    "sum": a["bias"] * similarity,
    "count": similarity > a["bias"],
    "log": logit,
    "mean": (logit * c["tau"], similarity + c["bias"]),
    "most": logit * a["bias"],
    "least": similarity - c["bias"],
    "top": logit,
    "candidates alone": c["bias"],
  }
  return {
    name: ROW[reduction](*x[name]) if reduction is softmax_mean else ROW[reduction](x[name])
    for name, reduction in ROWS.items()
  }


def weighed(tree):
  """A sum in which every entry of every float result counts differently."""
  leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
  return sum(
    (jnp.cos(1.0 + i + jnp.arange(x.size)) * x.ravel()).sum() for i, x in enumerate(leaves)
  )


each_evaluation = pytest.mark.parametrize(
  "plan", [Plan("dense"), Plan((3, 2))], ids=["dense", "tiled"]
)


@each_evaluation
def test_rows_run_over_all_groups(float64, plan):
  anchors, groups = problem()
  expected = []
  for i in range(4):
    mine = [jax.tree.map(lambda x, i=i: x[i], g) if g.per_anchor else g for g in groups]
    vectors = np.concatenate([g.vectors for g in mine])
    side = {k: np.concatenate([g.side[k] for g in mine]) for k in ("tau", "bias")}
    of_anchor = {k: anchors.side[k][i] for k in ("tau", "bias")}
    expected.append(row_by_numpy(vectors @ anchors.vectors[i], of_anchor, side))
  assert_same(run(anchors, groups, plan=plan), stacked(expected))


@each_evaluation
def test_exchanged_roles_make_every_shared_candidate_an_anchor(float64, plan):
  anchors, groups = problem()
  rows, columns = run(anchors, groups, both=True, plan=plan)
  assert_same(rows, run(anchors, groups, plan=plan))
  assert columns[2] is None  # a set per anchor has no columns
  for group, found in zip(groups[:2], columns, strict=False):
    expected = []
    for j, vector in enumerate(group.vectors):
      of_candidate = {k: group.side[k][j] for k in ("tau", "bias")}
      expected.append(row_by_numpy(anchors.vectors @ vector, of_candidate, anchors.side))
    assert_same(found, stacked(expected))


def test_gradients_reach_vectors_sides_and_shared_numbers(float64):
  anchors, (_, keys, own) = problem()
  rows = {name: r for name, r in ROWS.items() if name not in ("count", "top")}

  @jax.jit
  def all_of_it(anchors, groups, shared):
    rows_, columns = run(anchors, groups, shared, both=True, reductions=rows)
    return [jax.tree.leaves(part) for part in (rows_, *columns)]

  check_grads(all_of_it, (anchors, (keys, own), SHARED), order=1, modes=["rev"], rtol=1e-6)


def test_where_a_group_is_cut_changes_nothing(float64):
  rows = {name: ROWS[name] for name in ("sum", "mean", "most", "top")}

  @jax.jit
  def found(anchors, groups):
    def total(anchors, groups):
      out = run(anchors, groups, reductions=rows)
      return weighed(out), out

    return jax.grad(total, (0, 1), has_aux=True)(anchors, groups)

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


@dataclasses.dataclass(frozen=True)
class Others:
  """Everything but a vector itself."""

  def __call__(self, similarity, a, c, shared):
    return {"others": jnp.where(a["index"] == c["index"], -jnp.inf, similarity)}


@each_evaluation
def test_an_anchor_that_meets_only_itself_reduces_to_minus_infinity_without_a_gradient(
  float64, plan
):
  point = np.array([[1.0, 2.0]])

  @jax.jit
  def total(vectors):
    group = Group(vectors, {"index": np.zeros(1, int)})
    found = reduce(
      Others(),
      group,
      (group,),
      score=dot(),
      reductions={"others": log_sum_exp},
      same_set=True,
      plan=plan,
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


@each_evaluation
def test_equal_channels_are_compiled_once(plan):
  def gradient(factor, seed):
    vectors = np.random.default_rng(seed).normal(size=(3, 2)).astype(np.float32)

    def total(vectors):
      group = Group(vectors, {})
      channels = Counted(factor)  # a new object each time, equal to the last
      rows = {"x": log_sum_exp}
      return reduce(channels, group, (group,), score=dot(), reductions=rows, plan=plan)["x"].sum()

    return jax.grad(total)(vectors)

  del TRACED[:]
  first = gradient(2.0, seed=0)
  traces = len(TRACED)
  assert traces > 0
  assert np.abs(gradient(2.0, seed=1) - first).max() > 0.1
  assert len(TRACED) == traces
  gradient(3.0, seed=0)
  assert TRACED[traces:] and set(TRACED[traces:]) == {3.0}


PULLED = set()


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def noted(name, x):
  """x; notes when a backward pass goes through it."""
  return x


def _noted_backward(name, _, g):
  PULLED.add(name)
  return (g,)


noted.defvjp(lambda name, x: (x, None), _noted_backward)


def noting(similarity, a, c, shared):
  return {name: noted(name, similarity) for name in ("used", "observed", "not asked for")}


@each_evaluation
def test_what_is_not_differentiated_costs_no_backward_pass(plan):
  anchors, groups = problem()

  @jax.jit
  def total(anchors, groups, shared):
    rows = {"used": log_sum_exp, "observed": log_sum_exp}
    found = reduce(noting, anchors, groups, score=dot(), reductions=rows, shared=shared, plan=plan)
    return (jax.lax.stop_gradient(found["observed"]) + found["used"]).sum()

  PULLED.clear()
  jax.grad(total)(anchors, groups, SHARED)
  assert sorted(PULLED) == ["used"]


# What a user can get wrong.


def without_a_side(group):
  return Group(group.vectors, {"tau": group.side["tau"]})


def longer_side(group):
  return Group(group.vectors, {**group.side, "bias": np.zeros(9)})


def flat(group):
  return Group(group.vectors[..., :2], group.side)


@dataclasses.dataclass(frozen=True)
class FirstRowOnly(Score):
  def __call__(self, params, anchors, candidates):
    return dot()((), anchors, candidates)[:1]


def plain_function(params, anchors, candidates):
  return dot()((), anchors, candidates)


def empty(group):
  return jax.tree.map(
    lambda x: x[..., :0, :] if x.ndim == group.vectors.ndim else x[..., :0], group
  )


MISTAKES = {
  "no groups": (lambda a, g: (a, (), {}), ["no candidate group", "at least the keys"]),
  "no anchors": (lambda a, g: (empty(a), g, {}), ["anchors", "n > 0", "(0, 3)"]),
  "an empty group": (
    lambda a, g: (a, (g[0], empty(g[1])), {}),
    ["group 1 is empty", "(0, 3)", "(4, 3)"],
  ),
  "an empty set per anchor": (
    lambda a, g: (a, (empty(g[2]),), {}),
    ["group 0 is empty", "(4, 0, 3)", "(4, 3)"],
  ),
  "other sides": (
    lambda a, g: (a, (g[0], without_a_side(g[1])), {}),
    [
      "the groups of one call must have the same sides",
      "only one of group 0 and group 1 has 'bias'",
    ],
  ),
  "same_set": (
    lambda a, g: (a, g, {"same_set": True}),
    ["same_set", "the keys are the anchors", "(5, 3)", "(4, 3)"],
  ),
  "dimensions": (
    lambda a, g: (a, (g[1], flat(g[0])), {}),
    ["differ in dimensions", "(4, 3)", "(5, 2)"],
  ),
  "dimensions of a set per anchor": (
    lambda a, g: (a, (flat(g[2]),), {}),
    ["differ in dimensions", "(4, 3)", "(4, 3, 2)"],
  ),
  "sets of other anchors": (
    lambda a, g: (a, (jax.tree.map(lambda x: x[:3], g[2]),), {}),
    ["group 0", "(3, 3, 3)", "(4, 3)"],
  ),
  "anchors in sets": (lambda a, g: (g[2], g, {}), ["anchors must be [n, d]", "(4, 3, 3)"]),
  "side of a group": (
    lambda a, g: (a, (g[1], longer_side(g[0])), {}),
    ["side 'bias' of group 1", "(9,)", "(5, 3)"],
  ),
  "side of the anchors": (
    lambda a, g: (longer_side(a), g, {}),
    ["side 'bias' of the anchors", "(9,)", "(4, 3)"],
  ),
  "a score of another shape": (
    lambda a, g: (a, g, {"score": FirstRowOnly()}),
    ["score", "(4, 3)", "(5, 3)", "(1, 5)", "(4, 5)"],
  ),
  "a function as score": (
    lambda a, g: (a, g, {"score": plain_function}),
    ["score must be a core.Score, such as pairwise.cosine(), not <function plain_function"],
  ),
  "a class as score": (
    lambda a, g: (a, g, {"score": dot}),
    ["dot is a class; give an instance, dot()"],
  ),
  "a class as reduction": (
    lambda a, g: (a, g, {"reductions": {"x": reductions.top_k}}),
    ["TopK is a class; give an instance, TopK()"],
  ),
  "a function as reduction": (
    lambda a, g: (a, g, {"reductions": {"x": jnp.sum}}),
    ["the reduction of 'x' must be a pairwise.reduction.Reduction, such as pairwise.sum_"],
  ),
  "an array in the score": (
    lambda a, g: (a, g, {"score": Holding(np.ones(3))}),
    ["Holding has an array", "side", "score_params", "shared"],
  ),
}


@dataclasses.dataclass(frozen=True)
class Holding(Score):
  """Channels, or a score, with a field of any kind."""

  held: object

  def __call__(self, first, anchors, candidates, shared=None):
    similarity = first if shared is not None else dot()((), anchors, candidates)
    held = self.held() if callable(self.held) else self.held
    return similarity * held if shared is None else {"x": similarity * held}


def refused(call, fragments):
  """The message says all that it should, in one line."""
  with pytest.raises(ValueError) as error:
    call()
  message = str(error.value)
  assert "\n" not in message
  assert all(fragment in message for fragment in fragments), message


@each_evaluation
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name, plan):
  change, fragments = MISTAKES[name]
  anchors, groups, options = change(*problem())
  refused(lambda: run(anchors, groups, plan=plan, **options), fragments)


HIDDEN = {
  "channels": lambda held: {"channels": Holding(held)},
  "score": lambda held: {"score": Holding(held)},
}


def hiding(where, held, plan):
  """reduce, with a value within the channels or the score."""
  group = Group(np.ones((3, 2), np.float32), {})
  parts = {"channels": lambda s, a, c, shared: {"x": s}, "score": dot(), **HIDDEN[where](held)}
  found = reduce(
    parts["channels"],
    group,
    (group,),
    score=parts["score"],
    reductions={"x": sum_},
    shared={},
    plan=plan,
  )
  return found["x"].sum()


@each_evaluation
@pytest.mark.parametrize("transformation", [jax.grad, jax.jit], ids=["grad", "jit"])
@pytest.mark.parametrize("where", HIDDEN)
def test_a_traced_value_that_a_part_closes_over_is_refused(where, transformation, plan):
  """It would have no gradient: a part is a key of the evaluation, not an argument of it."""
  fragments = ["close over a traced value of shape ()", "side", "score_params", "shared"]
  refused(lambda: transformation(lambda x: hiding(where, lambda: x, plan))(2.0), fragments)


@pytest.mark.parametrize("transformation", [jax.grad, jax.jit], ids=["grad", "jit"])
@pytest.mark.parametrize("where", HIDDEN)
def test_a_part_that_holds_an_array_is_refused(where, transformation):
  fragments = ["Holding has an array", "side", "score_params", "shared"]
  refused(lambda: transformation(lambda x: hiding(where, x, Plan()))(2.0), fragments)
  refused(lambda: hiding(where, np.ones(1), Plan()), fragments)


def one_device(axis="data"):
  return jax.make_mesh((1,), (axis,), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])


def test_inside_shard_map_a_reduction_is_refused():
  def local(vectors):
    group = Group(vectors, {"index": jnp.arange(4)})
    return reduce(Others(), group, (group,), score=dot(), reductions={"others": sum_})["others"]

  axis = PartitionSpec("data")
  call = jax.shard_map(local, mesh=one_device(), in_specs=axis, out_specs=axis)
  refused(lambda: call(np.ones((4, 3))), ["inside shard_map", "Plan(mesh=mesh)"])


@pytest.mark.parametrize("block", [0, -1, 2.0, "tiled", (4,), (4, 0), (4, 4, 4), [4, 4], True])
def test_a_block_that_is_none_is_refused(block):
  refused(lambda: Plan(block), ["block must be", repr(block)])


def test_an_axis_that_the_mesh_has_not_is_refused():
  refused(lambda: Plan(mesh=one_device("model")), ["axis 'data'", "('model',)"])
  Plan(mesh=one_device("model"), axis="model")


# Relations.


def pairs(relation, anchors, candidates):
  """The weights of all pairs: sides [n] and [m] -> [n, m], positive and negative."""
  a = {name: np.asarray(x)[:, None] for name, x in anchors.items()}
  c = {name: np.asarray(x)[None] for name, x in candidates.items()}
  return jax.tree.map(np.asarray, relation(a, c, jnp.zeros((a["index"].size, c["index"].size))))


ANCHORS = {"index": [0, 1, 2], "view": [0, 0, 1], "label": [0, 0, 1]}
CANDIDATES = {"index": [0, 1, 2, -1], "view": [1, 0, 0, 1], "label": [0, 0, 0, 1]}


def test_same_label_tells_positives_negatives_and_a_vector_itself():
  found = pairs(same_label(), ANCHORS, CANDIDATES)
  np.testing.assert_array_equal(found.positive, [[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
  np.testing.assert_array_equal(found.negative, [[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 0]])


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


@dataclasses.dataclass(frozen=True)
class numbers(Relation):
  """Another relation's masks as numbers."""

  masks: Relation

  def __call__(self, a, c, similarity):
    return jax.tree.map(lambda mask: mask.astype(jnp.float64), self.masks(a, c, similarity))


@pytest.mark.parametrize("criterion", [criteria.info_nce(), criteria.hard_negative(1.0, 0.1)])
@pytest.mark.parametrize("weighted", [False, True], ids=["all candidates alike", "weighted"])
def test_masks_and_weights_of_0_and_1_say_the_same(float64, criterion, weighted):
  rng = np.random.default_rng(0)
  weight = np.array([1, 1, 0.5, 0, 1, 2, 0.0]) if weighted else np.ones(7)
  index = np.arange(7)
  side = {"index": index, "view": 0 * index, "label": index % 3}
  side |= {"as_positive": weight, "as_negative": weight[::-1]}

  @functools.partial(jax.jit, static_argnums=0)
  def found(relation, vectors):
    def total(vectors):
      anchors = Group(vectors, side)
      out = criteria.evaluate(criterion, anchors, (anchors,), relation=relation, temperature=0.3)
      return weighed(out.value), out.value

    return jax.value_and_grad(total, has_aux=True)(vectors)

  vectors = rng.normal(size=(7, 3))
  assert_same(found(same_label(), vectors), found(numbers(same_label()), vectors))
