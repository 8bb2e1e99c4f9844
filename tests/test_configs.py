"""Every config: its preset builds, and runs to the end on images made in memory."""

import importlib
import json
import pathlib

import jax
import numpy as np
import pytest

from contrastax import data, methods
from contrastax.experiments.build import build
from contrastax.experiments.run import main
from contrastax.experiments.schema import completed
from contrastax.training import make_mesh

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")
QUICK = ("cifar10_clip", "digits_isogclr", "digits_moco", "digits_swav")


def config(name, arg=""):
  return importlib.import_module(f"configs.{name}").get_config(arg)


def preset(name):
  return config(name, "runlocal")


@pytest.mark.parametrize("name", CONFIGS)
def test_its_preset_builds(name):
  parts = build(preset(name), make_mesh())
  batch = parts.source.batch(0)
  assert batch["index"].shape[0] == preset(name).batch_size
  params, _ = jax.eval_shape(parts.method.init, jax.random.key(0), batch)
  jax.eval_shape(parts.optimizer.init, params)  # every parameter has a rule


@pytest.mark.parametrize("name", CONFIGS)
def test_a_completed_config_is_complete(name):
  whole = completed(config(name).to_dict())
  assert completed(whole) == whole
  assert whole.keys() == completed(preset(name).to_dict()).keys()


def test_every_method_has_a_config():
  used = {preset(name).method.name for name in CONFIGS}
  bases = {"BaseMethod", "ContrastiveMethod", "Evaluated", "Tower"}
  assembled = {"Siamese", "Towers"}  # from parts: the examples of the documents
  assert used == {name for name in vars(methods) if name[0].isupper()} - bases - assembled


@pytest.mark.parametrize(
  "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.full) for n in CONFIGS]
)
def test_its_preset_runs_to_the_end(name, tmp_path):
  path = ROOT / "configs" / f"{name}.py"
  assert main(["run", f"--config={path}:runlocal", f"--workdir={tmp_path}/run"]) == 0
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  inputs = preset(name).method.get("inputs", ("image",))
  raw = {"raw"} if inputs[0] == "image" else set()  # Bytes of texts are no space.
  assert set(summary["table"]) == raw | {"untrained", "trained"}
  method = completed(preset(name).to_dict())["method"]
  has_negatives = "negatives" in method
  assert ("negatives" in summary) == has_negatives
  for figure in ("negatives", "nearest_negatives"):
    assert (tmp_path / "run" / "figures" / f"{figure}.png").exists() == has_negatives
  temperature = method.get("temperature", {}).get("name")
  for figure, drawn in (
    ("temperatures", temperature is not None),
    ("extreme_temperatures", temperature == "individual"),
  ):
    assert (tmp_path / "run" / "figures" / f"{figure}.png").exists() == drawn


def test_made_images_are_of_the_shape_asked_for_and_of_four_classes():
  made = data.load("made:6x8x3")
  assert made.train["image"].shape == (200, 6, 8, 3) and made.test["image"].shape == (40, 6, 8, 3)
  assert made.train["image"].dtype == np.uint8
  means = [made.train["image"][made.train["label"] == c].mean(0) for c in range(4)]
  bright = [np.unravel_index(mean.sum(-1).argmax(), (6, 8)) for mean in means]
  assert len({(row < 3, column < 4) for row, column in bright}) == 4


@pytest.mark.parametrize("name", ["made:", "made:8", "made:0x8x3", "made:axbxc"])
def test_what_is_no_shape_is_refused(name):
  with pytest.raises(ValueError, match="made:"):
    data.load(name)
