"""One call trains on a folder, and it is the same run as that of the command."""

import dataclasses
import json
import pathlib
import threading

import chex
import numpy as np
import pytest
from images_on_disk import two_classes

import contrastax
from contrastax import cli, data
from contrastax.core import UserError

TINY = {
  "method.encoder": {"name": "convnet", "widths": (8,)},
  "method.views.blur": 0.0,
  "eval_every": 4,
  "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  return two_classes(tmp_path_factory.mktemp("fit") / "photos", 40)


def fit(photos, workdir, **options):
  overrides = TINY | options.pop("overrides", {})
  return contrastax.fit(
    f"folder:{photos}", size=12, steps=4, batch_size=8, workdir=workdir, overrides=overrides,
    **options,
  )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(photos):
  return fit(photos, photos.parent / "run")


def test_the_result_has_a_table_an_encoder_and_a_report(fitted, photos):
  assert all(row in fitted.table for row in ("raw", "untrained", "trained"))
  images = np.asarray(data.read(f"folder:{photos}", size=12).train["image"])
  vectors = fitted.encoder(images)
  assert vectors.shape == (40, 8) and np.isfinite(vectors).all()
  assert fitted.summary == json.loads((fitted.workdir / "summary.json").read_text())
  assert fitted.summary["steps"] == 4
  knn = fitted.summary["table"]["trained"]["knn"]
  assert repr(fitted).startswith(f"Fitted({str(fitted.workdir)!r}, knn={knn:.3f}, linear_1=0.")
  unlabeled = dataclasses.replace(fitted, summary={"table": {}})
  assert repr(unlabeled) == f"Fitted({str(fitted.workdir)!r})" and "summary" not in repr(fitted)


def test_the_recorded_command_gives_the_same_run(fitted, photos):
  """The command in run.json, with another folder."""
  (process,) = json.loads((fitted.workdir / "run.json").read_text())
  import shlex

  _, name, *arguments = shlex.split(process["command"])
  other = photos.parent / "other"
  arguments = [f"--workdir={other}" if "--workdir" in each else each for each in arguments]
  assert cli.main([name, *arguments]) == 0
  one, two = (contrastax.load(folder) for folder in (fitted.workdir, other))
  chex.assert_trees_all_equal(one.params, two.params)
  configs = [json.loads((folder / "config.json").read_text()) for folder in (fitted.workdir, other)]
  assert configs[0] == configs[1]


def test_the_same_call_continues_the_run_and_streaming_does_not_change_it(fitted, photos, capfd):
  again = fit(photos, fitted.workdir, overrides={"stream": True})
  assert "finished: checkpoint 4" in capfd.readouterr().out
  assert again.summary == fitted.summary
  streamed = fit(photos, photos.parent / "streamed", overrides={"stream": True})
  chex.assert_trees_all_equal(streamed.encoder.params, fitted.encoder.params)
  assert streamed.table == fitted.table


def test_numbers_of_numpy_and_another_thread(fitted, photos):
  """The same run, started from a thread with the seed as a NumPy integer."""
  results = []
  again = threading.Thread(
    target=lambda: results.append(
      fit(photos, fitted.workdir, overrides={"seed": np.int64(0), "eval_every": np.int32(4)})
    )
  )
  again.start()
  again.join()
  assert results == [fitted]


def test_a_small_folder_has_a_smaller_batch(tmp_path):
  root = two_classes(tmp_path / "few", 25)
  fitted = contrastax.fit(
    f"folder:{root}", size=12, steps=2, workdir=tmp_path / "run", overrides=TINY
  )
  config = json.loads((fitted.workdir / "config.json").read_text())
  assert config["batch_size"] == 16  # 20 training images


def test_views_are_as_large_as_the_images(fitted):
  config = json.loads((fitted.workdir / "config.json").read_text())
  assert config["method"]["views"]["size"] is None and config["data"]["size"] == 12


WRONG = {
  "method": ({"method": "simclrr"}, "fit has no method 'simclrr'; there are: moco, simclr, vicreg"),
  "data": ({"data": "photos"}, "no data set 'photos'"),
  "config": ({"config": "imagess"}, "there is no config imagess"),
  "override": ({"overrides": {"stepz": 3}}, "config.stepz: there is no such key"),
  "steps": ({"steps": 0}, "steps must be at least 1, not 0"),
  "a text": ({"steps": "x"}, "steps must be an integer, not 'x'"),
  "a path": ({"data": pathlib.Path("photos")}, 'data must be a name such as "folder:photos"'),
  "size": ({"size": 0}, "size must be the side of the images in pixels"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_one_line_and_leaves_nothing(case, photos, tmp_path):
  options, words = WRONG[case]
  with pytest.raises(UserError) as error:
    contrastax.fit(**{"data": f"folder:{photos}", "workdir": tmp_path / "run", **options})
  assert words in str(error.value) and "\n" not in str(error.value)
  assert not (tmp_path / "run").exists()
