"""The pairwise engine: all pairs of anchors and groups, and what is refused, against NumPy.

That tiles give what the dense evaluation gives is in test_tiles.py, and what a ring of devices
gives in test_mesh.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_numpy import ROW, TOP, assert_same, stacked, weighed
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from contrastax.core import Group, Score
from contrastax.pairwise import (
  Plan,
  count,
  dot,
  log_sum_exp,
  max_,
  min_,
  reduce,
  reductions,
  softmax_mean,
  sum_,
)

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
