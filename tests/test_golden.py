"""Public implementations: their values and gradients, beside ours, in float64.

`tests/golden/LOSS__IMPLEMENTATION.npz` is what one implementation computes of one loss:
`in_*` inputs, `case{k}_value`, `case{k}_grad_{argument}`, and `meta`, a JSON text. It says whose
code it is, its formula and conventions, and of every case the parameters, inputs and learned
scalars, and which arguments have gradients: those that the code does not detach.

`GOLDEN_DIR=DIR python -m pytest tests/test_golden.py` compares any folder of that layout. The
run ends with a table: how many cases are compared and agree, how many are left out and why.
A loss of which the tables here know nothing is left out as unknown.
"""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import textwrap
import types

import jax
import numpy as np
import pytest
from golden_rows import times
from golden_tables import (
  CASES_LEFT_OUT,
  LEFT_OUT,
  LOOSER,
  ON_ARRAYS_ONLY,
  ROWS,
  SCORES,
  all_unit,
  largest_square,
)
from records import tangent

from contrastax.pairwise import dot

FOLDER = pathlib.Path(os.environ.get("GOLDEN_DIR", pathlib.Path(__file__).parent / "golden"))


@dataclasses.dataclass(frozen=True)
class Case:
  """One case of one file; `left_out`: why it is not compared, or None."""

  file: str
  meta: dict
  left_out: str | None

  def __str__(self):
    return f"{self.file}-{self.meta['case']}"

  @property
  def loss(self):
    return self.file.split("__")[0]


def entry(table, file):
  """A table's entry for an implementation, else for its loss."""
  return table.get(file, table.get(file.split("__")[0]))


def arrays_of(arrays, meta):
  """Inputs and learned scalars, value, and gradients."""
  inputs = {name: arrays[key] for name, key in meta["inputs"].items()}
  drawn = f"case{meta['case']}_out_perm"
  inputs |= {key.partition("_")[2]: arrays[key] for key in arrays if key.startswith(drawn)}
  inputs |= {name: np.float64(value) for name, value in meta.get("scalars", {}).items()}
  gradients = {name: arrays[f"case{meta['case']}_grad_{name}"] for name in meta["grads"]}
  return inputs, arrays[f"case{meta['case']}_value"], gradients


def why_left_out(file, meta, arrays):
  if file in LEFT_OUT or entry(ROWS, file) is None:
    return entry(LEFT_OUT, file) or "unknown"
  if "raises" in meta:
    return "raises"
  inputs, value, gradients = arrays_of(arrays, meta)
  if not all(np.isfinite(found).all() for found in (value, *gradients.values())):
    return "its value or its gradient is not finite"
  for name, of_case, reason in CASES_LEFT_OUT:
    p, x = types.SimpleNamespace(**meta["params"]), types.SimpleNamespace(**inputs)
    if name in (file, file.split("__")[0]) and of_case(p, x):
      return reason


def read():
  for path in sorted(FOLDER.glob("*.npz")):
    arrays = np.load(path)
    about = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
    if "records" in about:
      continue  # the layout of tests/records.py
    for meta in about.get("cases", [{"case": 0}]):
      yield Case(path.stem, meta, why_left_out(path.stem, meta, arrays))


CASES = list(read())


@functools.cache
def load(file):
  return dict(np.load(FOLDER / f"{file}.npz"))


@functools.cache
def compiled(row, score, static):
  static = json.loads(static)

  def value(wanted, others, numbers):
    x, p = types.SimpleNamespace(**wanted, **others), types.SimpleNamespace(**static, **numbers)
    return row(x, p, score)

  return jax.jit(jax.value_and_grad(value))


def is_traced(name, value):
  """Whether cases that differ in this parameter alone share one compiled program."""
  return type(value) is float and name not in ("tau_plus", "beta", "q", "lam")


def evaluate(row, score, inputs, names, params):
  """Our value, and its gradients by the named inputs."""
  factor = 1.0
  if isinstance(row, times):
    factor = row.factor(params["temperature"]) if callable(row.factor) else row.factor
    row = row.row
  inputs = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in inputs.items()}
  numbers = {k: np.float64(v) for k, v in params.items() if is_traced(k, v)}
  static = json.dumps({k: v for k, v in params.items() if k not in numbers}, sort_keys=True)
  others = {k: v for k, v in inputs.items() if k not in names}
  found = compiled(row, score, static)({k: inputs[k] for k in names}, others, numbers)
  return jax.tree.map(lambda x: factor * np.asarray(x), found)


def comparisons(file, inputs):
  """Of which scores, and whether to the gradients' projections."""
  score = SCORES.get(file)
  if file not in ON_ARRAYS_ONLY:
    yield score, False
  if score == dot() and all_unit(types.SimpleNamespace(**inputs)):
    yield None, True


@pytest.mark.parametrize("case", [case for case in CASES if not case.left_out], ids=str)
def test_ours_is_what_public_code_computes(float64, case):
  inputs, value, gradients = arrays_of(load(case.file), case.meta)
  params = case.meta["params"]
  tau = params.get("temperature", params.get("tau", 1 / params.get("scale", 1)))
  # To 1e-9, of a gradient's largest entry. But a value is a difference of logits: float64 leaves
  # 1e-15 of the largest of them, 1e-13 at temperature 0.01, and float32 some 1e-6.
  largest = (largest_square(types.SimpleNamespace(**inputs)) if case.file in SCORES else 1) / tau
  double = case.meta["dtype"] == "float64"
  rtol, floor = (1e-9, 1e-15 * largest) if double else (2e-6 * largest,) * 2
  rtol, _ = entry(LOOSER, case.file) or (rtol, "")
  compared = False
  for score, projected in comparisons(case.file, inputs):
    row = entry(ROWS, case.file)
    found, found_gradients = evaluate(row, score, inputs, list(gradients), params)
    np.testing.assert_allclose(found, value, rtol=rtol, atol=floor)
    for name, expected in gradients.items():
      if projected and expected.ndim == 2 and expected.shape[1] > 1:
        expected = tangent(expected, inputs[name])
      atol = rtol * np.abs(expected).max() + floor
      np.testing.assert_allclose(found_gradients[name], expected, rtol=0, atol=atol, err_msg=name)
    compared = True
  assert compared


def summarize(terminalreporter):
  """The table at the end of the run, which conftest.py asks for."""
  passed = {report.nodeid for report in terminalreporter.stats.get("passed", ())}
  of_test = f"tests/test_golden.py::{test_ours_is_what_public_code_computes.__name__}"
  agree = collections.Counter(case.loss for case in CASES if f"{of_test}[{case}]" in passed)
  write = terminalreporter.write_line
  files = collections.Counter(loss for loss, _ in {(case.loss, case.file) for case in CASES})
  compared = collections.Counter(case.loss for case in CASES if not case.left_out)
  left_out = collections.Counter(case.loss for case in CASES if case.left_out)
  single = sum(case.meta["dtype"] == "float32" for case in CASES if not case.left_out)
  terminalreporter.section(f"public implementations, {FOLDER.name}: {len(CASES)} cases")
  row = "{:26}{:>7}{:>10}{:>7}{:>10}".format
  write(row("loss", "files", "compared", "agree", "left out"))
  for loss in sorted(compared):
    write(row(loss, files[loss], compared[loss], agree[loss], left_out[loss]))
  write(row("others", sum(files[loss] for loss in files if loss not in compared), 0, 0,
            sum(left_out[loss] for loss in left_out if loss not in compared)))  # fmt: skip
  write(row("in all", files.total(), compared.total(), agree.total(), left_out.total()))
  for name, (rtol, why) in LOOSER.items():
    write(f"{name} is compared to {rtol:g}: {why}")
  write(f"{single} of those compared ran in float32 and are compared to its precision")
  reasons = collections.defaultdict(collections.Counter)
  for case in CASES:
    if case.left_out:
      reasons[case.left_out][case.file if entry(ROWS, case.file) else case.loss] += 1
  for reason, of in reasons.items():
    names = ", ".join(f"{name} {count}" for name, count in of.items())
    text = f"{of.total()} left out: {reason}: {names}"
    for line in textwrap.wrap(text, 98, subsequent_indent="  "):
      write(line)
