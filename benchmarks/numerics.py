"""The numerical certificate: the rounding error of every public loss in float32 and bfloat16.

  python -m benchmarks.numerics          # 5 minutes; writes docs/numerics.md

`INTRO` states what is evaluated and the bounds. A result outside of them ends the script with exit code 1.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
import pathlib
import platform
import sys

import jax
import jax.numpy as jnp
import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from formulas import LOSSES  # noqa: E402

PAGE = HERE.parent / "docs" / "numerics.md"
EPS = float(np.finfo(np.float32).eps)
TEMPERATURES = (1e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0)
INTRO = """\
Every loss on arrays is evaluated in all its forms (`tests/formulas.py` lists the forms, each with its formula):

- at temperatures from 1e-3 to 10, if it has a temperature,
- with float32 and bfloat16 inputs,
- with inputs that are random, all equal, zero or antipodal, and with a batch of one example (`alone`) if the loss is
  defined for it.

Labeled inputs have one vector whose label no other vector has. The reference is the same loss in float64 on the same
inputs, after they were rounded to the type. `tests/test_formulas.py` compares this reference with the formula. ε₃₂ is
the rounding unit of float32.

The bounds are:

- **finite**: values and gradients are finite everywhere, or a loss that is not defined raises an error of one line.
- **value**: the error is at most 8 units. One unit is ε₃₂ · max(1, largest exponent, |value|). The largest
  exponent is 1/τ for a cosine. For a loss without exponentials it is the largest number that is added. Some losses
  have a condition number, by which the unit is multiplied: 1/(1 − τ⁺N e^p/Σ negatives) for `debiased` and
  `hard_negative`, the condition number of the covariance for `w_mse`, and 1/(smallest distance) for `koleo`.
- **gradient**: the norm of the error is at most 4 times the norm of the error of the formula in float32, or at most 8
  ε₃₂. If the formula is not finite, nothing is compared. The terms of a formula may cancel exactly, above all for
  equal vectors, and its error is then 0. Results beyond these bounds are therefore listed, and their error must be at
  most 8 ε₃₂ · max(1, largest exponent) · max(1, norm of the gradient), times the condition number. For bfloat16, in
  which products are rounded to bfloat16, 4 times its ε is added.

Results outside these bounds are listed at the end of the page."""
KINDS = ("random", "duplicate", "zero", "antipodal", "alone")
DTYPES = (jnp.float32, jnp.bfloat16)
UNITS, TIMES = 8, 4

# Public code that is not finite where ours is certified, as run for the golden values of
# tests/golden: temperature 0.01, float32 unless said otherwise.
NOT_FINITE = {
  "nt_xent": "solo-learn, MONAI, VISSL, suncet, lightning-bolts (unit vectors); SupContrast "
  "(float64 too, of vectors not normalized); PyGCL (float64 too)",
  "sup_con": "SupContrast of one view (unit vectors)",
  "sup_con_in": "solo-learn",
  "hard_negative": "the authors' (float64 too, of vectors not normalized), PyGCL",
  "debiased": "the authors' (float64 too, of vectors not normalized), PyGCL",
  "rince": "the authors'",
  "dual_temperature": "the authors' (float64 too)",
  "dhel": "the authors'",
  "mv_dhel": "the authors'",
  "mv_info_nce": "the authors'",
  "soft_nearest_neighbor": "tensorflow-similarity",
  "swapped_prediction": "the authors', of scores above 88 ε",
}


@dataclasses.dataclass
class Finding:
  """One evaluation: value errors in units, and gradient errors beside the formula's."""

  name: str
  tau: float | None
  dtype: str
  kind: str
  units: float = 0.0
  ours: float = 0.0
  plain: float = 0.0
  refused: str = ""
  within_rounding: bool = False
  problems: tuple = ()

  def __str__(self):
    where = f"{self.name}, {self.kind}, {self.dtype}"
    return where if self.tau is None else f"{where}, temperature {self.tau:g}"


def inputs(loss, kind):
  """Arrays of float64: random, or of the same shapes and degenerate; None where not defined."""
  arrays = loss.arrays(0)
  if kind == "alone":
    return one_example(arrays) if loss.alone else None
  if kind == "random":
    return arrays
  vectors = [name for name, x in arrays.items() if x.dtype.kind == "f" and x.ndim > 1]
  if not vectors:  # of scores: the degenerate kinds are of vectors
    return None
  first = arrays[vectors[0]].reshape(-1, arrays[vectors[0]].shape[-1])[0]
  for at, name in enumerate(vectors):
    x = arrays[name]
    if name in loss.free and kind == "zero" and (x.sum(-1) == 1).any():
      continue  # distributions stay distributions
    row = np.resize(first, x.shape[-1])
    if name == "assignments":
      continue
    if kind == "duplicate":
      arrays[name] = np.broadcast_to(row, x.shape).copy()
    elif kind == "zero":
      arrays[name] = np.zeros_like(x)
    elif kind == "antipodal":
      sign = np.where(np.arange(math.prod(x.shape[:-1])) % 2 == at % 2, 1.0, -1.0)
      arrays[name] = sign.reshape(*x.shape[:-1], 1) * row
  return arrays


def one_example(arrays):
  """A batch of one: of [n, …] the first row, of [v, n, …] the first of each view."""
  stacked = {"views", "assignments", "teacher"} & arrays.keys()

  def first(name, x):
    if name in ("w", "center", "bias") or not x.ndim:
      return x
    return x[:, :1] if name in stacked else x[:1]

  return {name: first(name, x) for name, x in arrays.items()}


@functools.cache
def compiled(function, free, tempered, quick):
  """Values and gradients, as they are used: compiled, with τ traced."""

  def total(moved, fixed, tau):
    values = function(moved | fixed, tau if tempered else None)
    weights = jnp.cos(1.0 + jnp.arange(values.size)).astype(values.dtype)
    return (weights * values.ravel()).sum(), values

  options = {"xla_backend_optimization_level": 0} if quick else {}
  return jax.jit(jax.grad(total, has_aux=True), compiler_options=options)


def evaluate(function, loss, arrays, tau, quick=False):
  """Values, and the gradient of a sum that weighs each differently, as float64."""
  fixed = {n: x for n, x in arrays.items() if x.dtype.kind in "iu" or n in loss.free}
  moved = {n: x for n, x in arrays.items() if n not in fixed}
  wide = np.promote_types(next(iter(moved.values())).dtype, np.float32)
  call = compiled(function, loss.free, loss.tempered, quick)
  gradient, values = call(moved, fixed, wide.type(tau or 1))
  flat = [np.asarray(g, np.float64).ravel() for g in jax.tree.leaves(gradient)]
  return np.asarray(values, np.float64).ravel(), np.concatenate(flat)


def certify(name, loss, tau, dtype, kind) -> Finding | None:
  found = Finding(name, tau, jnp.dtype(dtype).name, kind)
  exact = inputs(loss, kind)
  if exact is None:
    return None
  floats = [n for n, x in exact.items() if x.dtype.kind == "f"]
  rounded = {n: jnp.asarray(x, dtype) if n in floats else jnp.asarray(x) for n, x in exact.items()}
  wide = {n: x.astype(jnp.float32) if n in floats else x for n, x in rounded.items()}
  with jax.enable_x64(True):
    double = {
      n: np.asarray(x, np.float64) if n in floats else np.asarray(x) for n, x in rounded.items()
    }
  values, gradient = evaluate(loss.ours, loss, rounded, tau)
  with jax.enable_x64(True):
    expected, of_expected = evaluate(loss.ours, loss, double, tau, quick=True)
  if not (np.isfinite(values).all() and np.isfinite(gradient).all()):
    try:
      loss.ours(rounded, tau)  # outside of jit, values can be looked at
      found.problems += ("not finite",)
    except ValueError as error:
      found.refused = str(error)
      found.problems += ("an error of several lines",) if "\n" in found.refused else ()
    return found
  condition = loss.condition(double, tau)
  size = max(1.0, float(loss.exponent(double, tau)))
  unit = EPS * np.maximum(size, np.abs(expected)) * condition
  found.units = float((np.abs(values - expected) / unit).max())
  if not found.units <= UNITS:
    found.problems += (f"value off by {found.units:.1f} units",)
  try:
    of_plain = evaluate(loss.plain, loss, wide, tau, quick=True)[1]
    of_plain = np.asarray(jnp.asarray(of_plain, dtype), np.float64)
  except (ValueError, TypeError, ZeroDivisionError):
    of_plain = np.full_like(of_expected, np.nan)
  found.ours = float(np.linalg.norm(gradient - of_expected))
  found.plain = float(np.linalg.norm(of_plain - of_expected))
  if found.ours > UNITS * EPS and np.isfinite(found.plain) and found.ours > TIMES * found.plain:
    length = float(np.linalg.norm(of_expected))
    rounding = UNITS * EPS * size * condition * max(1.0, length)
    if dtype == jnp.bfloat16:
      rounding += 4 * float(jnp.finfo(dtype).eps) * length
    found.within_rounding = found.ours <= rounding
    if not found.within_rounding:
      found.problems += (
        f"gradient of length {length:.2g} off by {found.ours:.2g}, the formula by {found.plain:.2g}",
      )
  return found


def findings(names=LOSSES, temperatures=TEMPERATURES, dtypes=DTYPES, kinds=KINDS):
  for name in names:
    loss = LOSSES[name]
    for tau in temperatures if loss.tempered else (None,):
      for dtype in dtypes:
        for kind in kinds:
          if found := certify(name, loss, tau, dtype, kind):
            yield found


def page(stand):
  names = list(dict.fromkeys(f.name for f in stand))
  versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("jax", "jaxlib", "numpy"))
  lines = [
    "# Numerical certificate", "",
    f"Written by `benchmarks/numerics.py`: {len(stand)} evaluations, {versions}, Python "
    f"{platform.python_version()}, on a CPU.", "", INTRO, "",
    "## Errors of values", "",
    "The table shows the largest error in units for each temperature. The column `no τ` is for losses without a temperature, and `worst` names the inputs with the largest error.", "",
    "| loss | " + " | ".join(f"{t:g}" for t in TEMPERATURES) + " | no τ | worst |",
    "|---|" + "---|" * (len(TEMPERATURES) + 2),
  ]  # fmt: skip
  for name in names:
    of = [f for f in stand if f.name == name and not f.refused]
    cells = []
    for tau in (*TEMPERATURES, None):
      there = [f.units for f in of if f.tau == tau]
      cells.append(f"{max(there):.1f}" if there else "—")
    worst = max(of, key=lambda f: f.units)
    lines.append(f"| `{name}` | " + " | ".join(cells) + f" | {worst.kind}, {worst.dtype} |")
  lines += [
    "", "## Errors of gradients", "", "The columns are the number of evaluations; the largest quotient of our error "
    "and the error of the formula in float32, among evaluations where our error is above 8 ε₃₂; the number of "
    "evaluations in which the formula is not finite; and the public implementations whose results are not finite at "
    "temperature 0.01.", "",
    "| loss | evaluations | ours / formula | formula not finite | public code not finite |", "|---|---|---|---|---|",
  ]  # fmt: skip
  for name in names:
    of = [f for f in stand if f.name == name and not f.refused]
    finite = [f for f in of if np.isfinite(f.plain)]
    compared = [f for f in finite if f.ours > UNITS * EPS and not f.within_rounding and f.plain > 0]
    quotients = [f.ours / f.plain for f in compared]
    worst = f"{max(quotients):.1f}" if quotients else "—"
    theirs = NOT_FINITE.get(name, "")
    lines.append(f"| `{name}` | {len(of)} | {worst} | {len(of) - len(finite)} | {theirs} |")
  refused = [f for f in stand if f.refused]
  if refused:
    lines += [
      "",
      "## Inputs for which a loss is not defined",
      "",
      "For these inputs the loss raises an error of one line:",
      "",
    ]
    for name, kind, text in dict.fromkeys((f.name, f.kind, f.refused) for f in refused):
      lines.append(f"- `{name}`, {kind}: {text}")
  cancelled = [f for f in stand if f.within_rounding]
  if cancelled:
    lines += [
      "",
      "## Larger errors of gradients, within rounding",
      "",
      f"{len(cancelled)} errors are more than {TIMES} times the error of the formula:",
      "",
    ]
    lines += [f"- {f}: off by {f.ours:.1g}, the formula by {f.plain:.1g}" for f in cancelled]
  failed = [f for f in stand if f.problems]
  lines += ["", "## Results outside of the bounds", "", f"**{len(failed)}**", ""]
  lines += [f"- {f}: {'; '.join(f.problems)}" for f in failed]
  return "\n".join(lines).rstrip() + "\n"


def main():
  stand = []
  for name in LOSSES:
    for found in findings([name]):
      stand.append(found)
      if found.problems:
        print(f"{found}: {'; '.join(found.problems)}", flush=True)
    compiled.cache_clear()  # of thousands of programs the process has no room
    jax.clear_caches()
  PAGE.write_text(page(stand))
  failed = [f for f in stand if f.problems]
  print(f"{len(stand)} evaluations, {len(failed)} outside the bounds; {PAGE.name} is written")
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
