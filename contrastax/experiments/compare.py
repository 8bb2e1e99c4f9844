"""The command `contrastax compare`: several runs in one table, see `HELP`."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from contrastax.core import UserError
from contrastax.experiments import commandline
from contrastax.experiments.compare_output import NOT_SET, SUFFIXES, as_text, judged, write
from contrastax.experiments.paired import differences
from contrastax.experiments.schema import flat
from contrastax.experiments.workdir import config_of
from contrastax.files import read_json

HELP = """Compares runs that were evaluated on the same data.

  contrastax compare runs/*
  contrastax compare runs/a runs/b runs/c --to=runs/b     differences to runs/b, not to the first run
  contrastax compare runs/* --out=compare.html            also .md and .json

Prints the table of the trained encoders, the differences to one run with paired 95 % intervals, and
the keys in which the configs differ. linear_1 and linear_5 are compared draw by draw, because all runs
share the draws of the labels. knn and linear are compared example by example, because all runs share
the test examples. The intervals do not cover another seed of training. What is not a finished run is
left out, with a line that names it. Runs that were evaluated on different data are refused.

Exit status: 0 finished; 2 invalid input, explained in one line.
"""
NEEDED = {
  "correct", "data", "draws", "examples", "fingerprint", "geometry", "half_intervals", "judged_on",
  "table",
}  # fmt: skip
"""The entries of summary.json that a comparison reads."""


def main(argv: list[str]) -> int:
  """Runs one command line and returns its exit status.

  Args:
    argv: the program's name and the arguments.
  """
  return commandline.status(functools.partial(_main, argv))


def _main(argv: list[str]) -> None:
  if any(argument in ("--help", "-help", "-h", "help") for argument in argv[1:]):
    print(HELP.strip())
    return
  values = flags.FlagValues()
  flags.DEFINE_string("to", None, "the run to which the others are compared", flag_values=values)
  flags.DEFINE_string("out", None, "a file for the comparison", flag_values=values)
  try:
    folders = [pathlib.Path(each) for each in values(argv)[1:]]
  except flags.Error as error:
    raise UserError(" ".join(str(error).split())) from None
  out = None if values.out is None else pathlib.Path(values.out)
  if out is not None and out.suffix not in SUFFIXES:
    raise UserError(f"--out={out}: the name must end with {', '.join(SUFFIXES)}")
  result = compare(folders, None if values.to is None else pathlib.Path(values.to))
  print(as_text(result))
  if out is not None:
    write(result, out)
    print(f"\nsee {out}")


def compare(folders: Sequence[pathlib.Path], to: pathlib.Path | None = None) -> dict[str, Any]:
  """Compares the trained encoders of runs.

  Args:
    folders: the folders of the runs. What is not a finished run is left out, with a printed line.
    to: the folder of the run to which the others are compared. None: the first run.

  Returns:
    The content of compare.json: what was evaluated, the run `to`, and for each run its folder, its
    table, its differences (mean, low, high), and its values of the keys in which the configs differ.

  Raises:
    UserError: a folder does not exist, fewer than two runs are left, or the runs were evaluated on
      different data.
  """
  places = list(dict.fromkeys(each.resolve() for each in (*folders, *([to] if to else []))))
  found = {place: summary for place in places if (summary := _summary(place)) is not None}
  if len(found) < 2:
    raise UserError(
      f"a comparison needs two finished runs or more, and there is {len(found)}; give the folders of "
      "different runs"
    )
  reference = to.resolve() if to else next(iter(found))
  if reference not in found:
    raise UserError(f"--to={to} is not a finished run")
  base = found[reference]
  for place, summary in found.items():
    if summary["fingerprint"] != base["fingerprint"]:
      raise UserError(
        f"{_shown(place)} was evaluated on other examples than {_shown(reference)} "
        f"({judged(summary)}; {judged(base)}); compare runs with the same data, split and labels"
      )
  names = _names(list(found))
  configs = {place: flat(config_of(place).to_dict()) for place in found}
  differing = _differing(list(configs.values()))
  is_labeled = bool(base["table"])
  runs = {}
  for place, summary in found.items():
    own = differences(summary, "trained", base, "trained") if place != reference else {}
    runs[names[place]] = {
      "workdir": str(place),
      "table": summary["table"]["trained"] if is_labeled else summary["geometry"]["trained"],
      "half_intervals": summary["half_intervals"].get("trained", {}),
      "differences": {column: each._asdict() for column, each in own.items()},
      "config": {key: configs[place].get(key, NOT_SET) for key in differing},
    }
  about = {name: base[name] for name in ("data", "judged_on", "examples", "fingerprint")}
  return {**about, "to": names[reference], "runs": runs}


def _summary(place: pathlib.Path) -> dict[str, Any] | None:
  """Returns the summary.json of a finished run; None, with a printed line, for anything else."""
  if not place.exists():
    raise UserError(f"there is no folder {_shown(place)}; give the folder of a run")
  if not place.is_dir():
    print(f"{_shown(place)} is left out: it is not a folder")
    return None
  try:
    steps = config_of(place)["steps"]
    summary = read_json(place / "summary.json", dict)
    reason = None
    if summary.get("steps") != steps:
      reason = "it is not finished; run its command to the end"
    elif not summary.keys() >= NEEDED:
      reason = "its summary.json is of an older version; run its command again to evaluate it"
    elif not _is_whole(summary):
      reason = "its summary.json is damaged; remove the file and run its command again"
  except FileNotFoundError:
    reason, summary = "it is not finished; run its command to the end", {}
  except UserError as error:
    reason, summary = str(error), {}
  if reason is None:
    return summary
  print(f"{_shown(place)} is left out: {reason}")
  return None


def _is_whole(summary: Mapping[str, Any]) -> bool:
  """Returns whether the entries of a summary.json have the types that a comparison reads."""
  try:
    rows = [summary["table"] or summary["geometry"], summary["half_intervals"]]
    values = [value for row in rows for each in row.values() for value in each.values()]
    differences(summary, "trained", summary, "trained")
    judged(summary)
  except (AttributeError, KeyError, TypeError, ValueError, UserError):
    return False
  return "trained" in rows[0] and all(type(each) in (int, float, type(None)) for each in values)


def _shown(place: pathlib.Path) -> str:
  """Returns a path relative to the current folder, if it is below it."""
  here = pathlib.Path.cwd()
  return str(place.relative_to(here) if place.is_relative_to(here) else place)


def _names(places: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
  """Returns short names of folders: the last part of the path if these differ."""
  last = [place.name for place in places]
  return {place: place.name if last.count(place.name) == 1 else _shown(place) for place in places}


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
  keys = dict.fromkeys(key for config in configs for key in config)
  return [
    key
    for key in keys
    if any(config.get(key, NOT_SET) != configs[0].get(key, NOT_SET) for config in configs)
  ]
