"""The runner of all studies: it measures what is missing, and draws a page from the records.

A study is a module `studies.NAME`. Its docstring states the claim, the arms, the hypotheses and the
conditions under which they count. Its constant `STUDY` describes how to do it.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from contrastax.core import UserError
from contrastax.experiments.workdir import circumstances
from studies.common.records import Record, Records, append, read
from studies.common.report import Verdict

Job = dict[str, Any]
RESULTS = pathlib.Path(__file__).parent.parent / "results"


@dataclasses.dataclass(frozen=True)
class Study:
  """Everything that the runner needs.

  Attributes:
    name: The name of the module, and of the results: NAME.jsonl, NAME.md and NAME.png.
    title: The heading of the page.
    stages: Each returns jobs, given all records so far; so a stage can depend on choices that are
      made from the records of the stages before it. A job is a dict of an arm, a seed, ….
    measure: Returns what was measured for a job; the record is the job with these entries.
    report: Yields the paragraphs, the tables and the verdicts of the page.
    figure: Draws into a `matplotlib.figure.Figure`, or None.
    size: Width and height of the figure in inches.
    version: The version of the arms. Raise it when a change of the code changes what an arm is;
      records of other versions are refused from then on.
    suffix: ".jsonl", or ".json" for a study of a single record.
    folder: Where the results are.
  """

  name: str
  title: str
  stages: Sequence[Callable[[Records], Iterable[Job]]]
  measure: Callable[[Job], Record]
  report: Callable[[Records], Iterable[str | Verdict]]
  figure: Callable[[Records, Any], None] | None = None
  size: tuple[float, float] = (9, 3.6)
  version: int = 1
  suffix: str = ".jsonl"
  folder: pathlib.Path = RESULTS

  @property
  def path(self) -> pathlib.Path:
    return self.folder / (self.name + self.suffix)

  def records(self) -> Records:
    """Reads the records of all jobs.

    Raises:
      UserError: The records are of another version of the arms.
    """
    found = read(self.path)
    for about in found.starts:
      if (version := about.get("version", 1)) != self.version:
        raise UserError(
          f"{self.path} has records of version {version} of the arms, and the study is version "
          f"{self.version}; move the file away and run the study again"
        )
    return Records(record for record in found if "machine" not in record)

  def run(self) -> None:
    """Measures all jobs that have no record, stage by stage; it can be stopped at any time."""
    about = None
    for stage in self.stages:
      for job in missing(stage(self.records()), self.records()):
        if about is None:
          about = {"version": self.version, **circumstances(f"python -m studies {self.name} run")}
          if self.suffix == ".jsonl":
            append(self.path, {"part": "circumstances", **about})
        start = time.perf_counter()
        found = {**job, **self.measure(job)}
        if self.suffix == ".json":
          found["circumstances"] = about
        append(self.path, found | {"seconds": round(time.perf_counter() - start, 2)})
        print(job, *(f"{k}={v}" for k, v in found.items() if isinstance(v, float)), flush=True)

  def page(self) -> str:
    """Writes the page in Markdown.

    Raises:
      UserError: Some jobs have no record.
    """
    records = self.records()
    for stage in self.stages:
      if lacks := missing(stage(records), records):
        raise UserError(
          f"{len(lacks)} runs are missing, the first is {lacks[0]}; run them with python -m "
          f"studies {self.name} run"
        )
    blocks, before = [f"# {self.title}", heading(self.name, read(self.path).starts[0])], None
    for block in self.report(records):
      if isinstance(block, Verdict) and isinstance(before, Verdict):
        blocks[-1] += f"\n{block}"  # one list
      else:
        blocks.append(str(block))
      before = block
    if self.figure:
      blocks.append(f"![{self.title}]({self.name}.png)")
    return "\n\n".join(blocks) + "\n"

  def draw(self) -> None:
    """Writes the page and the figure from the records."""
    page = self.page()
    self.path.with_suffix(".md").write_text(page, encoding="utf-8")
    if self.figure:
      from matplotlib.figure import Figure

      canvas = Figure(figsize=self.size, layout="constrained")
      self.figure(self.records(), canvas)
      canvas.savefig(self.path.with_suffix(".png"), dpi=120)
    print(page)


def grid(**axes: Iterable[Any]) -> list[Job]:
  """Returns a job for each combination of values; the last axis varies fastest."""
  return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def missing(jobs: Iterable[Job], records: Records) -> list[Job]:
  """Returns the jobs without a record, each once."""
  found: list[Job] = []
  for job in jobs:
    if job not in found and not records.where(**job):
      found.append(job)
  return found


def heading(name: str, about: Record) -> str:
  commit = about["commit"] or "unknown"
  versions = ", ".join(f"{package} {about['versions'][package]}" for package in ("jax", "numpy"))
  return (
    f"`python -m studies {name} run`, then `draw`. Measured on {about['time'][:10]} at commit "
    f"{commit[:12] + commit[40:]}: {about['machine']}; Python {about['python']}, {versions}."
  )
