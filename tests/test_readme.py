"""The README's code runs as it stands, and its commands are those that continuous integration runs."""

import json
import pathlib
import re

import jax
import numpy as np

from contrastax import reporting

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
  return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(block):
  names = {"jax": jax}
  exec(compile(block, "README.md", "exec"), names)
  return names


def test_the_losses_of_the_readme():
  names = run(blocks("python")[0])
  assert np.isfinite(names["losses"].nt_xent(names["z1"], names["z2"], temperature=0.2)).all()


def test_the_loop_of_the_readme():
  names = run(blocks("python")[1])
  assert np.isfinite(names["loss"]) and names["step"] == 19
  assert names["metrics"]["margin"] > 0.5, "twenty steps should have taught it something"


def test_no_further_code_in_the_readme():
  assert len(blocks("python")) == 2


def test_the_two_commands_are_those_of_continuous_integration():
  commands = blocks("bash")[0].splitlines()
  assert len(commands) == 2
  script = (ROOT / ".ci" / "run").read_text().replace("pip install --quiet", "pip install")
  for command in commands:
    assert command in script


def test_the_table_shown_is_a_measured_one():
  lines = (ROOT / "studies" / "results" / "digits_seeds.jsonl").read_text().splitlines()
  (measured,) = [run for run in map(json.loads, lines) if run.get("seed") == 0]
  assert reporting.table.text(measured["table"]) in README


def test_links_lead_somewhere():
  for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
    assert (ROOT / target).exists(), target
