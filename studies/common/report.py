"""Estimates over seeds, verdicts on hypotheses, and tables in Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Estimate(NamedTuple):
  """A mean with its standard error; `f"{estimate:.3f}"` writes both, "0.512 ± 0.004"."""

  mean: Any
  error: Any

  def above(self, errors: float) -> bool:
    """Whether the mean exceeds zero by more than this number of standard errors."""
    return bool(self.mean > errors * self.error)

  def __format__(self, spec: str) -> str:
    if np.isnan(self.error):
      return format(self.mean, spec)
    return f"{self.mean:{spec}} ± {self.error:{spec.lstrip('+')}}"


def estimate(values: ArrayLike) -> Estimate:
  """Mean and standard error, std(values, ddof=1) / √n, over the first axis.

  The error of a single value is NaN, and is not written.
  """
  values = np.asarray(values, float)
  if len(values) < 2:
    return Estimate(values[0], np.full_like(values[0], np.nan))
  return Estimate(values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5)


def paired(ours: ArrayLike, theirs: ArrayLike) -> Estimate:
  """Estimates the difference of two arms that were run with the same seeds."""
  return estimate(np.asarray(ours) - np.asarray(theirs))


def unpaired(ours: ArrayLike, theirs: ArrayLike) -> Estimate:
  """Estimates the difference of the means of two arms; the variances of both means add up."""
  a, b = estimate(ours), estimate(theirs)
  return Estimate(a.mean - b.mean, np.hypot(a.error, b.error))


def extremes(arms: Mapping[Any, ArrayLike]) -> tuple[Any, Any]:
  """Returns the names of the arms with the highest and with the lowest mean."""
  means = {arm: np.mean(values) for arm, values in arms.items()}
  return max(means, key=means.get), min(means, key=means.get)


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What the records imply for one hypothesis.

  Attributes:
    name: The name of the hypothesis in the docstring of the study.
    found: The evidence, a phrase with its numbers.
    holds: Whether the evidence agrees with the hypothesis.
    tested: Whether the condition under which the evidence counts is fulfilled.
    condition: That condition, a phrase; written where it is not fulfilled.
  """

  name: str
  found: str
  holds: bool
  tested: bool = True
  condition: str = ""

  @property
  def outcome(self) -> str:
    if not self.tested:
      return "not tested"
    return "holds" if self.holds else "does not hold"

  def __str__(self) -> str:
    why = f" (the condition is not fulfilled: {self.condition})" if not self.tested else ""
    return f"- {self.name}: {self.found}. **{self.outcome.capitalize()}**{why}."


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  """Writes a table in Markdown."""
  lines = [header, ["---"] * len(header), *rows]
  return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def left_out(records: Iterable[Mapping[str, Any]], *names: str) -> str:
  """Lists the runs that do not count: the loss is not finite, or the rank is below 3.

  Args:
    records: The runs; each has `finite`, and may have `rank`.
    *names: The entries that tell the runs apart.
  """
  unsound = [r for r in records if not r["finite"] or r.get("rank", 3) < 3]
  told = ["; ".join(f"{name} {r[name]}" for name in names) for r in unsound]
  return f"Runs that do not count: {', '.join(told) or 'none'}."
