"""A sweep from the command line: its grid, its runs, its winner, and a second start."""

import json
import pathlib
import shutil

import pytest

from contrastax.experiments import run
from contrastax.experiments.grid import arm_name, split_values
from contrastax.experiments.sweep import _close
from contrastax.files import write_json

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "digits_simclr.py"
OPTIONS = (
  "data=made:8x8x1", "steps=4", "batch_size=16", "eval_every=4", "checkpoint_every=2",
  "method.encoder.name=mlp", "method.encoder.widths=(12,)",
)  # fmt: skip
RATES = "--sweep.optimizer.learning_rate=1e-3,1e30,1e-2"


def command(folder, *arguments, validation=40):
  flags = [f"--config.{option}" for option in (*OPTIONS, f"validation={validation}")]
  return [
    "contrastax run",
    f"--config={CONFIG}:runlocal",
    f"--workdir={folder}",
    *flags,
    *arguments,
  ]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
  """A sweep of three rates, one of which diverges, and what it printed."""
  folder = tmp_path_factory.mktemp("sweep") / "rates"
  with pytest.MonkeyPatch.context() as patch:
    lines = []
    patch.setattr("builtins.print", lambda *values, **_: lines.append(" ".join(map(str, values))))
    assert run.main(command(folder, RATES)) == 0
  return folder, "\n".join(lines)


def test_each_arm_is_a_run_and_one_that_diverges_is_recorded(swept):
  folder, printed = swept
  record = json.loads((folder / "sweep.json").read_text())
  states = {name: entry["status"] for name, entry in record["runs"].items()}
  assert states == {
    "learning_rate=1e-3": "finished",
    "learning_rate=1e30": "diverged",
    "learning_rate=1e-2": "finished",
  }
  assert "the run has diverged: step" in printed
  for name in ("learning_rate=1e-3", "learning_rate=1e-2"):
    summary = json.loads((folder / name / "summary.json").read_text())
    assert summary["judged_on"] == "validation" and (folder / name / "report.html").is_file()
    (process,) = json.loads((folder / name / "run.json").read_text())
    assert "--sweep" not in process["command"]
    assert f"--config.optimizer.learning_rate={name[14:]}" in process["command"]


def test_the_winner_is_the_best_on_held_out_examples(swept):
  folder, printed = swept
  record = json.loads((folder / "sweep.json").read_text())
  tables = {
    name: json.loads((folder / name / "summary.json").read_text())["table"]["trained"]
    for name in record["values"]
  }
  best = max(tables, key=lambda name: (tables[name]["linear"], tables[name]["knn"]))
  assert record["winner"] == best and record["by"] == "linear"
  assert record["values"] == {name: row["linear"] for name, row in tables.items()}
  last = printed.splitlines()[-1]
  assert last.startswith("contrastax run ") and "--config.validation=0" in last
  assert "--sweep" not in last and last.count("validation") == 1
  assert f"--config.optimizer.learning_rate={best[14:]}" in last and "rates_winner" in last
  comparison = json.loads((folder / "compare.json").read_text())
  assert comparison["to"] == best and set(comparison["runs"]) == set(tables)
  assert (folder / "compare.html").is_file()


def test_a_second_start_runs_only_what_is_missing(swept, tmp_path, capsys):
  folder = tmp_path / "rates"
  shutil.copytree(swept[0], folder)
  kept, lost = folder / "learning_rate=1e-3", folder / "learning_rate=1e-2"
  before = (kept / "summary.json").stat().st_mtime_ns
  (lost / "summary.json").unlink()
  shutil.rmtree(lost / "checkpoints" / "4")  # as if it was killed after step 2
  expected = json.loads((swept[0] / lost.name / "summary.json").read_text())
  assert run.main(command(folder, RATES)) == 0
  printed = capsys.readouterr().out
  assert printed.count("it is finished") == 1 and "it has diverged before" in printed
  assert printed.count("evaluating") == 1 and "resuming from checkpoint 2" in printed
  assert (kept / "summary.json").stat().st_mtime_ns == before
  found = json.loads((lost / "summary.json").read_text())
  assert found["table"] == expected["table"] and found["correct"] == expected["correct"]


def test_a_column_without_results_chooses_no_run(swept, tmp_path, capsys):
  folder = tmp_path / "rates"
  shutil.copytree(swept[0], folder)
  for path in folder.glob("*/summary.json"):
    summary = json.loads(path.read_text())
    summary["table"]["trained"]["linear_5"] = None
    write_json(path, summary)
  assert run.main(command(folder, RATES, "--by=linear_5")) == 2
  assert "no run has a result of linear_5; choose another column" in capsys.readouterr().err


def test_another_base_config_is_refused(swept, tmp_path, capsys):
  folder = tmp_path / "rates"
  shutil.copytree(swept[0], folder)
  assert run.main(command(folder, RATES, validation=50)) == 2
  assert "has a run of another config (validation: 40 → 50)" in capsys.readouterr().err


def test_if_every_run_diverges_so_does_the_sweep(swept, tmp_path, capsys):
  folder = tmp_path / "rates"
  bad = folder / "learning_rate=1e30"
  shutil.copytree(swept[0] / bad.name, bad)
  record = json.loads((swept[0] / "sweep.json").read_text())
  write_json(folder / "sweep.json", {"runs": {bad.name: record["runs"][bad.name]}})
  assert run.main(command(folder, "--sweep.optimizer.learning_rate=1e30")) == 3
  assert "the run of the sweep diverged; lower the learning rates" in capsys.readouterr().err


def test_the_sentence_on_close_runs_is_right_for_one_and_for_many():
  found = [_close(*counts) for counts in ((0, 1), (1, 1), (0, 3), (1, 3), (2, 3))]
  assert [f"{start} clearly worse in linear" for start in found] == [
    "the other run is clearly worse in linear",
    "the other run is not clearly worse in linear",
    "all 3 other runs are clearly worse in linear",
    "1 of the 3 other runs is not clearly worse in linear",
    "2 of the 3 other runs are not clearly worse in linear",
  ]


def test_a_dry_run_lists_the_grid_and_writes_nothing(tmp_path, capsys):
  arguments = [RATES, "--sweep.method.temperature.temperature=0.1,0.5", "--dry_run"]
  assert run.main(command(tmp_path / "s", *arguments)) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].startswith("sweep of 6 runs in ") and len(lines) == 8
  assert lines[2] == "  learning_rate=1e-3,temperature=0.1"
  assert not list(tmp_path.iterdir())


WRONG = {
  "no validation": (
    [RATES, "--config.validation=0"],
    "never on test examples, and validation is 0",
  ),
  "unknown key": (["--sweep.optimizer.rate=1,2"], "adamw takes no 'rate'"),
  "empty value": (["--sweep.seed=1,"], "--sweep.seed=1,: a value is empty; write VALUE,VALUE"),
  "no value": (["--sweep.seed"], "--sweep.seed needs a value"),
  "wrong value": (["--sweep.batch_size=16,x"], "batch_size"),
  "twice": (
    ["--sweep.optimizer.learning_rate=1e-3,0.001"],
    "are the same config; give each value once",
  ),
  "both": (["--sweep.steps=2,3"], "set the same key; give one of them"),
  "data": (["--sweep.validation=10,20"], "evaluated on different examples"),
  "column": ([RATES, "--by=accuracy"], "--by=accuracy: choose one of knn, linear_1"),
  "column without a sweep": (["--by=knn"], "--by is for a sweep"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_one_line_and_exit_code_2(mistake, tmp_path, capsys):
  arguments, expected = WRONG[mistake]
  assert run.main(command(tmp_path / "s", *arguments)) == 2
  printed = capsys.readouterr().err
  assert printed.count("\n") == 1 and expected in printed
  assert not list(tmp_path.iterdir())


def test_the_folder_of_a_run_is_refused(tmp_path, capsys):
  (tmp_path / "config.json").write_text("{}")
  assert run.main(command(tmp_path, RATES)) == 2
  assert "is the folder of one run; choose another --workdir" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("text", "values"),
  [
    ("1e-3,3e-4", ["1e-3", "3e-4"]),
    ("fixed, learned", ["fixed", "learned"]),
    ("(32,64),(64,)", ["(32,64)", "(64,)"]),
    ("{'name':'a,b','x':[1,2]},None", ["{'name':'a,b','x':[1,2]}", "None"]),
    ("7", ["7"]),
    ("1,,2", ["1", "", "2"]),
  ],
)
def test_values_are_split_outside_of_brackets_and_quotes(text, values):
  assert split_values(text) == values


def test_names_of_arms_are_readable_safe_and_distinct():
  assert arm_name({"optimizer.learning_rate": "1e-3"}) == "learning_rate=1e-3"
  assert arm_name({"a.name": "x", "b.name": "y"}) == "a.name=x,b.name=y"
  odd = ["{'name': 'a/b'}", "{'name': 'a b'}", "../../x", "x" * 300, "x" * 301, "é\n"]
  names = [arm_name({"key": text}) for text in odd]
  assert len(set(names)) == len(odd)
  assert all("/" not in name and len(name.encode()) < 130 and name.isprintable() for name in names)
