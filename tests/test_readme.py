"""The README's code runs as it stands, and its commands are those that continuous integration runs."""

import functools
import json
import pathlib
import re
import shlex

import jax
import numpy as np
import pytest
from images_on_disk import content, picture, two_classes, write

import contrastax
from contrastax import cli, reporting

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
  return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(block):
  names = {"jax": jax}
  exec(compile(block, "README.md", "exec"), names)
  return names


SHORT = {
  "method.encoder": {"name": "convnet", "widths": (8,)},
  "method.views.blur": 0.0,
  "eval_every": 4,
}


@pytest.fixture
def photos(tmp_path, monkeypatch):
  """A folder `photos` in the current folder."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  two_classes(tmp_path / "photos", 40)
  write(
    tmp_path / "photos",
    {"cat.jpg": content(picture(1), "JPEG"), "dog.png": content(picture(2), "PNG")},
  )


def test_the_first_lines_of_the_readme(photos, monkeypatch):
  """With a small encoder and few steps, and otherwise as they stand."""
  short = functools.partial(contrastax.fit, size=12, steps=4, batch_size=8, overrides=SHORT)
  monkeypatch.setattr(contrastax, "fit", short)
  names = run(blocks("python")[0])
  assert names["vectors"].shape == (2, 8) and np.isfinite(names["vectors"]).all()
  assert names["result"].report.is_file()


def test_the_first_commands_of_the_readme(photos):
  """With a small encoder and few steps, and otherwise as they stand."""
  commands = [shlex.split(line, comments=True) for line in blocks("bash")[0].splitlines()]
  assert [command[:2] for command in commands] == [
    ["contrastax", "run"], ["contrastax", "embed"], ["contrastax", "export"]
  ]  # fmt: skip
  keys = SHORT | {"steps": 4, "batch_size": 8, "data.size": 12}
  keys["optimizer.warmup"] = 1
  commands[0] += [f"--config.{key}={value}" for key, value in keys.items()]
  for command in commands:
    assert cli.main(command[1:]) == 0
  assert pathlib.Path("photos.parquet").is_file() and pathlib.Path("photos_encoder").is_dir()


def test_the_losses_of_the_readme():
  names = run(blocks("python")[1])
  assert np.isfinite(names["losses"].nt_xent(names["z1"], names["z2"], temperature=0.2)).all()


def test_the_loop_of_the_readme():
  names = run(blocks("python")[2])
  assert np.isfinite(names["loss"]) and names["step"] == 19
  assert names["metrics"]["margin"] > 0.5, "twenty steps should have taught it something"


def test_no_further_code_in_the_readme():
  assert len(blocks("python")) == 3


def test_the_two_commands_are_those_of_continuous_integration():
  commands = blocks("bash")[1].splitlines()
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
