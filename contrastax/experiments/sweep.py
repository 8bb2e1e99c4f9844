"""A sweep: one run for each arm of a grid, and the choice of the best one on held-out examples."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from contrastax.core import TrainingDiverged, UserError
from contrastax.experiments import page, report
from contrastax.experiments.build import Parts, build
from contrastax.experiments.commandline import Options, format_command
from contrastax.experiments.compare import compare
from contrastax.experiments.compare_output import as_text, write
from contrastax.experiments.paired import COLUMNS
from contrastax.experiments.weights import resolved
from contrastax.experiments.workdir import Workdir
from contrastax.files import read_json, replace_damaged, write_json

WITHOUT_LABELS = "effective_rank"
"""The measure by which a sweep chooses if the data have no labels."""

Run = Callable[[ConfigDict, Parts, Workdir, list[str]], None]


def sweep(options: Options, argv: list[str], mesh: Mesh, run: Run) -> None:
  """Runs all arms of a sweep, compares them, and prints the winner with its command.

  The folder of the sweep has a folder for each arm, sweep.json, compare.json and compare.html. An
  arm that is finished or has diverged is not run again.

  Args:
    options: the options of the command line, with arms.
    argv: the command line.
    mesh: the devices.
    run: trains and evaluates one run: (config, parts, workdir, command line).

  Raises:
    UserError: no examples are held out, or the folder belongs to something else.
    TrainingDiverged: every arm has diverged.
  """
  arms, folder = options.arms, options.workdir
  _check(options)
  print(f"sweep of {len(arms)} runs in {folder}", flush=True)
  for arm in arms if options.dry_run else ():
    print(f"  {arm.name}")
  if options.dry_run:
    return
  record = _open(folder)
  for number, arm in enumerate(arms, 1):
    place, own = folder / arm.name, _command(argv, options, arm.overrides, folder / arm.name)
    print(f"\nrun {number} of {len(arms)}: {arm.name}", flush=True)
    config = resolved(arm.config)
    with Workdir(place, config, own) as workdir:
      before = record["runs"].get(arm.name, {})
      # Without a config.json, the user has removed the run, to try it again.
      if before.get("status") == "diverged" and (place / "config.json").exists():
        print(f"it has diverged before: {before['reason']}")
        continue
      finished = (
        report.is_finished(place, arm.config.to_dict()["steps"]) and (place / page.NAME).is_file()
      )
      if finished:
        print("it is finished")
      else:
        parts = build(config, mesh)
        try:
          run(config, parts, workdir, own)
        except TrainingDiverged as error:
          reason = " ".join(str(error).split())
          print(f"the run has diverged: {reason}", flush=True)
          record["runs"][arm.name] = {"sweep": arm.swept, "status": "diverged", "reason": reason}
          write_json(folder / "sweep.json", record)
          continue
      record["runs"][arm.name] = {"sweep": arm.swept, "status": "finished"}
      write_json(folder / "sweep.json", record)
  _conclude(options, argv, record)


def _conclude(options: Options, argv: list[str], record: dict[str, Any]) -> None:
  """Chooses the winner, compares the other arms with it, and prints both.

  Of arms that are equal in the column, the one with the higher kNN wins, and then the first one.
  """
  folder = options.workdir
  summaries = {
    arm.name: read_json(folder / arm.name / "summary.json", dict)
    for arm in options.arms
    if record["runs"][arm.name]["status"] == "finished"
  }
  diverged = [arm.name for arm in options.arms if arm.name not in summaries]
  if not summaries:
    runs = "the run" if len(diverged) == 1 else f"all {len(diverged)} runs"
    raise TrainingDiverged(
      f"{runs} of the sweep diverged; lower the learning rates, in a new --workdir"
    )
  by, values = _values(summaries, options.by)
  knn = {
    name: summary["table"]["trained"]["knn"] if summary["table"] else 0
    for name, summary in summaries.items()
  }
  winner = max(values, key=lambda name: (values[name], knn[name]))
  record |= {"by": by, "winner": winner, "values": values}
  write_json(folder / "sweep.json", record)
  print()
  if len(summaries) > 1:
    result = compare([folder / name for name in summaries], folder / winner)
    write(result, folder / "compare.json")
    write(result, folder / "compare.html")
    print(as_text(result) + "\n")
    compared = [run["differences"] for name, run in result["runs"].items() if name != winner]
    close = sum(by in each and each[by]["high"] >= 0 for each in compared)
    if by in COLUMNS:
      print(f"{_close(close, len(compared))} clearly worse in {by}")
  for name in diverged:
    print(f"diverged: {name}")
  count, size = len(summaries), summaries[winner]["examples"]["test"]
  runs = "1 run" if count == 1 else f"{count} runs"
  print(
    f"the best of {runs} by {by} on {size:,} held-out training examples: {winner}, {values[winner]:.3f}"
  )
  (arm,) = (arm for arm in options.arms if arm.name == winner)
  final = {**arm.overrides, "validation": "0"}
  command = _command(argv, options, final, folder.with_name(f"{folder.name}_winner"))
  print(
    f"to train it on all training examples and evaluate it on the test examples:\n{format_command(command)}"
  )


def _close(close: int, others: int) -> str:
  """Returns the start of the sentence on how many of the other runs are close to the winner."""
  if others == 1:
    return "the other run is not" if close else "the other run is"
  if not close:
    return f"all {others} other runs are"
  return f"{close} of the {others} other runs {'is' if close == 1 else 'are'} not"


def _check(options: Options) -> None:
  """Raises UserError unless all arms hold out examples and the column exists."""
  if any(not arm.config.validation for arm in options.arms):
    raise UserError(
      "a sweep chooses on held-out training examples, never on test examples, and validation is 0; "
      "add --config.validation=N, such as a fifth of the training examples"
    )
  known = (*COLUMNS, WITHOUT_LABELS)
  if options.by is not None and options.by not in known:
    raise UserError(f"--by={options.by}: choose one of {', '.join(known)}")


def _open(folder: pathlib.Path) -> dict[str, Any]:
  """Makes the folder of the sweep and returns the content of its sweep.json."""
  path = folder / "sweep.json"
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except (FileExistsError, NotADirectoryError):
    raise UserError(f"{folder} is a file; choose another --workdir") from None
  if (folder / "config.json").exists():
    raise UserError(f"{folder} is the folder of one run; choose another --workdir for the sweep")
  try:
    record = read_json(path, dict)
  except FileNotFoundError:
    return {"runs": {}}
  except UserError as error:
    replace_damaged(path, str(error))
    return {"runs": {}}
  return {"runs": dict(record.get("runs") or {})}


def _values(
  summaries: Mapping[str, Mapping[str, Any]], by: str | None
) -> tuple[str, dict[str, float]]:
  """Returns the column by which the sweep chooses, and its value for each arm.

  A value that is not known is −∞.
  """
  is_labeled = all(summary["table"] for summary in summaries.values())
  by = by or ("linear" if is_labeled else WITHOUT_LABELS)
  if by in COLUMNS and not is_labeled:
    raise UserError(f"--by={by} needs labels, and the data have none; use --by={WITHOUT_LABELS}")
  part = "table" if by in COLUMNS else "geometry"
  values = {name: summary[part]["trained"].get(by) for name, summary in summaries.items()}
  if all(value is None for value in values.values()):
    raise UserError(
      f"--by={by}: no run has a result of {by}; choose another column, such as --by=knn"
    )
  return by, {name: -math.inf if value is None else value for name, value in values.items()}


def _command(
  argv: list[str], options: Options, overrides: Mapping[str, str], workdir: pathlib.Path
) -> list[str]:
  """Returns the command line of one run."""
  changes = [f"--config.{key}={text}" for key, text in overrides.items()]
  return [argv[0], options.place, f"--workdir={workdir}", *changes]
