"""`contrastax compare`: paired differences, what is refused, and the files."""

import json
import re

import numpy as np
import pytest

from contrastax import UserError, evaluation
from contrastax.experiments.compare import compare, main
from contrastax.experiments.compare_output import as_text
from contrastax.experiments.paired import COLUMNS, fingerprint, pack, unpack
from contrastax.reporting import table


def made(path, seed, **changes):
  """Writes the files of a finished run with random results, and returns its folder."""
  rng = np.random.default_rng(seed)
  correct = {name: rng.uniform(size=90) < 0.7 for name in ("knn", "linear")}
  draws = {name: rng.uniform(0.4, 0.8, 20) for name in ("linear_1", "linear_5")}
  means = {name: float(np.mean({**correct, **draws}[name])) for name in COLUMNS}
  half = {name: evaluation.mean_and_interval(values)[1] for name, values in draws.items()}
  summary = {
    "table": {"trained": means},
    "half_intervals": {"trained": half},
    "draws": {"trained": {name: values.tolist() for name, values in draws.items()}},
    "correct": {"trained": {name: pack(values) for name, values in correct.items()}},
    "geometry": {"trained": {"effective_rank": 10.0 + seed}},
    "examples": {"trained_on": 300, "train": 300, "test": 90},
    "judged_on": "test",
    "data": "digits",
    "fingerprint": "abc",
    "steps": 9,
  }
  config = {"data": "digits", "steps": 9, "seed": seed, "method": {"name": "SimCLR"}}
  path.mkdir(parents=True)
  (path / "config.json").write_text(json.dumps(config | changes.pop("config", {})))
  (path / "summary.json").write_text(json.dumps(summary | changes))
  return path


@pytest.fixture
def runs(tmp_path):
  return [made(tmp_path / name, seed) for seed, name in enumerate("abc")]


def summary_of(folder):
  return json.loads((folder / "summary.json").read_text())


def test_differences_over_draws_are_paired(runs):
  a, b = (summary_of(run)["draws"]["trained"]["linear_1"] for run in runs[:2])
  found = compare(runs)["runs"]["b"]["differences"]["linear_1"]
  mean, half = evaluation.mean_and_interval(np.subtract(b, a))
  assert (found["mean"], found["high"] - found["low"]) == pytest.approx((mean, 2 * half))


@pytest.mark.parametrize("column", ["knn", "linear"])
def test_differences_over_examples_are_paired(runs, column):
  a, b = (unpack(summary_of(run)["correct"]["trained"][column], 90) for run in runs[:2])
  found = compare(runs)["runs"]["b"]["differences"][column]
  assert tuple(found.values()) == pytest.approx(evaluation.accuracy_difference(b, a))
  assert found["mean"] == pytest.approx(b.mean() - a.mean())


def test_the_reference_is_the_first_run_or_that_of_the_flag(runs):
  assert compare(runs)["to"] == "a" and compare(runs, runs[2])["to"] == "c"
  forth, back = (compare(runs, run)["runs"] for run in (runs[0], runs[1]))
  one, other = forth["b"]["differences"]["knn"], back["a"]["differences"]["knn"]
  assert (one["mean"], one["low"]) == pytest.approx((-other["mean"], -other["high"]))
  assert compare(runs[:1], runs[1])["to"] == "b"  # It need not be among the runs.


def test_only_keys_that_differ_are_listed(tmp_path):
  a = made(tmp_path / "a", 0, config={"order": {"name": "grouped"}})
  b = made(tmp_path / "b", 1)
  result = compare([a, b])
  assert result["runs"]["a"]["config"] == {"seed": 0, "order.name": "grouped"}
  assert result["runs"]["b"]["config"] == {"seed": 1, "order.name": "not set"}
  shown = as_text(result)
  assert "order.name\n    'grouped': a\n    not set: b" in shown and "SimCLR" not in shown


def test_runs_without_labels_are_compared_by_geometry(tmp_path):
  folders = [made(tmp_path / n, i, table={}, draws={}, correct={}, half_intervals={}) for i, n in enumerate("ab")]  # fmt: skip
  result = compare(folders)
  assert result["runs"]["b"]["table"] == {"effective_rank": 11.0}
  assert "differences" not in as_text(result) and "geometry on the 90 test" in as_text(result)


def test_a_result_that_is_not_known_has_no_difference(tmp_path):
  folders = [made(tmp_path / name, seed) for seed, name in enumerate("ab")]
  for folder in folders:
    summary = summary_of(folder)
    summary["table"]["trained"]["linear_5"] = None
    summary["draws"]["trained"]["linear_5"] = [None] * 20
    (folder / "summary.json").write_text(json.dumps(summary))
  assert set(compare(folders)["runs"]["b"]["differences"]) == {"knn", "linear_1", "linear"}
  assert "–" in as_text(compare(folders))


def test_other_data_are_refused(runs, tmp_path):
  other = made(tmp_path / "d", 4, fingerprint="def", data="npz:x", judged_on="validation")
  with pytest.raises(UserError, match="npz:x, 90 validation examples; digits, 90 test examples"):
    compare([*runs, other])


def test_what_is_no_finished_run_is_left_out(runs, tmp_path, capsys):
  (tmp_path / "notes.txt").write_text("")
  (tmp_path / "empty").mkdir()
  unfinished, older = made(tmp_path / "d", 5, steps=3), made(tmp_path / "e", 6)
  summary = summary_of(older)
  del summary["fingerprint"]
  (older / "summary.json").write_text(json.dumps(summary))
  assert set(compare(sorted(tmp_path.iterdir()))["runs"]) == {"a", "b", "c"}
  printed = capsys.readouterr().out
  assert printed.count(" is left out: ") == 4
  assert f"{unfinished} is left out: it is not finished" in printed
  assert "of an older version" in printed


DAMAGED = {
  "a huge count": {"examples": {"test": 10**12}},
  "another count": {"examples": {"test": 80}},
  "a text as count": {"examples": {"test": "x"}},
  "no row": {"table": {"x": {}}},
  "a list": {"correct": []},
  "a number as row": {"table": {"trained": 5}},
  "a text as accuracy": {"table": {"trained": {"knn": "<b>"}}},
  "a number as draws": {"draws": {"trained": {"linear_1": 5}}},
  "no booleans": {"correct": {"trained": {"knn": "!!!"}}},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_summary_is_left_out(runs, tmp_path, capsys, case):
  other = made(tmp_path / "d", 4, **DAMAGED[case])
  assert main(["compare", *map(str, [other, *runs])]) == 0
  assert f"{other} is left out: its summary.json is damaged" in capsys.readouterr().out


def test_runs_with_other_columns_are_compared_in_those_of_both(runs, tmp_path):
  other = made(tmp_path / "d", 4, correct={"trained": {}})
  for folders in ([runs[0], other], [other, runs[0]]):
    (compared,) = [run["differences"] for run in compare(folders)["runs"].values()][1:]
    assert set(compared) == {"linear_1", "linear_5"}


def test_folders_of_one_name_are_told_apart(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folders = [made(tmp_path / part / "run", seed) for seed, part in enumerate("ab")]
  assert set(compare(folders)["runs"]) == {"a/run", "b/run"}


@pytest.mark.parametrize("suffix", ["json", "html", "md"])
def test_a_file_has_all_numbers_and_escaped_names(tmp_path, suffix, capsys):
  folders = [made(tmp_path / name, seed) for seed, name in enumerate(("<b>|_a", "b"))]
  out = tmp_path / f"out.{suffix}"
  assert main(["compare", *map(str, folders), f"--out={out}"]) == 0
  assert "<b>|_a" in capsys.readouterr().out
  content = out.read_text()
  for folder in folders:
    for value in summary_of(folder)["table"]["trained"].values():
      assert (json.dumps(value) if suffix == "json" else f"{value:.3f}") in content
  if suffix == "html":
    assert "&lt;b&gt;|_a" in content and "<b>" not in content
  if suffix == "md":
    assert "\\<b>\\|\\_a" in content
    tables = [line for line in content.splitlines() if line.startswith("| \\<b>")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 6 for line in tables) and tables


WRONG = {
  "nothing": ([], "needs two finished runs or more, and there is 0"),
  "one": (["a"], "needs two finished runs or more, and there is 1"),
  "one twice": (["a", "a"], "needs two finished runs or more, and there is 1"),
  "no folder": (["a", "z"], "there is no folder "),
  "suffix": (["a", "b", "--out=x.csv"], "the name must end with .json, .html, .md"),
  "no folder for the file": (["a", "b", "--out=z/x.md"], "No such file or directory"),
  "an export": (["a", "b", "--to=export"], "--to=export is not a finished run"),
  "flag": (["a", "b", "--too=a"], "Unknown command line flag 'too'"),
  "to": (["a", "b", "--to=empty"], "--to=empty is not a finished run"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_one_line_and_exit_code_2(mistake, runs, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "empty").mkdir()
  (tmp_path / "export").mkdir()
  for name in ("encoder.json", "model.safetensors"):
    (tmp_path / "export" / name).write_text("{}")
  arguments, expected = WRONG[mistake]
  assert main(["compare", *arguments]) == 2
  out, printed = capsys.readouterr()
  assert printed.count("\n") == 1 and expected in printed
  assert ("export is an export, which" in out) == (mistake == "an export")


def test_packed_booleans_are_the_same_afterwards():
  for count in (1, 7, 8, 9, 1000):
    values = np.random.default_rng(count).uniform(size=count) < 0.5
    np.testing.assert_array_equal(unpack(pack(values), count), values)


def test_the_fingerprint_is_that_of_every_value_and_of_the_split():
  x = np.arange(12, dtype=np.uint8).reshape(6, 2)
  split = {"image": x, "label": np.arange(6) % 2}
  whole = fingerprint(split, split)
  assert whole == fingerprint({"label": split["label"], "image": x.copy()}, split)
  changed = x.copy()
  changed[5, 1] += 1
  others = [
    {"image": changed, "label": split["label"]},
    {"image": x, "label": 1 - split["label"]},
    {"image": x.astype(np.int8), "label": split["label"]},
    {"image": x},
  ]
  codes = {fingerprint(other, split) for other in others} | {fingerprint(split, others[0]), whole}
  assert len(codes) == 6


def test_the_interval_of_paired_accuracies():
  rng = np.random.default_rng(0)
  correct, other = rng.uniform(size=(2, 500)) < [[0.9], [0.8]]
  d, low, high = evaluation.accuracy_difference(correct, other)
  assert d == pytest.approx(correct.mean() - other.mean()) and low < d < high
  # For many examples it is the interval of the mean of the differences.
  mean, half = evaluation.mean_and_interval(correct.astype(float) - other)
  assert (low, high) == pytest.approx((mean - half, mean + half), abs=3e-3)
  assert evaluation.accuracy_difference(other, correct) == pytest.approx((-d, -high, -low))
  same = evaluation.accuracy_difference(correct, correct)
  assert same[0] == 0 and same[1] < 0 < same[2]
  wide = evaluation.accuracy_difference(correct, other, confidence=0.99)
  assert wide[1] < low and wide[2] > high
  assert evaluation.accuracy_difference(np.ones(1, bool), np.zeros(1, bool))[2] == 1


def test_the_interval_covers_the_true_difference():
  """In 95 % of many data sets of 60 examples, up to the error of the simulation."""
  rng, covered = np.random.default_rng(0), []
  for _ in range(2000):
    hard = rng.uniform(size=60)
    _, low, high = evaluation.accuracy_difference(hard < 0.85, np.where(hard < 0.05, False, hard < 0.75))  # fmt: skip
    covered.append(low <= 0.15 <= high)
  assert np.mean(covered) > 0.94


@pytest.mark.parametrize(
  "arguments",
  [([0, 1], [0, 1]), ([True], [True, False]), ([], []), ([[True]], [[True]])],
)
def test_wrong_predictions_are_refused(arguments):
  with pytest.raises(UserError, match="must be booleans"):
    evaluation.accuracy_difference(*map(np.array, arguments))
  with pytest.raises(UserError, match="confidence"):
    evaluation.accuracy_difference([True], [True], confidence=95)


def test_predictions_give_the_accuracies_of_the_probes():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(60, 4)), np.array(["a", "b", "c"])[np.arange(60) % 3]
  x2, y2 = rng.normal(size=(30, 4)), np.array(["a", "b", "z"])[np.arange(30) % 3]
  predicted = evaluation.knn_predictions(x, y, x2, k=5)
  assert np.mean(predicted == y2) == evaluation.knn(x, y, x2, y2, k=5)
  assert predicted.dtype == y.dtype


def test_a_table_shows_texts_and_what_is_not_known():
  shown = table.text(
    {"a": {"x": "text", "y": float("nan")}, "b": {"x": {"mean": None, "half_interval": None}}}
  )
  assert [line.split() for line in shown.splitlines()] == [
    ["x", "y"],
    ["a", "text", "–"],
    ["b", "–"],
  ]
