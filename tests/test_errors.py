"""What a user gets wrong on the command line: one line that names the mend, exit code 2, no traceback."""

import contextlib
import io
import json
import pathlib

import numpy as np
import pytest

from contrastax.experiments.run import main

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = f"--config={ROOT}/configs/digits_simclr.py"
MOCO = f"--config={ROOT}/configs/digits_moco.py"

WRONG = {
  "no config": ([], "there is no config; give one: --config=configs/digits_simclr.py"),
  "no such config": (
    [f"--config={ROOT}/configs/digit_simclr.py"],
    f"there is no config {ROOT}/configs/digit_simclr.py; did you mean {ROOT}/configs/digits_simclr.py?",
  ),
  "no such preset": ([DIGITS + ":fast"], "no preset 'fast'; there is: runlocal"),
  "key": ([DIGITS, "--config.batch_siz=8"], "no such key; did you mean config.batch_size?"),
  "nested key": (
    [DIGITS, "--config.optimizer.learning_rte=1"],
    "no such key; did you mean config.optimizer.learning_rate?",
  ),
  "part as key": ([DIGITS, "--config.loss=dcl"], "did you mean config.method.loss.name?"),
  "queue as key": ([DIGITS, "--config.queue=9"], "did you mean config.method.negatives.0.name?"),
  "second of one": (
    [DIGITS, "--config.method.negatives.1.name=queue"],
    "config.method.negatives has 1 part(s), so there is no config.method.negatives.1; set all",
  ),
  "part that is None": (
    [DIGITS, "--config.order.name=balanced"],
    "config.order is None; set the whole part: --config.order=",
  ),
  "order of another size": (
    [DIGITS, "--config.order={'name': 'balanced', 'by': 'label', 'classes': 2, 'per_class': 4}"],
    "set config.batch_size to 8",
  ),
  "places and validation": (
    [DIGITS, "--config.related={'near': 'label'}", "--config.validation=100"],
    "config.related contains their numbers; set validation to 0",
  ),
  "flag": (["--wrkdir=x", DIGITS], "Unknown command line flag 'wrkdir'. Did you mean: workdir"),
  "loose word": ([DIGITS, "steps=3"], "overrides are written --config.KEY=VALUE"),
  "integer": ([DIGITS, "--config.batch_size=big"], "config.batch_size must be an integer, not 'big'"),
  "number": (
    [DIGITS, "--config.optimizer.learning_rate=big"],
    "config.optimizer.learning_rate must be a number, not 'big'",
  ),
  "data": (
    [DIGITS, "--config.data=digit"],
    "config.data: no data set 'digit'; did you mean 'digits'?",
  ),
  "file": ([DIGITS, "--config.data=npz:nowhere.npz"], "there is no file nowhere.npz"),
  "batch 0": ([DIGITS, "--config.batch_size=0"], "batch_size must be between 1 and the data's 1297"),
  "batch -1": ([DIGITS, "--config.batch_size=-1"], "between 1 and the data's 1297, not -1"),
  "batch large": ([DIGITS, "--config.batch_size=1298"], "between 1 and the data's 1297, not 1298"),
  "steps": ([DIGITS, "--config.steps=0"], "steps must be at least 1, not 0"),
  "log_every": (
    [DIGITS + ":runlocal", "--config.log_every=0"],
    "log_every must be at least 1, not 0",
  ),
  "warmup": ([DIGITS, "--config.optimizer.warmup=9999"], "warmup must be at least 0 and below"),
  "part": (
    [DIGITS, "--config.method.encoder.name=convnt"],
    "config.method.encoder.name: no 'convnt' in encoders; did you mean 'convnet'?",
  ),
  "widths": ([DIGITS, "--config.method.encoder.widths=wide"], "widths must be a tuple of integers"),
  "width": ([DIGITS, "--config.method.encoder.widths=(0,)"], "widths must be positive integers"),
  "temperature": ([DIGITS, "--config.method.temperature.temperature=0"], "must be a number above 0"),
  "list of parts": (
    [DIGITS, "--config.method.negatives=3"],
    "config.method.negatives must be a part, {'name': …}, or a tuple of parts, such as",
  ),
  "short name": (
    [DIGITS, "--config.lr=1e-3"],
    "config.lr: there is no such key; did you mean config.optimizer.learning_rate?",
  ),
  "number for a part": (
    [DIGITS, "--config.method.temperature=0.1"],
    "is a part; write --config.method.temperature.temperature=0.1",
  ),
  "key of a part": (
    [DIGITS, "--config.temperature=0.1"],
    "no such key; did you mean config.method.temperature.temperature?",
  ),
  "former key": (
    [DIGITS, "--config.encoder.name=mlp"],
    "no such key; did you mean config.method.encoder.name?",
  ),
  "name for a part": ([DIGITS, "--config.method=MoCo"], "write --config.method.name=MoCo"),
  "name for a tuple": (
    [DIGITS, "--config.method.negatives=queue"],
    "write --config.method.negatives.0.name=queue",
  ),
  "argument of another part": (
    [DIGITS, "--config.method.temperature.rho=0.1"],
    "fixed takes no 'rho'; there are: temperature",
  ),
  "index": ([DIGITS, "--config.method.negatives.1.size=8"], "has 1 part(s)"),
  "no value": ([DIGITS, "--config.steps"], "--config.steps needs a value"),
  "hold out": ([DIGITS, "--config.validation=1297"], "cannot hold out 1297 of 1297 training examples"),
  "file as workdir": ([DIGITS, f"--workdir={ROOT}/README.md"], "README.md is a file"),
  "below a file": ([DIGITS, f"--workdir={ROOT}/README.md/x"], "is a file; choose another --workdir"),
  "unwritable workdir": ([DIGITS, "--workdir=/proc/runs"], "cannot be written"),
  "queue, no multiple": (
    [MOCO, "--config.batch_size=100"],
    "a queue of 1,024 keys is not a multiple of the 100 keys of a step; use 1,000",
  ),
  "queue, too short": (
    [MOCO, "--config.batch_size=1100"],
    "a queue of 1,024 keys is shorter than the 1,100 keys of a step; use 1,100",
  ),
  "momentum": ([MOCO, "--config.method.momentm=1"], "did you mean config.method.momentum?"),
  "foreign workdir": ([DIGITS, f"--workdir={ROOT}/tests"], "is not the folder of a run"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_one_line_and_exit_code_2(mistake, capsys, tmp_path, monkeypatch):
  arguments, expected = WRONG[mistake]
  monkeypatch.chdir(tmp_path)
  if not any("workdir" in argument for argument in arguments):
    arguments = [*arguments, f"--workdir={tmp_path}/run"]
  assert main(["run", *arguments]) == 2
  printed = capsys.readouterr()
  assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
  assert expected in printed.err
  assert not (tmp_path / "run" / "checkpoints").exists()
  assert not (ROOT / "tests" / ".lock").exists(), "a folder of somebody else's was written to"


MINE = {"data": "npz:mine.npz", "batch_size": 64}
MIXES = {"name": "mochi", "hard": 1024, "mixed": 8, "with_anchor": 8}
WRONG_PARTS = {
  "SupCon without labels": (
    "digits_sup_con", MINE, "same_label needs labels, but the data have none",
  ),
  "two views and more": (
    "digits_moco",
    {**MINE, "method.views": {"name": "multi_crop", "sizes": (8, 6)}},
    "MoCo takes 2 views, not 8; give one recipe or 2",
  ),
  "crops in the wrong order": (
    "digits_dino",
    {**MINE, "method.views": {"name": "multi_crop", "sizes": (6, 8), "counts": (1, 2)}},
    "the first two views of DINO must have the same size, not 6×6, 8×8",
  ),
  "a part of other methods": (
    "digits_byol", {"method.negatives": {"name": "in_batch"}}, "BYOL takes no 'negatives'",
  ),
  "a part that is missing": (
    "digits_byol", {"method.predictor": None}, "config.method: BYOL needs 'predictor'",
  ),
  "mixing with no queue": (
    "digits_simclr", {"method.negatives": ({"name": "in_batch"}, MIXES)}, "write queue(…) before it",
  ),
  "a hard set longer than the queue": (
    "digits_moco", {"method.negatives": ({"name": "queue", "size": 512}, MIXES)},
    "mochi cannot take the 1,024 hardest of 512 candidates; use a longer queue, or a smaller hard set",
  ),
  "a filter that leaves nothing": (
    "digits_simclr",
    {"method.relation": ({"name": "same_example"}, {"name": "similarity_within", "most": -0.9999})},
    "step 10: no anchor has had a negative for 10 steps",
  ),
  "a filter by what the data have not": (
    "digits_simclr",
    {"method.relation": ({"name": "same_example"}, {"name": "negatives_differ", "by": "cluster"})},
    "negatives_differ needs the side 'cluster', but the anchors have as_negative, as_positive, index, label",
  ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG_PARTS)
def test_a_method_says_what_it_cannot_be_given(mistake, capsys, tmp_path, monkeypatch):
  """The same for what only a config can say: one is written beside the project's own."""
  name, changes, expected = WRONG_PARTS[mistake]
  monkeypatch.chdir(tmp_path)
  np.savez("mine.npz", image=np.random.default_rng(0).random((300, 8, 8, 3)).astype(np.float32))
  (tmp_path / "mine.py").write_text(
    f"from configs.{name} import get_config as theirs\n\n"
    "def get_config(arg=''):\n"
    "  config = theirs('runlocal')\n"
    f"  for key, value in {changes!r}.items():\n"
    "    part, _, key = key.rpartition('.')\n"
    "    place = config[part] if part else config\n"
    "    if value is None:\n"
    "      del place[key]\n"
    "    else:\n"
    "      place[key] = value\n"
    "  return config\n"
  )
  assert main(["run", "--config=mine.py", f"--workdir={tmp_path}/run"]) == 2
  printed = capsys.readouterr()
  assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
  assert expected in printed.err


@pytest.fixture(scope="module")
def unlabeled_run(tmp_path_factory):
  """(Folder, options, output) of a run in that folder on an unlabeled file, of the digits' config."""
  folder, output = tmp_path_factory.mktemp("unlabeled"), io.StringIO()
  images = np.random.default_rng(0).integers(0, 256, (40, 12, 10), dtype=np.uint8)
  np.savez(folder / "mine.npz", image=images)
  options = ["--config.data=npz:mine.npz", "--config.batch_size=16", "--config.steps=4"]
  with contextlib.chdir(folder), contextlib.redirect_stdout(output):
    assert main(["run", DIGITS + ":runlocal", *options]) == 0
  return folder, options, output.getvalue()


def test_a_workdir_of_another_method_is_refused(unlabeled_run, capsys, monkeypatch):
  folder, options, _ = unlabeled_run
  monkeypatch.chdir(folder)
  workdir = "--workdir=runs/digits_simclr_runlocal"
  assert main(["run", MOCO + ":runlocal", *options, workdir]) == 2
  printed = capsys.readouterr().err
  assert printed.startswith("error: ") and printed.count("\n") == 1
  assert "'SimCLR' → 'MoCo'" in printed


def test_help_helps(capsys):
  assert main(["run", "--help"]) == 0
  assert "--dry_run" in capsys.readouterr().out
  assert main(["run", DIGITS, "--help"]) == 0
  assert "optimizer.learning_rate = 0.004" in capsys.readouterr().out


def test_dry_run_says_sizes_and_leaves_nothing(capsys, tmp_path):
  assert main(["run", DIGITS, "--dry_run", f"--workdir={tmp_path}/run"]) == 0
  printed = capsys.readouterr().out
  for part in (
    "mesh: ",
    "encoder: 92,896 parameters",
    "[256, 8, 8, 1] uint8",
    "MiB of temporaries",
  ):
    assert part in printed
  assert not (tmp_path / "run").exists()


def test_a_metric_that_is_not_finite_stops_the_run(capsys, tmp_path):
  options = ["--config.optimizer.learning_rate=1e30", "--config.optimizer.warmup=0"]
  assert main(["run", DIGITS + ":runlocal", *options, f"--workdir={tmp_path}/run"]) == 3
  printed = capsys.readouterr().err
  assert printed.startswith("error: step 2: ") and printed.count("\n") == 1
  assert "is nan, so the run stops; earlier checkpoints are kept" in printed


def test_an_unlabeled_file_of_ones_own(unlabeled_run):
  folder, _, printed = unlabeled_run
  assert "the data have no labels" in printed
  assert (folder / "runs" / "digits_simclr_runlocal" / "summary.json").exists()


def test_an_online_probe_without_labels_is_refused(unlabeled_run, capsys, monkeypatch):
  folder, options, _ = unlabeled_run
  monkeypatch.chdir(folder)
  probe = ["--config.online_probe=True", "--workdir=runs/probe"]
  assert main(["run", DIGITS + ":runlocal", *options, *probe]) == 2
  assert "set config.online_probe to False" in capsys.readouterr().err
  assert not (folder / "runs" / "probe").exists()


@pytest.mark.full
def test_a_few_labeled_images_of_ones_own(capsys, tmp_path, monkeypatch):
  """Classes of too few examples for a probe: the table says so, and stays valid JSON."""
  monkeypatch.chdir(tmp_path)
  images = np.random.default_rng(0).random((30, 8, 8)).astype(np.float32)
  np.savez("mine.npz", image=images, label=np.arange(30) % 8 * 100)
  options = ["--config.data=npz:mine.npz", "--config.batch_size=16", "--config.steps=4"]
  assert main(["run", DIGITS + ":runlocal", *options]) == 0
  assert "nan" in capsys.readouterr().out
  summary = (tmp_path / "runs" / "digits_simclr_runlocal" / "summary.json").read_text()
  assert json.loads(summary)["table"]["trained"]["linear_5"] is None
  assert "NaN" not in summary
