"""Orders, related examples, refreshes and user-defined data, from a config."""

import json
import sys

import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

from contrastax import data, training
from contrastax.core import UserError
from contrastax.experiments import run
from contrastax.experiments.build import build

MODULE = """
import numpy as np
from contrastax import data

def vectors():
  draw = np.random.default_rng(0)
  def split(size):
    x = draw.normal(size=(size, 6)).astype(np.float32)
    near = ((np.arange(size)[:, None] + [1, 2]) % size).astype(np.int32)
    return {"x": x, "y": x + 1, "label": (np.arange(size) % 4).astype(np.int32), "near": near}
  return data.Dataset(split(64), split(16), tuple("abcd"))

def number():
  return 3
"""
VECTORS = {
  "data": "vector_data:vectors",
  "batch_size": 16,
  "steps": 4,
  "method": {
    "name": "Pairs", "inputs": ("x", "y"), "encoder": {"name": "mlp", "widths": (8,)},
    "projection": {"name": "projection", "widths": (8,), "out": 4},
  },
  "optimizer": {"name": "adamw", "learning_rate": 1e-3},
}  # fmt: skip


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
  (tmp_path / "vector_data.py").write_text(MODULE)
  monkeypatch.syspath_prepend(str(tmp_path))
  yield
  sys.modules.pop("vector_data", None)


def built(**changes):
  return build(ConfigDict({**VECTORS, **changes}), training.make_mesh())


def test_data_of_ones_own():
  parts = built()
  assert set(parts.source.batch(0)) == {"x", "y", "label", "near", "index"}
  assert parts.source.size == 64 and len(built(validation=10).dataset.test["x"]) == 10


def test_an_order_by_an_array_of_the_data():
  order = {"name": "balanced", "by": "label", "classes": 4, "per_class": 4}
  source = built(order=order).source
  for step in range(6):
    np.testing.assert_array_equal(np.bincount(source.batch(step)["label"]), [4, 4, 4, 4])
  other = built(order=order, seed=1).source
  assert (np.asarray(other.batch(0)["index"]) != np.asarray(source.batch(0)["index"])).any()


def test_related_examples_by_an_array_of_the_data():
  batch = built(related={"hard": "near"}).source.batch(0)
  np.testing.assert_array_equal(batch["hard_index"], batch["near"])
  assert batch["hard_x"].shape == (16, 2, 6)


def test_a_refresh():
  refresh = built(refresh={"name": "mined", "every": 2, "k": 3}).refresh
  assert refresh == training.mined(every=2, k=3)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"data": "vector_data:number"},
      "config.data: vector_data:number must return a data.Dataset, not int",
    ),
    ({"data": "vector_dat:number"}, "config.data: there is no module 'vector_dat'"),
    ({"data": "vector_data:vectrs"}, "no 'vectrs'; did you mean 'vectors'?"),
    (
      {"order": {"name": "balanced", "by": "labl", "classes": 4, "per_class": 4}},
      "config.order.by: the data have no array 'labl'; did you mean 'label'?",
    ),
    (
      {"order": {"name": "balanced", "by": "label", "classes": 4, "per_class": 2}},
      "config.order makes batches of 8, but batch_size is 16",
    ),
    ({"order": {"name": "balance", "by": "label"}}, "did you mean 'balanced'?"),
    ({"order": {"name": "grouped", "by": 3}}, "config.order.by must be the name of an array"),
    ({"related": {"hard": "nea"}}, "config.related.hard: the data have no array 'nea'; did you m"),
    ({"refresh": {"name": "mine", "every": 2}}, "config.refresh.name: no 'mine'"),
    ({"refresh": {"name": "mined", "every": 2}}, "config.refresh: mined needs 'k'"),
    ({"refresh": {"name": "mined", "every": "2", "k": 1}}, "config.refresh.every must be an int"),
  ],
)
def test_what_is_wrong_is_one_line_with_its_path(changes, message):
  with pytest.raises(UserError) as error:
    built(**changes)
  assert message in str(error.value) and "\n" not in str(error.value)


def test_a_run_with_a_refresh_and_given_negatives_goes_from_start_to_end(tmp_path, capsys):
  method = {**VECTORS["method"], "negative": "hard_y", "negative_index": "hard_index"}
  refresh = {"name": "mined", "every": 2, "k": 2}
  arguments = tiny.written(
    tmp_path, **{key: None for key in tiny.CONFIG if key not in VECTORS},
    **{**VECTORS, "method": method, "refresh": refresh},
  )  # fmt: skip
  assert run.main(arguments) == 0, capsys.readouterr()
  made = {p.name for p in (tmp_path / "run").iterdir()}
  assert {"summary.json", "refresh", "encoder.json", "figures"} <= made
  assert (tmp_path / "run" / "refresh" / "2.npz").exists()
  assert isinstance(data.load("digits"), data.Dataset)


def test_examples_without_a_label_train_and_are_not_judged(tmp_path, capsys):
  """The classes of the others are found: −1 is no class of a probe or of the neighbors."""
  rng = np.random.default_rng(0)
  classes = np.arange(200) % 2
  x = (rng.normal(size=(200, 6)) + 6 * classes[:, None]).astype(np.float32)
  label = np.where(np.arange(200) % 3 == 0, -1, classes)
  np.savez(tmp_path / "half.npz", x=x, label=label)
  method = {**VECTORS["method"], "inputs": ("x", "x")}
  changed = {**VECTORS, "data": f"npz:{tmp_path}/half.npz", "method": method}
  source = build(ConfigDict(changed), training.make_mesh()).source
  assert source.size == 160 and (source.arrays["label"] == -1).sum() > 40
  arguments = tiny.written(
    tmp_path, **{key: None for key in tiny.CONFIG if key not in VECTORS}, **changed
  )
  assert run.main(arguments) == 0, capsys.readouterr()
  table = json.loads((tmp_path / "run" / "summary.json").read_text())["table"]
  assert table["trained"]["knn"] > 0.95 and table["trained"]["linear"] > 0.95
