"""The command `contrastax configs`: lists the example configs, see `HELP`."""

from __future__ import annotations

import functools
from typing import Any

from contrastax.experiments import commandline
from contrastax.experiments.examples import folder, names, path_of
from contrastax.experiments.schema import data_name
from contrastax.files import read_json

HELP = """Lists the example configs with their data, expected results and times.

  contrastax configs                list all configs
  contrastax configs digits_simclr  print one config, which you can copy and change

`contrastax run NAME` runs a config. The results are accuracies of probes of frozen features on the
test examples, and recall@10 of retrieval (see the study `real_data`). The time is that of a whole
run on the machine that the last line names.
"""
RESULTS = "results.json"
"""The file of `configs/` with the measured results and times."""


def main(argv: list[str]) -> int:
  """Runs one command line and returns its exit status.

  Args:
    argv: the program's name and the names of configs.
  """
  return commandline.status(functools.partial(_main, argv))


def _main(argv: list[str]) -> None:
  requested = argv[1:]
  if any(name in ("--help", "-h") for name in requested):
    print(HELP.strip())
  elif not requested:
    print(listing())
  else:
    print("\n".join(path_of(name).read_text(encoding="utf-8").rstrip() for name in requested))


def listing() -> str:
  """Returns a table of the example configs: name, data, expected result and time."""
  results = read_json(folder() / RESULTS, dict)
  rows = [("name", "data", "expected result", "time")]
  for name in names():
    data = data_name(commandline.get_config(str(path_of(name))))
    rows.append((name, data, *_result(results.get(name))))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    for row in rows
  ]
  return "\n".join([*lines, "", f"Measured on: {results['machine']}"])


def _result(measured: dict[str, Any] | None) -> tuple[str, str]:
  """Returns the cells of the expected result and of the time."""
  if measured is None:
    return "not measured", ""
  accuracies = ", ".join(f"{probe} {value:.3f}" for probe, value in measured["accuracy"].items())
  return accuracies, f"{measured['seconds']:.0f} s" if "seconds" in measured else ""
