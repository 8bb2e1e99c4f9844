"""What a loss makes of odd inputs: NaN, other types, labels, and what is refused in one line.

The tables are those of `mesh_cases.py`, which list every public loss: a new loss joins by being listed.
"""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import mesh
import numpy as np
import pytest

from contrastax import criteria, losses
from contrastax.core import Group, UserError
from contrastax.pairwise import Plan, cosine, dot, reduce, reductions, top_k
from contrastax.pairwise.reductions import log_sum_exp, max_, min_, softmax_mean, sum_
from contrastax.relations import same_example, same_label, similarity_within

DENSE, TILES = Plan("dense"), Plan((7, 6))
CASES = {
  prefix + name + (f", {form}" if form else ""): (*case, name)
  for prefix, table in (("", mesh.LOSSES), ("groups ", mesh.ON_GROUPS))
  for name, forms in table.items()
  for form, case in forms.items()
}


def float32(arrays):
  """The arrays in JAX's default types."""
  return jax.tree.map(jnp.asarray, arrays)


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluated(call, plan, arrays):
  """The values, flat, and the gradient of their sum by every array."""

  def total(arrays):
    out = call(arrays, plan)
    value = out["value"] if isinstance(out, dict) else out
    return value.sum(), value.ravel()

  gradient, values = jax.grad(total, has_aux=True, allow_int=True)(arrays)
  return values, gradient


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
    [*range(mesh.N), mesh.N + row] if name == "a" else [row, *range(mesh.N, 2 * mesh.N)]
  ),
}
LINEAR = {("meco", "x"), ("meco", "q"), ("swapped_prediction", "assignments")}
"""Arrays that a loss is linear in: its gradient by them does not depend on them."""
VECTORS = {
  "a", "b", "c", "x", "z", "q", "qx", "qz", "negatives", "proxies", "guide", "views", "teacher",
  "assignments",
}  # fmt: skip


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
  clean, _ = evaluated(call, DENSE, arrays)
  for array in sorted(VECTORS & arrays.keys()):
    values, gradient = evaluated(call, DENSE, with_nan(arrays, array, row))
    reached = np.ones(values.shape, bool)
    if array in OWN_ROW.get(case, ()) or name in OTHER_ROWS:
      reached = np.zeros(values.shape, bool)
      reached[OTHER_ROWS[name](array, row) if name in OTHER_ROWS else [row]] = True
    np.testing.assert_array_equal(np.isnan(values), reached, err_msg=array)
    chex.assert_trees_all_close(values[~reached], clean[~reached], rtol=1e-5, atol=1e-5)
    if name not in mesh.WITHOUT_A_GRADIENT and (name, array) not in LINEAR:
      own = gradient[array][0] if array == "views" else gradient[array]
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
    arrays[group] = {**arrays[group], "side": {**side, "index": side["index"] + 1000 * at}}
  label = arrays["anchors"]["side"]["label"]
  arrays["anchors"]["side"]["label"] = label.at[5].set(99)  # nobody's positive
  assert evaluated(call, plan, arrays)[0][5] == 0 or "siglip" in case
  for group, row, reached in (
    ("queue", 4, slice(None)),
    ("anchors", 5, slice(None)),
    ("own", 3, 3),
  ):
    broken = {**arrays, group: dict(arrays[group])}
    broken[group]["vectors"] = arrays[group]["vectors"].at[row].set(jnp.nan)
    values, gradient = evaluated(call, plan, broken)
    assert np.isnan(values[reached]).all(), group
    # DCLW weighs the positives of each anchor by a mean over all; the one of label 99 has none.
    others = 0 if group != "own" else 1 if "dclw" in case else mesh.N - 1
    assert np.isfinite(values).sum() == others, group
    assert np.isnan(gradient["anchors"]["vectors"][reached]).any(-1).all(), group


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_nan_alone_is_nan(case):
  arrays, call, _ = CASES[case]
  arrays = float32(arrays)

  def broken(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    ours = name in VECTORS or name.endswith("vectors")
    return jnp.full_like(x, jnp.nan) if ours else x

  values, _ = evaluated(call, DENSE, jax.tree_util.tree_map_with_path(broken, arrays))
  assert np.isnan(values).all(), values


@pytest.mark.parametrize("name", mesh.public(losses))
def test_a_large_compiled_batch_shows_a_nan(name):
  """XLA on a CPU drops NaN from a maximum that it fuses with a reduction, in arrays of some size."""
  n, d = 256, 64
  given = options_of(name, arguments(n, d))
  arrays = {k: x for k, x in given.items() if k in FLOATS}
  rest = {k: x for k, x in given.items() if k not in FLOATS}

  @jax.jit
  def mean(arrays):
    found = getattr(losses, name)(**arrays, **rest) if name != "symile" else symile(arrays, rest)
    return (found[0] if isinstance(found, tuple) else found).mean()

  value, gradient = jax.value_and_grad(mean)(arrays)
  assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
  first = next(iter(arrays))
  for row in (slice(None), 3):
    x = arrays[first]
    x = x.at[1, row].set(jnp.nan) if x.ndim == 3 else x.at[row].set(jnp.nan)
    value, gradient = jax.value_and_grad(mean)({**arrays, first: x})
    assert np.isnan(value), row
    if (name, {"data": "x"}.get(first, first)) not in LINEAR and name != "sinkhorn":
      assert np.isnan(gradient[first]).any(), row


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
  z = jnp.ones((1, 3))
  np.testing.assert_array_equal(SINGLE[name](z), 0)
  assert np.isnan(SINGLE[name](z.at[0, 1].set(jnp.nan))).all()


def test_a_filter_by_similarity_leaves_no_nan_out():
  z = jnp.asarray(mesh.PAIR["a"], jnp.float32)
  index = jnp.arange(mesh.N)
  one = jnp.ones(mesh.N)
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
  z = jnp.asarray(mesh.PAIR["a"], jnp.float32)
  reductions_ = {
    "sum": sum_, "log": log_sum_exp, "mean": softmax_mean, "max": max_, "min": min_,
    "top": reductions.top_k(3),
  }  # fmt: skip

  def found(c):
    return reduce(
      _Each(), Group(z, {}), (Group(c, {}),), score=dot(), reductions=reductions_, plan=plan
    )

  for row in (0, 6, mesh.N - 1):
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

  def value(arrays):
    out = call(arrays, DENSE)
    return out["value"] if isinstance(out, dict) else out

  found = value(whole)
  assert found.dtype == jnp.float32
  chex.assert_trees_all_close(found, value(floats), rtol=1e-6, atol=1e-6)


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


# Labels.

BY_LABEL = {
  "sup_con": lambda z, y: losses.sup_con(z, y, temperature=0.2),
  "sup_con_in": lambda z, y: losses.sup_con_in(z, y, temperature=0.2),
  "triplet": lambda z, y: losses.triplet(z, y, margin=0.2),
  "triplet, all": lambda z, y: losses.triplet(z, y, margin=0.2, mining="batch all"),
  "triplet, semi-hard": lambda z, y: losses.triplet(z, y, margin=0.2, mining="semi-hard"),
  "n_pairs": lambda z, y: losses.n_pairs(z, z[::-1], y),
  "circle": lambda z, y: losses.circle(z, y, scale=8.0),
  "multi_similarity": lambda z, y: losses.multi_similarity(z, y, beta=5.0),
  "multi_similarity, all": lambda z, y: losses.multi_similarity(z, y, margin=None),
  "soft_nearest_neighbor": lambda z, y: losses.soft_nearest_neighbor(z, y, temperature=1.0),
}
BY_PROXY = {
  "proxy_nca": lambda z, y, w: losses.proxy_nca(z, y, w, temperature=0.2),
  "proxy_nca, softmax": lambda z, y, w: losses.proxy_nca(
    z, y, w, temperature=0.2, own_in_denominator=True
  ),
  "arcface": lambda z, y, w: losses.arcface(z, y, w, scale=8.0),
  "cosface": lambda z, y, w: losses.cosface(z, y, w, scale=8.0),
}
Z = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
Y = np.arange(8) % 3
W = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)), jnp.float32)
W_LIKE = jnp.roll(Z, 1, 0)


def test_every_loss_of_labels_is_in_a_table():
  named = {
    name
    for name in mesh.public(losses)
    if "labels" in inspect.signature(getattr(losses, name)).parameters
  }
  assert named == {name.partition(",")[0] for name in (*BY_LABEL, *BY_PROXY)}


SAME = {
  "[n, 1]": lambda y: y[:, None],
  "a list": list,
  "uint8": lambda y: y.astype(np.uint8),
  "uint64": lambda y: y.astype(np.uint64),
  "int16 on the device": lambda y: jnp.asarray(y, jnp.int16),
}
RENAMED = {
  "negative": lambda y: y - 7,
  "10^12 apart": lambda y: y * 10**12,
  "2^40 and near": lambda y: y + 2**40,
  # These are one value where 64 bits are cut to 32.
  "equal in 32 bits": lambda y: y * 2**32,
  "the largest": lambda y: np.uint64(2**64 - 1) - y.astype(np.uint64),
}


@pytest.mark.parametrize("name", BY_LABEL)
def test_a_loss_depends_on_which_labels_are_equal_alone(name):
  expected = BY_LABEL[name](Z, Y)
  for kind, rename in {**SAME, **RENAMED}.items():
    chex.assert_trees_all_equal(BY_LABEL[name](Z, rename(Y)), expected, custom_message=kind)
  two = BY_LABEL[name](Z, (Y > 0).astype(int))
  chex.assert_trees_all_equal(BY_LABEL[name](Z, Y > 0), two)


@pytest.mark.parametrize("name", BY_PROXY)
def test_a_loss_of_proxies_takes_any_integer_type(name):
  expected = BY_PROXY[name](Z, Y, W)
  for kind, same in SAME.items():
    chex.assert_trees_all_equal(BY_PROXY[name](Z, same(Y), W), expected, custom_message=kind)
  chex.assert_trees_all_equal(BY_PROXY[name](Z, Y > 0, W), BY_PROXY[name](Z, 1 * (Y > 0), W))


@pytest.mark.parametrize("name", sorted(BY_LABEL.keys() - {"n_pairs"}))
def test_an_unlabeled_vector_is_nobodys_positive_and_still_a_negative(name):
  """As if each unlabeled vector had a label of its own; the next test is of `n_pairs`."""
  unknown = np.where(np.arange(8) < 4, -1, Y)
  alone = np.where(np.arange(8) < 4, 10 + np.arange(8), Y)
  for labels in (unknown, jnp.asarray(unknown), jnp.asarray(unknown, jnp.int8)):
    chex.assert_trees_all_equal(BY_LABEL[name](Z, labels), BY_LABEL[name](Z, alone))
  beside = BY_LABEL[name](Z, np.where(unknown < 0, -1, unknown + 2**40))
  chex.assert_trees_all_equal(beside, BY_LABEL[name](Z, alone))


def test_a_pair_without_a_label_is_its_own_only_positive():
  """The rows of `n_pairs` belong together whether or not they have a label."""
  chex.assert_trees_all_equal(losses.n_pairs(Z, Z[::-1], 0 * Y - 1), losses.n_pairs(Z, Z[::-1]))


@pytest.mark.parametrize("name", BY_PROXY)
def test_a_vector_without_a_label_has_no_proxy_and_value_0(name):
  labels = np.where(np.arange(8) < 4, -1, Y)
  value, gradient = jax.value_and_grad(lambda z: BY_PROXY[name](z, labels, W).sum())(Z)
  chex.assert_trees_all_close(value, BY_PROXY[name](Z, Y, W)[4:].sum(), rtol=1e-6)
  np.testing.assert_array_equal(gradient[:4], 0)
  assert np.isnan(BY_PROXY[name](Z.at[0].set(jnp.nan), labels, W)[0])


@pytest.mark.parametrize("name", BY_PROXY)
@pytest.mark.parametrize("wrong", [3, -2, 10**12])
def test_a_label_without_a_proxy_is_refused_where_known_and_nan_where_traced(name, wrong):
  labels = np.where(np.arange(8) == 5, wrong, Y)
  refused(lambda: BY_PROXY[name](Z, labels, W), f"not {wrong:,}")
  if wrong < 2**31:
    value = jax.jit(BY_PROXY[name])(Z, labels, W)
    np.testing.assert_array_equal(np.isnan(value), np.arange(8) == 5)


def test_a_relation_of_labels_with_unsigned_types_has_no_unlabeled():
  label = jnp.asarray([255, 255, 1], jnp.uint8)
  side = {"index": jnp.arange(3), "view": jnp.zeros(3, int), "label": label}
  pairs = same_label()({k: x[:, None] for k, x in side.items()}, side, jnp.zeros((3, 3)))
  np.testing.assert_array_equal(pairs.positive, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


# Refusals.


def refused(call, *fragments):
  with pytest.raises(UserError) as caught:
    call()
  message = str(caught.value)
  assert "\n" not in message
  assert all(fragment in message for fragment in fragments), message


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("groups")])
def test_what_is_no_array_of_numbers_is_refused_in_one_line(case):
  arrays, call, _ = CASES[case]
  arrays = float32(arrays)
  for name in sorted(VECTORS & arrays.keys()):
    x = np.asarray(arrays[name])
    for wrong in (x.tolist(), x.astype(str), x.astype(complex), x.astype(object), None):
      if name == "negatives" and wrong is None:
        continue
      refused(lambda wrong=wrong, name=name: call({**arrays, name: wrong}, DENSE))
    if x.ndim > 1:
      refused(lambda name=name, x=x: call({**arrays, name: x[..., :0]}, DENSE))
      refused(lambda name=name, x=x: call({**arrays, name: x[0, 0]}, DENSE))


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("groups")])
def test_a_temperature_or_label_of_another_type_is_refused_in_one_line(case):
  arrays, call, _ = CASES[case]
  arrays = float32(arrays)
  wrong = {"tau": (None, "0.1", 0.0, -1.0, np.nan, True, [0.1]), "bias": (None, "1", [1.0])}
  wrong["label"] = (
    np.asarray(arrays.get("label", 0)).astype(str), np.asarray(arrays.get("label", 0)) * 1.0, None,
  )  # fmt: skip
  for name in sorted(wrong.keys() & arrays.keys()):
    for value in wrong[name]:
      if name == "label" and value is None and case == "n_pairs":
        continue
      refused(lambda name=name, value=value: call({**arrays, name: value}, DENSE))


NUMBERS = {
  "alignment": ["alpha"],
  "arcface": ["margin", "scale"],
  "barlow_twins": ["redundancy_weight", "eps"],
  "cacr": ["t_plus", "t_minus"],
  "circle": ["margin", "scale"],
  "cosface": ["margin", "scale"],
  "dclw": ["sigma"],
  "debiased": ["tau_plus"],
  "dual_temperature": ["inter_temperature"],
  "group_ordering": ["k", "steepness"],
  "hard_negative": ["beta", "tau_plus"],
  "hard_quantile": ["alpha"],
  "meco": ["gamma"],
  "multi_similarity": ["alpha", "beta", "base", "margin"],
  "n_pairs": ["l2_weight"],
  "rince": ["q", "weight"],
  "self_distillation": ["center", "teacher_temperature"],
  "sinkhorn": ["epsilon", "iterations"],
  "soft_contrastive": ["guide_temperature"],
  "sogclr": ["gamma"],
  "spectral": ["max_length"],
  "triplet": ["margin"],
  "uniformity": ["t"],
  "vicreg": ["invariance_weight", "variance_weight", "covariance_weight", "eps"],
  "w_mse": ["slices", "shrinkage"],
}
"""The options of each loss that are numbers; all others are arrays, temperatures or flags."""
OTHER_OPTIONS = {
  "temperature", "plan", "bias", "negatives", "labels", "mining", "aggregate", "detach_weights",
  "detach_candidates", "own_in_denominator", "shuffles", "index", "memory", "relative", "bimodal",
}  # fmt: skip
FLOATS = (
  "z1", "z2", "a", "b", "x", "y", "z", "anchors", "positives", "proxies", "guide", "predictions",
  "targets", "views", "student", "teacher", "scores", "assignments", "data", "noise", "log_noise",
  "data_log_noise",
)  # fmt: skip
"""The arguments of losses that are arrays of floats; `modalities` are those of `symile`."""


def arguments(n, d):
  """An argument of each name."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  def of(name):
    if name in ("views", "student", "teacher", "assignments"):
      return normal(2, n, d)
    if name in ("data", "noise", "log_noise", "data_log_noise"):
      return normal(n)
    return normal(3, d) if name == "proxies" else normal(n, d)

  others = {
    "labels": np.arange(n) % 3, "temperature": 0.1, "index": np.arange(n), "margin": 0.1,
    "center": 0.0, "inter_temperature": 1.0, "tau_plus": 0.1, "beta": 1.0, "alpha": 0.5,
    "bias": -1.0,
  }  # fmt: skip
  return {name: of(name) for name in FLOATS} | others


def options_of(name, made, *more):
  """The arguments that a loss needs, and `more` of its options, by name."""
  parameters = inspect.signature(getattr(losses, name)).parameters.values()
  given = {
    p.name: made[p.name]
    for p in parameters
    if p.name in made and (p.default is p.empty or p.name in more)
  }
  if name == "swapped_prediction":
    given["scores"] = made["views"]
  if name == "symile":
    given |= {key: made[key] for key in ("a", "b", "x")}
  if "memory" in (p.name for p in parameters):
    given["memory"] = criteria.sogclr().init(1 if name == "meco" else len(made["a"]))
  return given


def symile(arrays, rest):
  return losses.symile(*arrays.values(), **rest)


def test_every_option_of_every_loss_is_in_a_table():
  for name in mesh.public(losses):
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert options - OTHER_OPTIONS == set(NUMBERS.get(name, ())), name


@pytest.mark.parametrize(
  ("name", "option"), [(name, option) for name, options in NUMBERS.items() for option in options]
)
def test_an_option_that_is_no_number_is_refused_in_one_line(name, option):
  loss, given = getattr(losses, name), options_of(name, arguments(8, 3), option)
  loss(**given)
  for wrong in ("0.1", [0.1], {}, np.array("x")):
    refused(lambda wrong=wrong: loss(**{**given, option: wrong}))


def test_integers_that_jax_would_cut_are_refused_in_a_side_and_a_search():
  side = {"index": np.arange(8) + 2**40, "view": np.zeros(8, int)}
  far = Group(Z, side)
  refused(
    lambda: reduce(_Each(), far, (far,), score=dot(), reductions={"sum": sum_}),
    "'index'",
    "JAX's int32",
  )
  refused(lambda: top_k(Z, Z, 2, exclude=np.arange(8) + 2**40), "exclude")


def test_the_tables_have_no_array_that_no_test_breaks():
  """A new loss may bring an array of a new name: it is then to be added to `VECTORS`."""
  names = {name for arrays, *_ in CASES.values() for name in arrays}
  assert names - VECTORS == {"tau", "label", "bias", "other", "anchors", "queue", "own", "score"}
