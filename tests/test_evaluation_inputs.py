"""What every function of `evaluation` makes of types of numbers, NaN, labels and options.

A new function joins by one line in VECTORS, LABELS or ELSEWHERE.
"""

import functools
import types
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import evaluation
from contrastax.core import Encoder, Group, UserError
from contrastax.evaluation.finetune import labeled
from contrastax.evaluation.probes import draws
from contrastax.relations import same_example, same_label

N, M, D, CLASSES = 24, 16, 4, 3
_rng = np.random.default_rng(0)
Y, Y2 = np.arange(N) % CLASSES, np.arange(M) % CLASSES
_centers = _rng.integers(2, 9, (CLASSES, D))
X, X2 = (np.clip(_centers[y] + _rng.integers(-3, 4, (len(y), D)), 0, 15) for y in (Y, Y2))
"""Whole numbers from 0 to 15, which are exact in every type below."""
X, X2 = X.astype(np.float32), X2.astype(np.float32)


def group(x, y, index):
  n = len(y)
  side = {"index": index, "view": np.zeros(n), "label": y}
  return Group(x, {**side, "as_positive": np.ones(n), "as_negative": np.ones(n)})


def ranked(x, y, x2, y2, relation=same_example()):
  anchors = group(x, y, np.arange(len(y)))
  return evaluation.ranked_negatives(
    anchors, [group(x2, y2, len(y) + np.arange(len(y2)))], relation=relation
  )


def transferred(x, y, x2, y2):
  def encoder(images):
    return x if len(images) == N else x2

  encoder.inputs = jax.ShapeDtypeStruct((1, 1, 1), np.uint8)
  train, test = (np.zeros((size, 1, 1, 1), np.uint8) for size in (N, M))
  return evaluation.transfer(encoder, {"image": train, "label": y}, {"image": test, "label": y2})


LINEAR = Encoder(None, lambda w, s, x, *, key=None, train: (x.reshape(len(x), -1) @ w, s))


def fine_tuned(x, y, x2, y2):
  train, test = ({"image": x[:, None, None] / 15, "label": y} for x, y in ((x, y), (x2, y2)))
  return evaluation.fine_tune(LINEAR, jnp.eye(D), {}, train, test, fraction=0.5, steps=3)


SPLIT = "features", "test_features"
VECTORS = {
  "knn": (lambda x, x2: evaluation.knn(x, Y, x2, Y2, k=5), SPLIT),
  "knn_predictions": (lambda x, x2: evaluation.knn_predictions(x, Y, x2, k=5), SPLIT),
  "knn_leave_one_out": (lambda x, x2: evaluation.knn_leave_one_out(x, Y, k=5), SPLIT[:1]),
  "linear": (lambda x, x2: evaluation.linear(x, Y, x2, Y2), SPLIT),
  "linear_predictions": (lambda x, x2: evaluation.linear_predictions(x, Y, x2), SPLIT),
  "few_label": (lambda x, x2: evaluation.few_label(x, Y, x2, Y2, per_class=2), SPLIT),
  "probes": (lambda x, x2: evaluation.probes(x, Y, x2, Y2), SPLIT),
  "transfer": (lambda x, x2: transferred(x, Y, x2, Y2), SPLIT),
  "retrieval": (lambda x, x2: evaluation.retrieval(x, Y), SPLIT[:1]),
  "cka": (lambda x, x2: evaluation.cka(x[:M], x2), ("x", "y")),
  "ranked_negatives": (lambda x, x2: ranked(x, Y, x2, Y2), ("the anchors", "group 0")),
  "alignment": (lambda x, x2: evaluation.alignment(x[:M], x2), ("x", "y")),
  "uniformity": (lambda x, x2: evaluation.uniformity(x), ("x",)),
  "tolerance": (lambda x, x2: evaluation.tolerance(x, Y), ("x",)),
  "effective_rank": (lambda x, x2: evaluation.effective_rank(x), ("x",)),
  "embedding_std": (lambda x, x2: evaluation.embedding_std(x), ("x",)),
  "lidar": (lambda x, x2: evaluation.lidar(_views(x)), ("x",)),
}
"""{name: (a function of two sets of vectors [N, D] and [M, D], the names of those it takes)}."""

LABELS = {
  "knn": lambda y, y2: evaluation.knn(X, y, X2, y2, k=5),
  "knn_predictions": lambda y, y2: evaluation.knn_predictions(X, y, X2, k=5) == np.asarray(y2),
  "knn_leave_one_out": lambda y, y2: evaluation.knn_leave_one_out(X, y, k=5),
  "linear": lambda y, y2: evaluation.linear(X, y, X2, y2),
  "linear_predictions": lambda y, y2: evaluation.linear_predictions(X, y, X2) == np.asarray(y2),
  "few_label": lambda y, y2: evaluation.few_label(X, y, X2, y2, per_class=2),
  "probes": lambda y, y2: evaluation.probes(X, y, X2, y2),
  "transfer": lambda y, y2: transferred(X, y, X2, y2),
  "fine_tune": lambda y, y2: fine_tuned(X, y, X2, y2),
  "retrieval": lambda y, y2: evaluation.retrieval(X, y),
  "tolerance": lambda y, y2: evaluation.tolerance(X, y),
}
"""{name: a function of labels [N] and [M]}."""

BY_ORDER = {"linear", "linear_predictions", "few_label", "probes", "transfer", "fine_tune"}
"""Those that draw examples, class by class in the sorted order of the names."""

ELSEWHERE = {
  "RankedNegatives": "holds results",
  "accuracy_difference": "takes booleans: test_compare.py",
  "embed": "takes images",
  "mean_and_interval": "takes values: below",
  "online_probe": "takes labels of training: test_online_probe.py",
  "with_online_probe": "takes a method: test_online_probe.py",
}

GEOMETRY = ("alignment", "uniformity", "tolerance", "effective_rank", "embedding_std", "lidar")

takes_vectors = pytest.mark.parametrize("name", VECTORS)
takes_labels = pytest.mark.parametrize("name", LABELS)


@functools.cache
def of_vectors(name):
  """What the function gives for the vectors as they are, in float32."""
  return VECTORS[name][0](X, X2)


@functools.cache
def of_labels(name):
  """What the function gives for the labels as they are, from 0."""
  return LABELS[name](Y, Y2)


def _views(x):
  """[N, D] as [N/2, 2, D]; slices of [0, …] and other ranks as they are."""
  return x.reshape(-1, 2, D) if np.shape(x) == (N, D) else x


def refused(call):
  """The one line with which a call is refused."""
  with pytest.raises(UserError) as error:
    call()
  assert "\n" not in str(error.value)
  return str(error.value)


def test_every_public_function_is_listed():
  public = {
    name for name, value in vars(evaluation).items()
    if not name.startswith("_") and not isinstance(value, types.ModuleType)
    and getattr(value, "__module__", "").startswith("contrastax.evaluation")
  }  # fmt: skip
  assert {*VECTORS, *LABELS, *ELSEWHERE} == public
  assert set(LABELS) >= BY_ORDER and set(GEOMETRY) <= set(VECTORS)


# Types of numbers.

TYPES = ("uint8", "int8", "int32", "int64", "uint64", "float16", "bfloat16", "float64")
MIXED = ("uint8", "float16", "float64")  # beside float32
COMPOSED = {"probes", "transfer"}  # of the others; one type shows that they hand vectors on


@takes_vectors
def test_the_type_of_numbers_does_not_matter(name):
  call, _ = VECTORS[name]
  expected = of_vectors(name)
  for dtype in TYPES[: 1 if name in COMPOSED else None]:
    x, x2 = X.astype(jnp.dtype(dtype)), X2.astype(jnp.dtype(dtype))
    for ours, theirs in ((x, x2), (X, x2), (x, X2))[: 3 if dtype in MIXED else 1]:
      found = call(ours, theirs)
      if dtype == "float64":  # in which some compute then
        chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
      else:
        chex.assert_trees_all_equal(found, expected)


@takes_vectors
def test_vectors_may_be_jax_arrays_and_bools_count_as_numbers(name):
  call, _ = VECTORS[name]
  chex.assert_trees_all_equal(call(jnp.asarray(X), jnp.asarray(X2)), of_vectors(name))
  ours, theirs = X > 5, X2 > 5
  expected = call(ours.astype(np.float32), theirs.astype(np.float32))
  chex.assert_trees_all_equal(call(ours, theirs), expected)


def test_vectors_may_be_lists():
  for found, expected in (
    (evaluation.knn(X.tolist(), Y, X2.tolist(), Y2), evaluation.knn(X, Y, X2, Y2)),
    (evaluation.uniformity(X.astype(int).tolist()), evaluation.uniformity(X)),
  ):
    chex.assert_trees_all_close(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", GEOMETRY)
def test_traced_integers_and_half_precision_are_those_of_float32(name):
  call, _ = VECTORS[name]
  expected = of_vectors(name)
  for dtype in ("int8", "int32", "float16", "bfloat16"):
    x, x2 = X.astype(jnp.dtype(dtype)), X2.astype(jnp.dtype(dtype))
    chex.assert_trees_all_close(jax.jit(call)(x, x2), expected, rtol=1e-5)


# What is no vector.


@takes_vectors
def test_what_is_not_finite_is_refused_with_its_row(name):
  call, arguments = VECTORS[name]
  for at, argument in enumerate(arguments):
    for value, shown in ((np.nan, "nan"), (-np.inf, "-inf"), (1e300, "1e+300")):
      sets = [X.astype(np.float64), X2.astype(np.float64)]
      sets[at][6, 1] = sets[at][9, 0] = value
      row = 3 if name == "lidar" else 6  # whose rows are images of two views
      line = refused(lambda sets=sets: call(*sets))
      assert line.startswith(f"row {row} of {argument} has the value {shown};")


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_and_traced_gives_nan(name, value):
  call, arguments = VECTORS[name]
  for at in range(len(arguments)):
    sets = [X.copy(), X2.copy()]
    sets[at][6, 1] = value
    assert np.isnan(jax.jit(call)(*sets))


NO_VECTORS = {
  "one vector": X[0],
  "no vectors": X[:0],
  "no dimensions": X[:, :0],
  "four axes": np.zeros((2, 2, 2, 2)),
  "strings": X.astype(str),
  "complex numbers": X.astype(complex),
  "objects": X.astype(object),
}


@takes_vectors
@pytest.mark.parametrize("wrong", NO_VECTORS)
def test_what_is_no_set_of_vectors_is_refused(name, wrong):
  if name in ("ranked_negatives",) and wrong == "one vector":
    return  # a group knows its rank from its vectors
  call, arguments = VECTORS[name]
  for at, argument in enumerate(arguments):
    sets = [X, X2]
    sets[at] = NO_VECTORS[wrong]
    assert argument in refused(lambda sets=sets: call(*sets))


def test_ragged_lists_and_traced_arrays_are_refused_on_the_host():
  assert "features is not an array" in refused(lambda: evaluation.retrieval([[1.0, 2], [1.0]], Y))
  assert "outside jax.jit" in refused(lambda: jax.jit(lambda x: evaluation.retrieval(x, Y))(X))


@pytest.mark.parametrize("name", [n for n, (_, names) in VECTORS.items() if names == SPLIT])
def test_training_and_test_features_have_one_dimension(name):
  call, _ = VECTORS[name]
  assert "features have 4 dimensions, but test_features have 3" in refused(
    lambda: call(X, X2[:, :3])
  )


# Labels.

IN_ORDER = {
  "a class -1": lambda y: y - 1,
  "negative": lambda y: 7 * y - 10**12,
  "multiples of 2**40": lambda y: y * 2**40,
  "int8": lambda y: y.astype(np.int8),
  "uint64": lambda y: y.astype(np.uint64) + 2**62,
  "strings": lambda y: np.array(["ant", "bee", "cat"])[y],
  "bytes": lambda y: np.array([b"ant", b"bee", b"cat"])[y],
  "objects": lambda y: np.array(["ant", "bee", "cat"], object)[y],
  "variable strings": lambda y: np.array(["ant", "bee", "cat"], np.dtypes.StringDType())[y],
  "integer objects": lambda y: (y * 2**40).astype(object),
  "lists": lambda y: y.tolist(),
  "lists of strings": lambda y: [f"class {i}" for i in y],
  "JAX arrays": jnp.asarray,
}
ANEW = {
  "turned": lambda y: np.array([2, 0, 1])[y],
  "far apart": lambda y: np.array([2**40, -(2**50), 2**40 + 2**32])[y],
  "strings": lambda y: np.array(["x", "longer", "a"])[y],
}


@takes_labels
@pytest.mark.parametrize("kind", IN_ORDER)
def test_a_label_is_a_name_whatever_its_type_and_value(name, kind):
  call, rename = LABELS[name], IN_ORDER[kind]
  chex.assert_trees_all_equal(call(rename(Y), rename(Y2)), of_labels(name))


@pytest.mark.parametrize("name", sorted(set(LABELS) - BY_ORDER))
@pytest.mark.parametrize("kind", ANEW)
def test_names_in_any_order_change_nothing(name, kind):
  call, rename = LABELS[name], ANEW[kind]
  chex.assert_trees_all_equal(call(rename(Y), rename(Y2)), of_labels(name))


@takes_labels
def test_bools_are_two_classes(name):
  call = LABELS[name]
  found = call(Y > 0, Y2 > 0)
  chex.assert_trees_all_equal(found, call((Y > 0).astype(int), (Y2 > 0).astype(int)))


def test_predictions_are_labels_of_the_type_given():
  for y in (Y, Y.astype(np.uint8), Y > 0, Y.astype(str), Y * 2**40 - 1):
    for predictions in (evaluation.linear_predictions, evaluation.knn_predictions):
      found = predictions(X, y, X2)
      assert found.dtype == y.dtype and set(found) <= set(y)


@pytest.mark.parametrize("name", ["knn", "linear", "few_label", "fine_tune"])
@pytest.mark.parametrize("rename", [lambda y: y, lambda y: y * 2**40, lambda y: y.astype(str)])
def test_a_test_class_that_training_does_not_have_is_missed(name, rename):
  whole, new = rename(Y2), rename(np.where(Y2 == 0, 7, Y2))
  right, fewer = (np.mean(LABELS[name](rename(Y), y2)) for y2 in (whole, new))
  zeros = (np.mean(LABELS[name](rename(Y), rename(np.where(Y2 == 0, 0, 7)))) for _ in range(1))
  assert right == pytest.approx(fewer + next(zeros)) and right > 0.4


def test_tolerance_takes_traced_labels_as_they_are():
  tolerance = jax.jit(evaluation.tolerance)
  for y in (Y - 1, Y.astype(np.uint8), Y > 0):
    chex.assert_trees_all_close(tolerance(X, y), evaluation.tolerance(X, y), rtol=1e-6)
  for y in (Y * 1.0, Y[:, None], Y[:5]):
    assert f"label must be [{N}] integers or bools" in refused(lambda y=y: tolerance(X, y))


def _with(y, row, value):
  y = np.array(y, object)
  y[row] = value
  return y


NO_LABELS = {
  "floats": (lambda y: y * 1.0, ".astype(int)"),
  "half precision": (lambda y: jnp.asarray(y, jnp.bfloat16), ".astype(int)"),
  "NaN": (lambda y: np.where(y == 0, np.nan, y), ".astype(int)"),
  "a NaN among objects": (lambda y: _with(y, 2, np.nan), "row 2 of"),
  "None": (lambda y: _with(y, 2, None), "row 2 of"),
  "a None among strings": (lambda y: [*y.astype(str)[:2], None, *y.astype(str)[3:]], "row 2 of"),
  "numbers among strings": (lambda y: ["a", *y[1:].tolist()], "row 1 of"),
  "a column": (lambda y: y[:, None], "[:, 0]"),
  "one-hot rows": (lambda y: np.eye(CLASSES, dtype=int)[y], ".argmax(1)"),
  "a scalar": (lambda y: y[0], "must be [n]"),
  "too few": (lambda y: y[:4], "not 4; give one for each"),
  "too many": (lambda y: np.append(y, 0), "give one for each"),
  "none": (lambda y: y[:0], "not 0; give one for each"),
  "beyond 64 bits": (lambda y: _with(y, 2, 2**70), "below 2^63"),
  "beyond int64": (lambda y: y.astype(np.uint64) + 2**63, "below 2^63"),
  "dates": (lambda y: y.astype("datetime64[s]"), "must be integers, bools or strings"),
  "complex numbers": (lambda y: y * 1j, "must be integers, bools or strings"),
}


@takes_labels
@pytest.mark.parametrize("wrong", NO_LABELS)
def test_what_is_no_label_is_refused(name, wrong):
  make, expected = NO_LABELS[wrong]
  assert expected in refused(lambda: LABELS[name](make(Y), Y2))
  without_test = (
    "knn_leave_one_out",
    "knn_predictions",
    "linear_predictions",
    "retrieval",
    "tolerance",
  )
  if name not in without_test:
    line = refused(lambda: LABELS[name](Y, make(Y2)))
    assert expected in line and "test" in line


@pytest.mark.parametrize("name", ["knn", "linear", "few_label", "probes", "transfer", "fine_tune"])
def test_labels_of_training_and_test_are_of_one_kind(name):
  strings = "labels are integers, but test.labels are strings; use one type for both"
  with pytest.raises(UserError, match=strings):
    LABELS[name](Y, Y2.astype(str))
  with pytest.raises(UserError, match="are strings, but test.labels are bytes"):
    LABELS[name](Y.astype(str), Y2.astype("S"))


# The negatives' labels are those of training: −1 is no label.


def test_a_pair_without_a_label_is_neither_a_true_nor_a_false_negative():
  y, y2 = np.where(Y == 0, -1, Y), np.where(Y2 == 1, -1, Y2)
  known, found = ranked(X, Y, X2, Y2), ranked(X, y, X2, y2)
  np.testing.assert_array_equal(found.index, known.index)
  unlabeled = (y == -1)[:, None] | (y2 == -1)[found.index - N]
  np.testing.assert_array_equal(np.isnan(found.false), unlabeled)
  np.testing.assert_array_equal(found.false[~unlabeled], known.false[~unlabeled])
  as_floats = (np.where(label == -1, np.nan, label) for label in (y, y2))
  for labels in ((np.where(x == -1, -1, x * 2**40) for x in (y, y2)), as_floats):
    chex.assert_trees_all_equal(ranked(X, next(labels), X2, next(labels)), found)


@pytest.mark.parametrize("kind", [*ANEW, "multiples of 2**40", "negative", "int8", "JAX arrays"])
def test_negatives_and_their_relation_see_labels_whatever_their_type_and_value(kind):
  rename = (IN_ORDER | ANEW)[kind]
  if kind == "strings":
    assert "integers or booleans" in refused(lambda: ranked(X, rename(Y), X2, rename(Y2)))
    return
  for relation in (same_example(), same_label()):
    expected = ranked(X, Y, X2, Y2, relation)
    assert np.isfinite(expected.negative).any()
    chex.assert_trees_all_equal(ranked(X, rename(Y), X2, rename(Y2), relation), expected)


def test_groups_that_do_not_fit_are_refused():
  assert "integers or booleans" in refused(lambda: ranked(X, Y * 1.0, X2, Y2))
  assert "integers or booleans" in refused(lambda: ranked(X, Y.astype(str), X2, Y2))
  assert "side 'index' of group 0" in refused(lambda: ranked(X, Y, X2, Y2[:4]))
  assert "dimensions" in refused(lambda: ranked(X, Y, X2[:, :2], Y2))
  bare = Group(X, {"index": np.arange(N)})
  line = refused(lambda: evaluation.ranked_negatives(bare, [bare], relation=same_example()))
  assert "the anchors must have the sides as_negative, as_positive" in line
  anchors = group(X, Y, np.arange(N))
  line = refused(lambda: evaluation.ranked_negatives(anchors, [], relation=same_example()))
  assert "no candidate group" in line


# Options, and sets that are too small.

VALUES = np.array([0.1, 0.3])
OPTIONS = {
  "knn k": ((0, -1, 2.5, "5", None, True), lambda v: evaluation.knn(X, Y, X2, Y2, k=v)),
  "leave-one-out k": ((0, 2.5), lambda v: evaluation.knn_leave_one_out(X, Y, k=v)),
  "temperature": (
    (0, -1.0, np.nan, np.inf, "0.1", None, [0.1]),
    lambda v: evaluation.knn(X, Y, X2, Y2, temperature=v),
  ),
  "ks": (
    ((), 5, "15", (0,), (N,), (1.5,), None), lambda v: evaluation.retrieval(X, Y, ks=v),
  ),
  "per_class": ((0, -1, 1.5, None), lambda v: evaluation.few_label(X, Y, X2, Y2, per_class=v)),
  "draws": ((0, 9), lambda v: list(draws(Y, v))),
  "alpha": ((0, -1, np.nan, "2"), lambda v: evaluation.alignment(X, X, alpha=v)),
  "t": ((0, -1, np.inf, None), lambda v: evaluation.uniformity(X, t=v)),
  "delta": ((0, -1, np.nan), lambda v: evaluation.lidar(_views(X), delta=v)),
  "confidence": (
    (0, 1, 1.5, np.nan, "0.95"), lambda v: evaluation.mean_and_interval(VALUES, confidence=v),
  ),
  "values": (
    ([], [[1.0]], 0.5, ["a"], [1j], [None]), lambda v: evaluation.mean_and_interval(v),
  ),
  "fraction": ((0, 1.5, np.nan, "1", None), lambda v: labeled(Y, v)),
  "classes": ((0, -1, 2.5, None), evaluation.online_probe),
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_options_out_of_range_or_of_another_type_are_refused(option):
  values, call = OPTIONS[option]
  for value in values:
    refused(lambda value=value: call(value))


def test_options_may_be_numpys_numbers():
  assert evaluation.knn(X, Y, X2, Y2, k=np.int32(5), temperature=np.float32(0.1)) > 0.4
  assert evaluation.retrieval(X, Y, ks=np.array([1, 3]))["recall@3"] > 0.4
  assert np.isfinite(evaluation.mean_and_interval(VALUES, confidence=np.float32(0.5))).all()


def test_values_that_are_nan_have_no_mean():
  """`few_label` gives NaN where a class has fewer examples."""
  assert np.isnan(evaluation.mean_and_interval([np.nan, 0.5])).all()
  assert evaluation.mean_and_interval([1, 3])[0] == 2


TOO_SMALL = {
  "few_label of one class": lambda: evaluation.few_label(X, 0 * Y, X2, 0 * Y2, per_class=1),
  "leave-one-out of one": lambda: evaluation.knn_leave_one_out(X[:1], Y[:1]),
  "linear of one": lambda: evaluation.linear(X[:1], Y[:1], X2, Y2),
  "retrieval of one": lambda: evaluation.retrieval(X[:1], Y[:1]),
  "cka of one": lambda: evaluation.cka(X[:1], X[:1]),
  "uniformity of one": lambda: evaluation.uniformity(X[:1]),
  "tolerance of one": lambda: evaluation.tolerance(X[:1], Y[:1]),
  "lidar of one view": lambda: evaluation.lidar(X[:, None]),
  "no labels": lambda: labeled(Y[:0], 0.5),
  "draws of no labels": lambda: list(draws(Y[:0], 1)),
  "transfer of no labels": lambda: evaluation.transfer(None, {"image": X}, {"image": X}),
}


@pytest.mark.parametrize("case", TOO_SMALL)
def test_too_few_examples_are_refused(case):
  refused(TOO_SMALL[case])


def test_many_classes_print_no_warnings():
  many = np.arange(N)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert evaluation.few_label(X, many, X, many, per_class=1).mean() > 0.9
