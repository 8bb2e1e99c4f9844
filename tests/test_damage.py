"""A damaged, truncated or foreign file in a run's folder is one line, or harmless; no checkpoint is lost."""

import json
import shutil

import pytest
import tiny

import contrastax
from contrastax.core import UserError
from contrastax.experiments import commandline, evaluate, run
from contrastax.experiments.workdir import Workdir
from contrastax.files import read_json, read_records, unfinished_of, write_json


def flipped(path, bit):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= bit
  path.write_bytes(content)


def directory(path):
  path.unlink()
  path.mkdir()
  (path / "file").write_text("")


DAMAGES = {
  "high bit": lambda path: flipped(path, 0x80),
  "low bit": lambda path: flipped(path, 0x01),
  "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
  "empty": lambda path: path.write_bytes(b""),
  "[]": lambda path: path.write_text("[]"),
  "{}": lambda path: path.write_text("{}"),
  "not UTF-8": lambda path: path.write_bytes(b'{"\xff\xfe": 1}\n'),
  "directory": directory,
}
# What the three commands return for damaged files. A flipped low bit may leave a valid file.
CODES = {
  ("config.json",): {"resume": 2, "load": 0, "evaluate": 2},
  ("encoder.json",): {"resume": 0, "load": 2, "evaluate": 2},
  ("run.json", "metrics.jsonl", "evaluation.json", "report.html"): {
    "resume": 0,
    "load": 0,
    "evaluate": 0,
  },
  ("summary.json",): {"resume": 0, "load": 0, "evaluate": 0},
}
FOLDERS = {"checkpoints", "tensorboard", "figures"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """(Arguments, folder) of a finished and evaluated run."""
  folder = tmp_path_factory.mktemp("finished")
  arguments = tiny.written(folder)
  assert run.main(arguments) == 0
  assert evaluate.main(["evaluate", f"--workdir={folder}/run"]) == 0
  return arguments, folder / "run"


@pytest.fixture
def copy(finished, tmp_path):
  """(Arguments, folder) of a copy of the finished run."""
  arguments, folder = finished
  shutil.copytree(folder, tmp_path / "run")
  return [*arguments[:-1], f"--workdir={tmp_path}/run"], tmp_path / "run"


def contents(folder):
  return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def code(action, arguments, workdir):
  if action == "resume":
    return run.main(arguments)
  if action == "evaluate":
    return evaluate.main(["evaluate", f"--workdir={workdir}"])
  try:
    assert contrastax.load(workdir).step == 4
  except UserError as error:
    assert "\n" not in str(error)
    return 2
  return 0


def test_every_file_of_a_run_is_in_the_table(finished):
  _, folder = finished
  names = {p.name for p in folder.iterdir() if not p.name.startswith(".")}
  assert names == {name for names in CODES for name in names} | FOLDERS
  assert all((folder / name).is_dir() for name in FOLDERS)


def cases():
  for damage in DAMAGES:
    for names, codes in CODES.items():
      for action in codes:
        slow = names == ("summary.json",) and action != "load" and damage != "truncated"  # seconds
        name = f"{damage}, {names[0]}, {action}"
        yield pytest.param(names, damage, action, id=name, marks=[pytest.mark.full] * slow)


@pytest.mark.parametrize(("names", "damage", "action"), [*cases()])
def test_a_damaged_file_is_one_line_or_harmless(copy, capsys, names, damage, action):
  arguments, workdir = copy
  for name in names:
    DAMAGES[damage](workdir / name)
  before = contents(workdir)
  found, printed = code(action, arguments, workdir), capsys.readouterr()
  assert found == CODES[names][action] or (damage == "low bit" and found in (0, 2))
  assert contents(workdir / "checkpoints") == {
    path.relative_to("checkpoints"): content
    for path, content in before.items()
    if path.parts[0] == "checkpoints"
  }
  if found == 0:
    assert printed.err == ""
  else:
    assert contents(workdir) == before
    if action != "load":
      assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
      assert damage == "low bit" or names[0] in printed.err
  if action == "resume" and found == 0:  # what it wrote is whole
    assert read_json(workdir / "run.json", list)
    assert read_records(workdir / "metrics.jsonl")[1] == 0
    assert read_json(workdir / "summary.json", dict)["steps"] == 4
    assert contrastax.load(workdir).step == 4


def test_a_damaged_run_trains_on(copy, capsys):
  """Nothing but config.json and the checkpoints is an input of a run."""
  arguments, workdir = copy
  records, _ = read_records(workdir / "metrics.jsonl")
  for name in ("run.json", "summary.json", "encoder.json", "evaluation.json"):
    DAMAGES["high bit"](workdir / name)
  with open(workdir / "metrics.jsonl", "ab") as file:
    file.write(b'{"step": 4, "loss": "\xff"}\n[]\n{"step": 4, "lo')
  for name in ("tensorboard", "figures"):
    shutil.rmtree(workdir / name)
    (workdir / name).write_text("a file")
  (workdir / "checkpoints" / "999").write_text("a file")
  (workdir / "checkpoints" / "²").mkdir()
  assert run.main([*arguments, "--config.steps=6"]) == 0
  printed = capsys.readouterr().out
  assert "metrics.jsonl: 2 damaged lines dropped" in printed
  assert "summary.json.damaged" in printed and "run.json.damaged" in printed
  assert read_records(workdir / "metrics.jsonl")[0][: len(records)] == records
  assert read_json(workdir / "summary.json", dict)["steps"] == 6
  assert contrastax.load(workdir).step == 6


def test_what_a_kill_leaves_of_the_first_file_is_no_foreign_file(finished, tmp_path, capsys):
  arguments, _ = finished
  workdir = tmp_path / "run"
  workdir.mkdir()
  unfinished_of(workdir / "config.json").write_text("{")
  with Workdir(workdir, commandline.parse(arguments, "").config, arguments) as held:
    held.accept()
  assert sorted(p.name for p in workdir.iterdir()) == [".lock", "config.json", "run.json"]


UNREADABLE = {
  "deep": "[" * 100_000,
  "wrong type": "3",
  "long number": "[" + "9" * 5000 + "]",
}


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_no_such_json_is_one_line(tmp_path, text):
  path = tmp_path / "value.json"
  path.write_text(UNREADABLE[text])
  with pytest.raises(UserError, match="value.json cannot be read: it "):
    read_json(path, list)


REST = {"network": "encoder", "inputs": {"shape": [6, 6, 1], "dtype": "uint8"}}
MLP = {"encoder": {"name": "mlp", "widths": [8]}, "network": "encoder"}
VECTOR = {"shape": [], "dtype": "float32"}
ENCODERS = {
  "no encoder": {"encoder": None, **REST},
  "another": {"encoder": {"name": "mlpp"}, **REST},
  "argument": {"encoder": {"name": "mlp", "widths": "x"}, **REST},
  "a function of code": {"encoder": {"name": "from_linen", "module": 3}, **REST},
  "of nothing": {"encoder": {"name": "chunked", "encoder": 3, "n": 2}, **REST},
  "a file": {"encoder": {"name": "pretrained", "encoder": 3, "path": 4}, **REST},
  "no inputs": {"encoder": {"name": "mlp", "widths": [8]}, "network": "encoder"},
  "no network": {"encoder": {"name": "mlp", "widths": [8]}, "inputs": REST["inputs"]},
  "another network": {"encoder": {"name": "mlp", "widths": [8]}, **REST, "network": "projection"},
  "shape of text": {**MLP, "inputs": {"shape": ["a"], "dtype": "uint8"}},
  "no type": {**MLP, "inputs": {"shape": [6, 6, 1], "dtype": "uint9"}},
  "shape of another rank": {**MLP, "encoder": {"name": "convnet", "widths": [8]}, "inputs": VECTOR},
  "before 0.2": {"encoder": {"name": "mlp", "widths": [8]}, "image_shape": [6, 6, 1]},
  "other widths": {"encoder": {"name": "mlp", "widths": [9]}, **REST},
}


@pytest.mark.parametrize("described", ENCODERS)
def test_an_encoder_that_is_not_the_runs_is_one_line(copy, described):
  _, workdir = copy
  write_json(workdir / "encoder.json", ENCODERS[described])
  with pytest.raises(UserError) as error:
    contrastax.load(workdir)
  assert "\n" not in str(error.value) and str(workdir) in str(error.value)


def test_writing_is_all_or_nothing(tmp_path):
  path = tmp_path / "value.json"
  write_json(path, {"loss": float("nan"), "steps": 3})
  assert json.loads(path.read_text()) == {"loss": None, "steps": 3}
  with pytest.raises(TypeError):
    write_json(path, {"steps": object()})
  with pytest.raises(OSError):
    write_json(tmp_path / "none" / "value.json", {})
  assert [p.name for p in tmp_path.iterdir()] == ["value.json"]
  assert json.loads(path.read_text())["steps"] == 3
