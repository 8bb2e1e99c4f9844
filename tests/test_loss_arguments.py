"""What a loss refuses in one line: arrays, temperatures, labels and options of other types."""

import inspect

import jax
import numpy as np
import pytest
from loss_arguments import (
  CASES,
  DENSE,
  NUMBERS,
  OTHER_OPTIONS,
  VECTORS,
  Z,
  arguments,
  float32,
  options_of,
  refused,
)
from mesh import public

from contrastax import losses
from contrastax.core import Group
from contrastax.pairwise import dot, reduce, top_k
from contrastax.pairwise.reductions import sum_


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


def test_every_option_of_every_loss_is_in_a_table():
  for name in public(losses):
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert options - OTHER_OPTIONS == set(NUMBERS.get(name, ())), name


@pytest.mark.parametrize(
  ("name", "option"), [(name, option) for name, options in NUMBERS.items() for option in options]
)
def test_an_option_that_is_no_number_is_refused_in_one_line(name, option):
  loss, given = getattr(losses, name), options_of(name, arguments(8, 3), option)
  jax.eval_shape(lambda: loss(**given))  # is not refused; its options are known numbers
  for wrong in ("0.1", [0.1], {}, np.array("x")):
    refused(lambda wrong=wrong: loss(**{**given, option: wrong}))


def _negated(similarity, a, c, shared):
  return {"sum": -similarity}


def test_integers_that_jax_would_cut_are_refused_in_a_side_and_a_search():
  side = {"index": np.arange(8) + 2**40, "view": np.zeros(8, int)}
  far = Group(Z, side)
  refused(
    lambda: reduce(_negated, far, (far,), score=dot(), reductions={"sum": sum_}),
    "'index'",
    "JAX's int32",
  )
  refused(lambda: top_k(Z, Z, 2, exclude=np.arange(8) + 2**40), "exclude")


def test_the_tables_have_no_array_that_no_test_breaks():
  """A new loss may bring an array of a new name: it is then to be added to `VECTORS`."""
  names = {name for arrays, *_ in CASES.values() for name in arrays}
  assert names - VECTORS == {"tau", "label", "bias", "other", "anchors", "queue", "own", "score"}
