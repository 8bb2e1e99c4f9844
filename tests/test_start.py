"""A run that starts from a file of weights: its table, its resumption, and what is left of the file."""

import dataclasses
import hashlib
import json
import math
import shutil

import all_methods
import jax
import numpy as np
import pytest
import tiny
from safetensors.numpy import save_file

import contrastax
from contrastax import data, encoders, evaluation
from contrastax.experiments import evaluate, run

IMAGES = np.zeros((1, 8, 8, 1), np.float32)
STATED = {"mean": "[0.3]", "std": "[0.5]"}


def random_weights(seed):
  """Weights of a ResNet-8 under timm's names, within a checkpoint."""
  encoder = encoders.resnet(8, stem="cifar", width=4)
  params, state = encoder.init(jax.random.key(seed), IMAGES)
  rng, found = np.random.default_rng(seed), {}
  for name, array in encoders.to_torch(params, state).items():
    found[f"module.{name}"] = array + 0.2 * rng.random(array.shape).astype(np.float32)
  return found


def command(folder, **changes):
  encoder = {"name": "pretrained", "path": f"{folder}/weights.safetensors", **changes}
  method = {**tiny.METHOD, "encoder": encoder}
  return tiny.written(folder, data="made:8x8x1", method=method, steps=2)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
  folder = tmp_path_factory.mktemp("start")
  save_file(random_weights(1), folder / "weights.safetensors", STATED)
  assert run.main(command(folder)) == 0
  return folder


@pytest.fixture
def folder(kept, tmp_path):
  """A copy of the run, with the config of the copy."""
  shutil.copytree(kept, tmp_path / "copy")
  return tmp_path / "copy"


def refused(argv, capsys):
  assert run.main(argv) == 2
  (line,) = capsys.readouterr().err.splitlines()
  return line


def test_the_config_of_the_run_has_what_the_file_determines(kept):
  spec = json.loads((kept / "run" / "config.json").read_text())["method"]["encoder"]
  checksum = hashlib.sha256((kept / "weights.safetensors").read_bytes()).hexdigest()
  assert spec["sha256"] == checksum and spec["prefix"] == "module."
  assert spec["normalization"] == [[0.3], [0.5]]
  expected = {"name": "resnet", "depth": 8, "stem": "cifar", "width": 4}
  assert expected.items() <= spec["encoder"].items()


def test_the_table_has_the_encoder_as_it_started(kept):
  table = json.loads((kept / "run" / "summary.json").read_text())["table"]
  assert list(table) == ["raw", "untrained", "start", "trained"]
  dataset = data.load("made:8x8x1")
  encoder = encoders.pretrained(None, kept / "weights.safetensors")
  own = encoder.init(jax.random.key(0), IMAGES)
  features = [evaluation.embed(encoder, *own, split["image"]) for split in dataset[:2]]
  expected = evaluation.knn(features[0], dataset.train["label"], features[1], dataset.test["label"])
  assert math.isclose(table["start"]["knn"], expected)
  assert table["start"] != table["untrained"] != table["trained"]


def test_the_encoder_is_loaded_without_the_file(folder):
  images = data.load("made:8x8x1").test["image"][:5]
  before = contrastax.load(folder / "run")(images)
  for path in folder.glob("weights.*"):
    path.unlink()
  run_folder = contrastax.load(folder / "run")
  np.testing.assert_array_equal(run_folder(images), before)
  plain = encoders.resnet(8, stem="cifar", width=4)
  x = (images.astype(np.float32) / 255 - 0.3) / 0.5
  y, _ = plain.apply(run_folder.params, run_folder.state, x, train=False)
  np.testing.assert_allclose(before, y, rtol=1e-4, atol=1e-5)


def test_an_evaluation_has_the_row_while_the_file_is_there(kept, folder, capsys):
  results = evaluate.evaluate(folder / "run", None, None, False)
  expected = ["raw", "untrained", "start", "trained", "trained - raw", "trained - start"]
  assert list(results["probes"]) == expected and "left out" not in capsys.readouterr().out
  path = kept / "weights.safetensors"  # The config of the copy names this file.
  path.rename(kept / "elsewhere")
  try:
    results = evaluate.evaluate(folder / "run", None, None, False)
  finally:
    (kept / "elsewhere").rename(path)
  assert list(results["probes"]) == ["raw", "untrained", "trained", "trained - raw"]
  assert f"the row 'start' is left out: {path}: no such file" in capsys.readouterr().out


def test_a_run_is_resumed_with_the_same_file_only(tmp_path, capsys):
  path = tmp_path / "weights.safetensors"
  save_file(random_weights(1), path, STATED)
  argv = command(tmp_path)
  assert run.main(argv) == 0
  save_file(random_weights(2), path, STATED)
  capsys.readouterr()
  assert "method.encoder.sha256: '" in refused([*argv, "--config.steps=3"], capsys)
  path.unlink()
  line = refused([*argv, "--config.steps=3"], capsys)
  assert line == f"error: config.method.encoder: {path}: no such file"


@pytest.mark.parametrize(
  "changes, expected",
  [
    ({"sha256": "0" * 64}, "the file has the checksum"),
    ({"prefix": "teacher"}, "no weight has the prefix 'teacher.'"),
    ({"normalization": "imagenet"}, "the normalization is of 3 channels, but the images have 1"),
    ({"normalization": "image"}, "config.method.encoder.normalization must be"),
    ({"encoder": {"name": "resnet", "depth": 18}}, "in the encoder"),
    ({"path": "nothing.safetensors"}, "config.method.encoder: nothing.safetensors: no such file"),
    ({"path": "."}, "config.method.encoder: .: no such file"),
    ({"path": ""}, "pretrained needs path"),
  ],
)
def test_a_wrong_start_is_one_line_and_leaves_no_run(changes, expected, tmp_path, capsys):
  save_file(random_weights(1), tmp_path / "weights.safetensors", STATED)
  assert expected in refused(command(tmp_path, **changes), capsys)
  assert not (tmp_path / "run" / "config.json").exists()


def test_a_frozen_start_stays_as_it_is(tmp_path):
  save_file(random_weights(1), tmp_path / "weights.safetensors", STATED)
  assert run.main(command(tmp_path, frozen=True)) == 0
  table = json.loads((tmp_path / "run" / "summary.json").read_text())["table"]
  assert table["start"] == table["trained"]
  images = data.load("made:8x8x1").test["image"][:5]
  encoder = encoders.pretrained(None, tmp_path / "weights.safetensors")
  own = encoder.init(jax.random.key(0), IMAGES)
  found = contrastax.load(tmp_path / "run")(images)
  np.testing.assert_allclose(found, evaluation.embed(encoder, *own, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SimCLR", "MoCo", "BYOL", "SimSiam", "SwAV", "DINO", "CLIP"])
def test_the_networks_of_a_method_and_their_averages_start_from_the_file(name, kept):
  encoder = encoders.pretrained(None, kept / "weights.safetensors")
  method = dataclasses.replace(all_methods.parts()[name], encoder=encoder)
  batch = {"image": np.zeros((8, 8, 8, 1), np.float32), "index": np.arange(8)}
  params, state = jax.jit(method.init)(jax.random.key(0), all_methods.seen_by(name, batch))
  expected = {key.removeprefix("module."): value for key, value in random_weights(1).items()}
  starts = [encoders.to_torch(params["encoder"], state["encoder"])]
  if "target" in state:
    target = state["target"]
    starts.append(encoders.to_torch(target["params"]["encoder"], target["state"]["encoder"]))
  for found in starts:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
      np.testing.assert_array_equal(found[key], value)
