"""What a loss makes of NaN, and of vectors of other types and lengths.

The tables are those of `mesh_cases.py`, which list every public loss: a new loss joins by being listed.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_arguments import (
  CASES,
  DENSE,
  FLOATS,
  TILES,
  VECTORS,
  W_LIKE,
  Z,
  arguments,
  float32,
  options_of,
  symile,
)
from mesh import WITHOUT_A_GRADIENT, public
from mesh_cases import PAIR, N

from contrastax import criteria, losses
from contrastax.core import Group
from contrastax.pairwise import cosine, dot, reduce, reductions, top_k
from contrastax.pairwise.reductions import log_sum_exp, max_, min_, softmax_mean, sum_
from contrastax.relations import same_example, similarity_within


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluated(call, plan, arrays):
  """The values, and the gradients of their sum by the arrays of vectors; on groups by the anchors'."""
  if on_groups := "anchors" in arrays:
    vectors = {"anchors": arrays["anchors"]["vectors"]}
  else:
    vectors = {name: x for name, x in arrays.items() if name in VECTORS}

  def total(vectors):
    if on_groups:
      vectors = {"anchors": {**arrays["anchors"], "vectors": vectors["anchors"]}}
    values = values_of(call({**arrays, **vectors}, plan))
    return values.sum(), values

  gradients, values = jax.grad(total, has_aux=True)(vectors)
  return values, gradients


@functools.partial(jax.jit, static_argnums=(0, 1))
def values_alone(call, plan, arrays):
  return values_of(call(arrays, plan))


def dense_values(case, arrays):
  """The values of a case, by the program that another test of it has compiled, if there is one."""
  call = CASES[case][1]
  if case.startswith("groups"):
    return values_alone(call, DENSE, arrays)
  return evaluated(call, DENSE, arrays)[0]


def values_of(out):
  return out["value"] if isinstance(out, dict) else out


# NaN.

OWN_ROW = {
  "alignment": "ab",
  "arcface": "a",
  "binary_nce": ("x", "qx"),
  "cosface": "a",
  "dual_temperature": "a",
  "info_nce, in the batch": "a",
  "info_nce, a queue": "ab",
  "info_nce, a queue that devices do not divide": "ab",
  "info_nce, a set per anchor": ("a", "b", "negatives"),
  "meco": "x",
  "n_pairs": "a",
  "negative_cosine": "ab",
  "proxy_nca": "a",
  "self_distillation": ("views", "teacher"),
  "siglip": "a",
  "soft_contrastive": "a",
  "spectral": "a",
  "swapped_prediction": ("views", "assignments"),
}
"""The arrays whose row i belongs to anchor i alone; any other row belongs to every anchor."""
OTHER_ROWS = {
  # The queries of the first view meet the candidates of the others, and not the other way.
  "cacr": lambda name, row: [row],
  # An anchor meets its own view, and of the other its positive.
  "group_ordering": lambda name, row: (
    [*range(N), N + row] if name == "a" else [row, *range(N, 2 * N)]
  ),
}
LINEAR = {("meco", "x"), ("meco", "q"), ("swapped_prediction", "assignments")}
"""Arrays that a loss is linear in: its gradient by them does not depend on them."""


def with_nan(arrays, name, row):
  """The arrays, one entry of row `row` of an array being NaN; views: of their first view."""
  x = np.array(arrays[name], np.float32)
  place = (0, row) if name in ("views", "teacher", "assignments") else (row,)
  x[(*place, *[-1] * (x.ndim - len(place)))] = np.nan
  return {**arrays, name: jnp.asarray(x)}


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("groups")])
def test_an_anchor_that_meets_a_nan_is_nan_in_value_and_gradient(case):
  arrays, call, name = CASES[case]
  arrays, row = float32(arrays), 3
  clean = np.ravel(evaluated(call, DENSE, arrays)[0])
  for array in sorted(VECTORS & arrays.keys()):
    values, gradient = evaluated(call, DENSE, with_nan(arrays, array, row))
    values = np.ravel(values)
    reached = np.ones(values.shape, bool)
    if array in OWN_ROW.get(case, ()) or name in OTHER_ROWS:
      reached = np.zeros(values.shape, bool)
      reached[OTHER_ROWS[name](array, row) if name in OTHER_ROWS else [row]] = True
    np.testing.assert_array_equal(np.isnan(values), reached, err_msg=array)
    chex.assert_trees_all_close(values[~reached], clean[~reached], rtol=1e-5, atol=1e-5)
    if name not in WITHOUT_A_GRADIENT and (name, array) not in LINEAR:
      own = np.asarray(gradient[array])
      own = own[0] if array == "views" else own
      assert np.isnan(own[row]).any(), array


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("groups")])
@pytest.mark.parametrize(
  "plan",
  [pytest.param(DENSE, marks=pytest.mark.full), TILES],
  ids=["dense", "tiles"],
)
def test_a_criterion_is_nan_for_every_anchor_that_meets_a_nan(case, plan):
  """Also for one without a positive, whose value is otherwise 0."""
  arrays, call, _ = CASES[case]
  arrays = float32(arrays)
  for at, group in enumerate(("queue", "own"), 1):  # no candidate is an anchor's own vector
    side = arrays[group]["side"]
    index = np.asarray(side["index"]) + 1000 * at
    arrays[group] = {**arrays[group], "side": {**side, "index": jnp.asarray(index)}}
  label = np.array(arrays["anchors"]["side"]["label"])
  label[5] = 99  # nobody's positive
  arrays["anchors"]["side"]["label"] = jnp.asarray(label)
  assert np.asarray(evaluated(call, plan, arrays)[0])[5] == 0 or "siglip" in case
  for group, row, reached in (
    ("queue", 4, slice(None)),
    ("anchors", 5, slice(None)),
    ("own", 3, 3),
  ):
    broken = {**arrays, group: with_nan(arrays[group], "vectors", row)}
    values, gradient = jax.tree.map(np.asarray, evaluated(call, plan, broken))
    assert np.isnan(values[reached]).all(), group
    # DCLW weighs the positives of each anchor by a mean over all; the one of label 99 has none.
    others = 0 if group != "own" else 1 if "dclw" in case else N - 1
    assert np.isfinite(values).sum() == others, group
    assert np.isnan(gradient["anchors"][reached]).any(-1).all(), group


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_nan_alone_is_nan(case):
  arrays = float32(CASES[case][0])

  def broken(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    ours = name in VECTORS or name.endswith("vectors")
    return jnp.asarray(np.full(x.shape, np.nan, x.dtype)) if ours else x

  values = dense_values(case, jax.tree_util.tree_map_with_path(broken, arrays))
  assert np.isnan(values).all(), values


@pytest.mark.parametrize("name", public(losses))
def test_a_large_compiled_batch_shows_a_nan(name):
  """XLA on a CPU drops NaN from a maximum that it fuses with a reduction, in arrays of some size."""
  n, d = 256, 64
  given = options_of(name, arguments(n, d))
  arrays = {k: x for k, x in given.items() if k in FLOATS}
  rest = {k: x for k, x in given.items() if k not in FLOATS}

  @jax.jit
  @jax.value_and_grad
  def mean(arrays):
    found = getattr(losses, name)(**arrays, **rest) if name != "symile" else symile(arrays, rest)
    return (found[0] if isinstance(found, tuple) else found).mean()

  value, gradient = mean(arrays)
  assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
  first = next(iter(arrays))
  for row in (slice(None), 3):
    x = np.array(arrays[first])
    x[(1, row) if x.ndim == 3 else row] = np.nan
    value, gradient = mean({**arrays, first: jnp.asarray(x)})
    assert np.isnan(value), row
    if (name, {"data": "x"}.get(first, first)) not in LINEAR and name != "sinkhorn":
      assert np.isnan(np.asarray(gradient[first])).any(), row


SINGLE = {
  "dcl": lambda z: losses.dcl(z, z, temperature=0.1),
  "dhel": lambda z: losses.dhel(z, z, temperature=0.1),
  "sup_con": lambda z: losses.sup_con(z, [0], temperature=0.1),
  "triplet": lambda z: losses.triplet(z, [0], margin=0.1),
  "triplet, all": lambda z: losses.triplet(z, [0], margin=0.1, mining="batch all"),
  "triplet, semi-hard": lambda z: losses.triplet(z, [0], margin=0.1, mining="semi-hard"),
  "circle": lambda z: losses.circle(z, [0]),
  "multi_similarity": lambda z: losses.multi_similarity(z, [0]),
  "soft_nearest_neighbor": lambda z: losses.soft_nearest_neighbor(z, [0], temperature=1.0),
  "group_ordering": lambda z: losses.group_ordering(z, z),
  "hard_negative": lambda z: losses.hard_negative(z, z, temperature=0.1, beta=1.0, tau_plus=0.1),
  "mv_info_nce": lambda z: losses.mv_info_nce(jnp.stack([z, z]), temperature=0.1),
  "dual_temperature": lambda z: losses.dual_temperature(
    z, z, temperature=0.1, inter_temperature=1.0
  ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_example_has_value_0_and_is_nan_where_it_is_nan(name):
  loss = jax.jit(SINGLE[name])
  np.testing.assert_array_equal(loss(np.ones((1, 3), np.float32)), 0)
  assert np.isnan(loss(np.array([[1, np.nan, 1]], np.float32))).all()


def test_a_filter_by_similarity_leaves_no_nan_out():
  z = jnp.asarray(PAIR["a"], jnp.float32)
  index = jnp.arange(N)
  one = jnp.ones(N)
  side = {"index": index, "view": 0 * index, "as_positive": one, "as_negative": one}
  keys = Group(jnp.roll(z, 1, 1), {**side, "view": 0 * index + 1})

  def value(keys):
    relation = same_example() & similarity_within(most=0.9)
    return criteria.evaluate(
      criteria.info_nce(), Group(z, side), (keys,), relation=relation, temperature=0.1
    ).value

  assert np.isfinite(value(keys)).all()
  assert np.isnan(value(Group(keys.vectors.at[2].set(jnp.nan), keys.side))).all()


@pytest.mark.parametrize("plan", [DENSE, TILES], ids=["dense", "tiles"])
def test_every_reduction_of_a_nan_is_nan(plan):
  z = jnp.asarray(PAIR["a"], jnp.float32)
  reductions_ = {
    "sum": sum_, "log": log_sum_exp, "mean": softmax_mean, "max": max_, "min": min_,
    "top": reductions.top_k(3),
  }  # fmt: skip

  def found(c):
    return reduce(
      _Each(), Group(z, {}), (Group(c, {}),), score=dot(), reductions=reductions_, plan=plan
    )

  for row in (0, 6, N - 1):
    out = found(z.at[row].set(jnp.nan))
    values = [out["sum"], out["log"], *out["mean"], out["max"], out["min"], out["top"][0][:, 0]]
    assert all(np.isnan(x).all() for x in values)
    assert (out["top"][1][:, 0] == row).all()
    assert np.isfinite(out["top"][0][:, 1:]).all()


class _Each:
  def __call__(self, similarity, a, c, shared):
    names = ("sum", "log", "max", "min", "top")
    return {"mean": (similarity, similarity), **dict.fromkeys(names, -similarity)}

  def __hash__(self):
    return 0

  def __eq__(self, other):
    return isinstance(other, _Each)


# Types.


@pytest.mark.parametrize("case", CASES)
def test_integer_vectors_are_the_same_numbers_in_float32(case):
  arrays, call, _ = CASES[case]

  def integer(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if name not in VECTORS and not name.endswith("vectors"):
      return jnp.asarray(x)
    # Probabilities stay so, and no two values are equal where a loss sorts.
    return np.round(20 * x).astype(np.int8)

  whole = jax.tree_util.tree_map_with_path(integer, arrays)
  floats = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) if x.dtype == np.int8 else x, whole)
  # The loss receives the arrays themselves: their types are not those of arguments of `jax.jit`.
  found = jax.jit(lambda: values_of(call(whole, DENSE)))()
  assert found.dtype == jnp.float32
  chex.assert_trees_all_close(found, dense_values(case, floats), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, bool])
def test_scores_and_searches_take_integers_as_float32(dtype):
  x = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]]).astype(dtype)
  f = x.astype(np.float32)
  for score in (dot(), cosine()):
    chex.assert_trees_all_equal(score((), jnp.asarray(x), jnp.asarray(x)), score((), f, f))
    chex.assert_trees_all_equal(top_k(x, x, 2, score=score), top_k(f, f, 2, score=score))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_vectors_of_any_finite_length_have_their_cosine(dtype):
  unit = Z / jnp.abs(Z).max(1, keepdims=True)
  expected = losses.nt_xent(unit.astype(dtype), W_LIKE.astype(dtype), temperature=0.3)
  for length in (1e-11, 1e30, 9e37, 3e38):
    long = (unit.astype(jnp.float32) * length).astype(dtype)
    found = losses.nt_xent(long, W_LIKE.astype(dtype), temperature=0.3)
    chex.assert_trees_all_close(found, expected, rtol=2e-2 if dtype == jnp.bfloat16 else 1e-5)
