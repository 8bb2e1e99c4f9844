"""The README's code runs as it stands, and its commands are those that continuous integration runs."""

import json
import pathlib
import re

import numpy as np

from contrastax import reporting

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
  return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_blocks_run_one_after_the_other():
  names = {}
  for block in blocks("python"):
    exec(compile(block, "README.md", "exec"), names)
  assert np.isfinite(names["loss"]) and names["step"] == 19
  assert names["metrics"]["margin"] > 0.5, "twenty steps should have taught it something"


def test_the_two_commands_are_those_of_continuous_integration():
  commands = blocks("bash")[0].splitlines()
  assert len(commands) == 2
  script = (ROOT / ".ci" / "run").read_text()
  for command in commands:
    assert command in script


def test_the_table_shown_is_a_measured_one():
  lines = (ROOT / "benchmarks" / "results" / "digits_seeds.jsonl").read_text().splitlines()
  (measured,) = [run for run in map(json.loads, lines) if run["seed"] == 0]
  assert reporting.table.text(measured["table"]) in README


def test_links_lead_somewhere():
  for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
    assert (ROOT / target).exists(), target
