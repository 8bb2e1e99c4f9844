"""A command that is refused says so in one line, and leaves the run's folder as it was."""

import json
import pathlib
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from contrastax.core import TrainingDiverged, UserError, check_integer, check_seed
from contrastax.experiments import commandline, evaluate, run
from contrastax.training import Stop, make_mesh, train

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """(Arguments, folder) of a finished run."""
  folder = tmp_path_factory.mktemp("finished")
  arguments = tiny.written(folder)
  assert run.main(arguments) == 0
  return arguments, folder / "run"


def contents(folder):
  return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def one_line(capsys, *expected):
  printed = capsys.readouterr().err
  assert printed.startswith("error: ") and printed.count("\n") == 1, printed
  for part in expected:
    assert part in printed


OTHER_RUNS = {
  "fewer steps": (["--config.steps=2"], "already at step 4, beyond steps = 2"),
  "another seed": (["--config.seed=1"], "seed: 0 → 1"),
  "seed out of range": (["--config.seed=-1"], "seed must be at least 0, not -1"),
  "another part": (
    ["--config.method.encoder.name=convnet"],
    "method.encoder.name: 'mlp' → 'convnet'",
  ),
  "batch": (["--config.batch_size=64"], "batch_size must be between 1 and the data's 32, not 64"),
  "no such key": (["--config.seeed=1"], "no such key; did you mean config.seed?"),
}


@pytest.mark.parametrize("other", OTHER_RUNS)
def test_another_runs_command_changes_nothing(finished, tmp_path, capsys, other):
  arguments, folder = finished
  options, expected = OTHER_RUNS[other]
  shutil.copytree(folder, tmp_path / "run")
  before = contents(tmp_path / "run")
  assert run.main([*arguments[:-1], f"--workdir={tmp_path}/run", *options]) == 2
  one_line(capsys, expected)
  assert contents(tmp_path / "run") == before


def test_other_data_change_nothing(finished, tmp_path, capsys):
  _, folder = finished
  shutil.copytree(folder, tmp_path / "run")
  arguments, before = tiny.written(tmp_path), contents(tmp_path / "run")
  text = before[next(p for p in before if p.name == "config.json")].decode()
  (tmp_path / "run" / "config.json").write_text(text.replace(str(folder.parent), str(tmp_path)))
  np.savez(tmp_path / "images.npz", image=tiny.images(seed=1))
  before = contents(tmp_path / "run")
  assert run.main([*arguments, "--config.steps=6"]) == 2
  one_line(capsys, "the data are not those that checkpoint 4 was trained on")
  assert contents(tmp_path / "run") == before


def test_what_the_method_refuses_does_not_claim_the_folder(tmp_path, capsys):
  """The relation needs labels, which only the first trace of the train step finds out."""
  arguments = tiny.written(tmp_path, method={**tiny.METHOD, "relation": {"name": "same_label"}})
  assert run.main(arguments) == 2
  one_line(capsys, "same_label needs labels")
  assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]


VALUES = {
  "seed": [-1, 2**32, 2**40, 1.0, "1", True, (1,)],
  "batch_size": [0, -1, 33, 16.0, "16", True],
  "steps": [0, -1, 2**31, 4.5, "4", True],
  "log_every": [0, -1, 1.5, "1", True],
  "eval_every": [0, -1, 1.5, "1", True],
  "checkpoint_every": [0, -1, 1.5, "1", True],
  "validation": [-1, 1.5, "1", True],
  "optimizer": [{"name": "sgd", "learning_rate": 0.1, "warmup": w} for w in (-1, 4, 0.5, "1", True)]
  + [3, {}, {"name": "sgd", "learning_rate": "x"}],
  "online_probe": [1, "yes"],
  "stop_on_collapse": [0, "no"],
  "data": [3, ("digits",)],
  "method": ["SimCLR", 3, {}, {"name": "SimCLR"}],
  "method.encoder": [3, {"name": "mlp", "widths": "x"}],
  "method.views": [3, {"name": "affine_jitter", "shift": "a", "scale": 1.0}],
  "order": [3, {"name": "shufled"}],
}

ARGUMENTS = {"warmup", "widths", "shift"}


@pytest.mark.parametrize(
  ("key", "value"), [(key, value) for key, values in VALUES.items() for value in values]
)
def test_a_value_of_a_config_file_out_of_range_is_one_line(tmp_path, capsys, key, value):
  part = key.removeprefix("method.")
  changes = {key: value} if part == key else {"method": {**tiny.METHOD, part: value}}
  arguments = tiny.written(tmp_path, **changes)
  assert run.main(arguments) == 2
  named = [name for name in (value if isinstance(value, dict) else ()) if name in ARGUMENTS]
  one_line(capsys, *(named or [key]))
  assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("key", ["data", "batch_size", "steps", "method", "optimizer"])
def test_a_config_that_lacks_a_key_is_one_line(tmp_path, capsys, key):
  assert run.main(tiny.written(tmp_path, **{key: None})) == 2
  one_line(capsys, f"the config has no {key!r}; every config needs it")


def test_a_former_flat_config_is_told_where_its_keys_go(tmp_path, capsys):
  assert run.main(tiny.written(tmp_path, encoder={"name": "mlp", "widths": (8,)})) == 2
  one_line(capsys, "move the key to config.method.encoder")


def test_a_former_run_is_one_line(finished, tmp_path, capsys):
  arguments, folder = finished
  shutil.copytree(folder, tmp_path / "run")
  path = tmp_path / "run" / "config.json"
  former = json.loads(path.read_text())
  former |= {"encoder": former["method"].pop("encoder")}
  path.write_text(json.dumps(former))
  for command in (
    lambda: run.main([*arguments[:-1], f"--workdir={tmp_path}/run"]),
    lambda: evaluate.main(["evaluate", f"--workdir={tmp_path}/run"]),
  ):
    assert command() == 2
    one_line(capsys, "is of an older version of contrastax", "train again in another --workdir")


def test_a_run_stores_the_defaults_of_all_its_parts(finished):
  _, folder = finished
  stored = json.loads((folder / "config.json").read_text())
  assert stored["seed"] == 0 and stored["online_probe"] is False
  assert stored["method"]["temperature"] == {"name": "fixed", "temperature": 0.5}
  assert stored["method"]["relation"] == [{"name": "same_example"}]
  assert stored["optimizer"]["weight_decay"] == 0.0


@pytest.mark.parametrize("seed", [-1, 2**32, 2**40, 0.5, "0", True, None])
def test_a_seed_that_is_no_32_bit_integer_is_refused_by_train(tmp_path, seed):
  with pytest.raises(UserError, match="seed must be "):
    train(
      None, None, None, steps=1, seed=seed, workdir=tmp_path / "run", stop=Stop(), mesh=make_mesh()
    )
  assert not (tmp_path / "run").exists()


def test_integers_of_every_kind_are_taken():
  for value in (0, 2**32 - 1, np.int64(3), np.uint32(2**32 - 1), jnp.int32(5)):
    check_seed(value)
  check_integer("steps", np.int8(1), 1, 1)
  for value in (jnp.float32(5), np.bool_(True), np.ones(2, int)):
    with pytest.raises(UserError, match="seed must be an integer"):
      check_seed(value)


def fail(error):
  def command():
    raise error

  return command


SHORTAGES = {
  "Python's": fail(MemoryError()),
  "C++'s": fail(MemoryError("std::bad_alloc")),
  "NumPy's": lambda: np.zeros(2**60, np.uint8),
  "XLA's": lambda: jnp.zeros(2**45, jnp.int8).block_until_ready(),
  "the threads'": fail(RuntimeError("can't start new thread")),
}


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_memory_that_does_not_suffice_is_one_line(capsys, shortage):
  assert commandline.status(SHORTAGES[shortage]) == 2
  one_line(capsys, "out of memory", "lower batch_size")


FILES = {
  "disk": (fail(OSError(28, "No space left on device", "x.json")), "the disk is full"),
  "right": (fail(PermissionError(13, "Permission denied", "x.json")), "x.json: Permission denied"),
  "folder": (lambda: open("/"), "/: Is a directory"),  # noqa: SIM115
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_cannot_be_written_is_one_line(capsys, file):
  command, expected = FILES[file]
  assert commandline.status(command) == 2
  one_line(capsys, expected)


def test_a_run_that_diverged_has_a_status_of_its_own(capsys):
  assert commandline.status(fail(TrainingDiverged("step 3: loss is nan"))) == 3
  one_line(capsys, "step 3: loss is nan")


def test_an_error_of_the_program_is_not_hidden():
  for error in (RuntimeError("shapes"), TypeError("x"), ValueError("x")):
    with pytest.raises(type(error)):
      commandline.status(fail(error))


def test_help_does_not_depend_on_docstrings(monkeypatch, capsys):
  """`python -OO` strips them."""
  for module, name in ((run, "run"), (evaluate, "evaluate")):
    monkeypatch.setattr(module, "__doc__", None)
    assert module.main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    assert "runs/digits_simclr" in printed or "digits_simclr:runlocal" in printed
    assert "Exit status" in printed


@pytest.mark.full
@pytest.mark.parametrize("option", ["-O", "-OO"])
def test_python_without_asserts_and_docstrings(tmp_path, option):
  arguments = tiny.written(tmp_path)[1:]
  for command in (
    ["run", *arguments],
    ["evaluate", arguments[-1]],
    ["run", arguments[0], "--help"],
  ):
    python = [sys.executable, option, "-m", f"experiments.{command[0]}", *command[1:]]
    done = subprocess.run(python, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
