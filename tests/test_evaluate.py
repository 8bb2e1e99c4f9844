"""A run judged from the command line: what is written is what the library says of its encoder."""

import json
import math
import pathlib
import re
import shutil

import numpy as np
import pytest

import contrastax
from contrastax import data, evaluation, views
from contrastax.core import UserError
from contrastax.experiments import measures, protocols, run
from contrastax.experiments.evaluate import main
from contrastax.reporting import table
from contrastax.training.description import save_encoder_spec

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "digits_simclr.py"


@pytest.fixture(scope="module")
def unlabeled(tmp_path_factory):
  path = tmp_path_factory.mktemp("data") / "mine.npz"
  np.savez(path, image=data.load("made:8x8x1").train["image"])
  return f"npz:{path}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, unlabeled):
  """A run judged on 40 held-out of 200 training images; and one of no labels, stopped half-way."""
  a, b = (tmp_path_factory.mktemp("runs") / name for name in "ab")
  options = (
    "data=made:8x8x1", "validation=40", "steps=4", "batch_size=16", "eval_every=4",
    "checkpoint_every=2", "method.encoder.name=mlp",
    "method.encoder.widths=(12,)",
  )  # fmt: skip
  arguments = [f"--config.{option}" for option in options]
  assert run.main(["run", f"--config={CONFIG}:runlocal", *arguments, f"--workdir={a}"]) == 0
  shutil.copytree(a, b)  # training it would compile everything once more
  shutil.rmtree(b / "checkpoints" / "4")
  config = json.loads((b / "config.json").read_text())
  (b / "config.json").write_text(json.dumps(config | {"data": unlabeled}))
  return a, b


@pytest.fixture(scope="module")
def judged(runs):
  """The first run's evaluation.json, by all protocols at once, with few and short fits."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(protocols, "SEEDS", 2)
    patch.setattr(protocols, "EPOCHS", {0.01: 3, 0.1: 2})
    patch.setattr(protocols, "LIDAR_VIEWS", 3)
    a, b = runs
    options = [f"--workdir={a}", "--finetune", "--data=made:6x4x3", f"--against={b}"]
    assert main(["evaluate", *options]) == 0
  return json.loads((a / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def split():
  return data.hold_out(data.load("made:8x8x1"), 40)


@pytest.fixture(scope="module")
def features(runs, split):
  encode = contrastax.load(runs[0])
  raw = [part["image"].reshape(-1, 64) / np.float32(255) for part in (split.train, split.test)]
  return {"raw": raw, "trained": [encode(part["image"]) for part in (split.train, split.test)]}


def test_it_says_what_the_figures_are_of(judged, runs):
  about = {"step": 4, "steps": 4, "judged_on": "validation", "data": "made:8x8x1", "seed": 0}
  assert {name: judged[name] for name in about} == about
  assert contrastax.load(runs[0]).step == 4
  protocols = {"probes", "retrieval", "geometry", "fine_tune", "transfer", "cka"}
  assert set(judged) == {*about, *protocols}


@pytest.mark.parametrize("row", ["raw", "trained"])
def test_probes_and_retrieval(judged, features, split, row):
  ours, theirs = features[row]
  all_of_it = ours, split.train["label"], theirs, split.test["label"]
  found = judged["probes"][row]
  assert list(found) == ["knn_20", "linear_1", "linear_5", "linear"], (
    "160 images have no 200 nearest"
  )
  assert found["knn_20"] == evaluation.knn(*all_of_it, k=20)
  assert found["linear"] == pytest.approx(evaluation.linear(*all_of_it))
  for n in (1, 5):
    accuracies = evaluation.few_label(*all_of_it, per_class=n)
    mean, half = evaluation.mean_and_interval(accuracies)
    assert found[f"linear_{n}"] == {
      "mean": pytest.approx(mean), "half_interval": pytest.approx(half),
      "values": pytest.approx(accuracies.tolist()),
    }  # fmt: skip
  assert judged["retrieval"][row] == pytest.approx(
    evaluation.retrieval(theirs, split.test["label"], ks=(1, 5, 10))
  )


def test_the_page_of_the_run_has_the_tables(judged, runs):
  page = (runs[0] / "report.html").read_text()
  assert "Transfer to made:6x4x3: Retrieval" in page and "Linear CKA with the run" in page
  assert f"{judged['retrieval']['trained']['map@r']:.3f}" in page
  assert f"{judged['fine_tune']['trained']['10%']['mean']:.3f}" in page


def test_differences_are_taken_draw_by_draw(judged):
  probes = judged["probes"]
  assert list(probes) == ["raw", "untrained", "trained", "trained - raw"]
  values = np.subtract(probes["trained"]["linear_1"]["values"], probes["raw"]["linear_1"]["values"])
  mean, half = evaluation.mean_and_interval(values)
  found = probes["trained - raw"]["linear_1"]
  assert (found["mean"], found["half_interval"]) == pytest.approx((mean, half))
  assert len(values) == 20 and half > 0


def test_untrained_and_half_intervals_are_those_of_the_summary(judged, runs):
  summary = json.loads((runs[0] / "summary.json").read_text())
  for row, line in summary["table"].items():
    found = judged["probes"][row]
    assert (found["knn_20"], found["linear"]) == pytest.approx((line["knn"], line["linear"]))
    for name in ("linear_1", "linear_5"):
      assert found[name]["mean"] == pytest.approx(line[name])
      half = summary["half_intervals"][row][name]
      assert found[name]["half_interval"] == pytest.approx(half)
  for row, line in summary["geometry"].items():
    assert judged["geometry"][row] == pytest.approx(
      line | {"lidar": judged["geometry"][row]["lidar"]}
    )


def test_geometry(judged, features, runs, split):
  encode = contrastax.load(runs[0])
  found, (_, theirs) = judged["geometry"]["trained"], features["trained"]
  assert found["uniformity"] == pytest.approx(float(evaluation.uniformity(theirs)), rel=1e-5)
  assert found["effective_rank"] == pytest.approx(
    float(evaluation.effective_rank(theirs)), rel=1e-5
  )
  tolerance = evaluation.tolerance(theirs, split.test["label"])
  assert found["tolerance"] == pytest.approx(float(tolerance), rel=1e-5)
  recipe = views.affine_jitter()
  drawn = measures.draw_views(recipe, split.test["image"], "lidar", 3)
  of_views = [encode(view, bounded=False) for view in drawn]
  assert found["lidar"] == pytest.approx(float(evaluation.lidar(np.stack(of_views, 1))), rel=1e-4)


def test_of_one_recipe_per_view_the_first_is_drawn(split):
  recipe, images = views.affine_jitter(), split.test["image"][:3]
  other = views.affine_jitter(noise=0.0)
  of_two, of_one = (list(measures.draw_views(r, images, "x", 2)) for r in ((recipe, other), recipe))
  np.testing.assert_array_equal(of_two, of_one)
  assert np.abs(of_one[0] - of_one[1]).max() > 0.1


def test_fine_tuning(judged, runs, split):
  encode = contrastax.load(runs[0])
  tuned = judged["fine_tune"]
  assert list(tuned) == ["untrained", "trained", "trained - untrained"]
  accuracy = evaluation.fine_tune(
    encode.encoder, encode.params, encode.state, split.train, split.test,
    fraction=0.1, steps=2, batch_size=16, seed=1,
  )  # fmt: skip
  assert len(tuned["trained"]["10%"]["values"]) == 2
  assert tuned["trained"]["10%"]["values"][1] == pytest.approx(accuracy)
  for name in ("1%", "10%"):
    values = [np.array(tuned[row][name]["values"]) for row in ("trained", "untrained")]
    difference = tuned["trained - untrained"][name]["values"]
    np.testing.assert_allclose(difference, values[0] - values[1])


def test_transfer_is_that_of_the_library(judged, runs):
  other = data.hold_out(data.load("made:6x4x3"), 40)
  row = evaluation.transfer(contrastax.load(runs[0]), other.train, other.test)
  assert judged["transfer"]["data"] == "made:6x4x3"
  found = judged["transfer"]["probes"]["trained"]
  few = (found["linear_1"]["mean"], found["linear_5"]["mean"])
  expected = (row["knn"], row["linear_1"], row["linear_5"], row["linear"])
  assert (found["knn_20"], *few, found["linear"]) == pytest.approx(expected)


def test_transfer_to_images_in_a_field_of_another_name(runs, tmp_path):
  encode, made = contrastax.load(runs[0]), data.load("made:8x8x1").train
  other = {"photo": made["image"], "label": made["label"], "number": np.arange(len(made["label"]))}
  np.savez(tmp_path / "one.npz", **other)
  train, test = protocols.splits(encode, f"npz:{tmp_path}/one.npz", 0)
  dataset = data.load(f"npz:{tmp_path}/one.npz")
  for found, expected in ((train, dataset.train), (test, dataset.test)):
    np.testing.assert_array_equal(found["inputs"], expected["photo"])
    np.testing.assert_array_equal(found["label"], expected["label"])
  np.savez(tmp_path / "two.npz", **other, back=made["image"])
  with pytest.raises(UserError, match=r"several fields that the encoder can take \(back, photo\)"):
    protocols.splits(encode, f"npz:{tmp_path}/two.npz", 0)
  np.savez(tmp_path / "none.npz", label=made["label"], number=other["number"])
  with pytest.raises(UserError, match=r"has no field that the encoder can take \(number\)"):
    protocols.splits(encode, f"npz:{tmp_path}/none.npz", 0)


def test_cka_of_two_runs(judged, runs, split):
  ours, theirs = (contrastax.load(workdir)(split.test["image"]) for workdir in runs)
  found = judged["cka"]
  assert (found["against"], found["step"]) == (str(runs[1]), 2)
  assert found["cka"] == pytest.approx(evaluation.cka(ours, theirs))
  assert found["unbiased"] == pytest.approx(evaluation.cka(ours, theirs, unbiased=True))
  assert 0 < found["cka"] < 1


def test_an_unlabeled_run_is_judged_by_its_geometry(runs, capsys, monkeypatch):
  monkeypatch.setattr(protocols, "LIDAR_VIEWS", 2)
  assert main(["evaluate", f"--workdir={runs[1]}"]) == 0
  printed = capsys.readouterr().out
  assert (
    "step 2 of 4, the last checkpoint; evaluated on the validation split, 40 examples" in printed
  )
  assert "mine.npz has no labels: no probes, no retrieval" in printed
  found = json.loads((runs[1] / "evaluation.json").read_text())
  assert "probes" not in found and "tolerance" not in found["geometry"]["trained"]
  assert math.isfinite(found["geometry"]["trained"]["lidar"])


WRONG = {
  "no flag": ([], "a run is required; give its folder: "),
  "no run": (["--workdir={here}"], "holds no run: it has no config.json"),
  "no folder": (["{here}/none"], "/none; give the folder of a run"),
  "file": (["--workdir={config}"], "holds no run: it has no config.json"),
  "unknown flag": (["--workdir={a}", "--fine_tune"], "Unknown command line flag 'fine_tune'"),
  "loose word": (["{a}", "loose"], "unexpected argument "),
  "no such data": (
    ["--workdir={a}", "--data=digit"],
    "no data set 'digit'; did you mean 'digits'?",
  ),
  "transfer without labels": (
    ["--workdir={a}", "--data={unlabeled}"],
    "transfer is probed by labels; npz:",
  ),
  "fine-tuning without labels": (
    ["--workdir={b}", "--finetune"],
    "fine-tuning needs labels; npz:",
  ),
  "channels": (
    ["--workdir={a}", "--data=made:8x8x2"],
    "the field 'image' is uint8 [200, 8, 8, 2]; the",
  ),
  "no peer": (["--workdir={a}", "--against={here}"], "holds no run: it has no encoder.json"),
  "peer of another shape": (
    ["--workdir={a}", "--against={here}/other"],
    "other takes [4, 16, 1] uint8, not this run's [8, 8, 1] uint8",
  ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_one_line_and_exit_code_2(mistake, runs, unlabeled, tmp_path, capsys):
  arguments, expected = WRONG[mistake]
  if mistake == "peer of another shape":
    shutil.copytree(runs[1], tmp_path / "other")
    images = np.zeros((1, 4, 16, 1), np.uint8)
    save_encoder_spec(tmp_path / "other", {"name": "mlp", "widths": (12,)}, "encoder", images)
  names = {"here": tmp_path, "config": CONFIG, "unlabeled": unlabeled}
  names |= {"a": runs[0], "b": runs[1]}
  assert main(["evaluate", *(argument.format(**names) for argument in arguments)]) == 2
  printed = capsys.readouterr().err
  assert printed.startswith("error: ") and printed.count("\n") == 1
  assert expected in printed


def test_what_few_images_do_not_allow_is_said(capsys):
  assert protocols.up_to(160, (20, 200), "knn_", "training") == (20,)
  assert capsys.readouterr().out == "knn_200 is left out: there are 160 training images\n"


def test_a_table_of_intervals_and_gaps():
  interval = {"mean": 0.25, "half_interval": 0.0625, "values": [0.2, 0.3]}
  shown = table.text({"a": {"x": 0.5, "few": interval, "n": 3}, "a - b": {"few": interval}})
  assert [line.split() for line in shown.splitlines()] == [
    ["x", "few", "n"],
    ["a", "0.500", "0.250", "±", "0.062", "3"],
    ["a", "-", "b", "0.250", "±", "0.062"],
  ]
  assert len({len(line) for line in shown.splitlines()}) == 1


def test_help_helps(capsys):
  assert main(["evaluate", "--help"]) == 0
  flags = re.findall(r"--(\w+)", capsys.readouterr().out)
  assert {"finetune", "data", "against", "allow"} <= set(flags)
