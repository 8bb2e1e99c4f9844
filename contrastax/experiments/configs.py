"""The command `contrastax configs`: a list of the example configs."""

from __future__ import annotations

import functools
from typing import Any

from contrastax.experiments import commandline
from contrastax.experiments.examples import folder, names, path_of
from contrastax.files import read_json

HELP = """Lists the example configs: data, expected result and time.

  contrastax configs                list all
  contrastax configs digits_simclr  print one, to copy and change

`contrastax run NAME` runs one. The results are accuracies on the test examples with frozen
features, and the times are of a whole run, on the machine that the last line names.
"""
RESULTS = "results.json"
"""File of `configs/` with what `benchmarks/configs.py` measured."""


def main(argv: list[str]) -> int:
  """Runs one command line and returns its exit status."""
  return commandline.status(functools.partial(_main, argv))


def _main(argv: list[str]) -> None:
  chosen = argv[1:]
  if any(name in ("--help", "-h") for name in chosen):
    print(HELP.strip())
  elif not chosen:
    print(listing())
  else:
    print("\n".join(path_of(name).read_text(encoding="utf-8").rstrip() for name in chosen))


def listing() -> str:
  """A table of the example configs: name, data, expected result and time."""
  results = read_json(folder() / RESULTS, dict)
  rows = [("name", "data", "expected result", "time")]
  for name in names():
    data = commandline.get_config(str(path_of(name)))["data"]
    rows.append((name, data, *_result(results.get(name))))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    "  ".join(f"{x:<{w}}" for x, w in zip(row, widths, strict=True)).rstrip() for row in rows
  ]
  return "\n".join([*lines, "", f"Measured on: {results['machine']}"])


def _result(found: dict[str, Any] | None) -> tuple[str, str]:
  if found is None:
    return "not measured", ""
  accuracies = ", ".join(f"{probe} {value:.3f}" for probe, value in found["accuracy"].items())
  return accuracies, f"{found['seconds']:.0f} s"
