"""Loggers: what they get, how they go on with a resumed run, and that their failure stops nothing.

The libraries are stood in for by modules that write their calls into a file. Tests with the real ones
are skipped where these are not installed.
"""

import importlib.util
import json
import shutil
import sys

import optax
import pytest
import tiny

from contrastax import data, encoders, methods, training, views
from contrastax.core import UserError
from contrastax.experiments import run

CALLS = """
import json
import os

def call(name, *arguments, **keywords):
  with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([name, arguments, keywords], default=str) + "\\n")
"""
FAKES = {
  "wandb.py": """
class Run:
  step = 0

  def log(self, values, step):
    call("log", values, step)

  def finish(self, exit_code):
    call("finish", exit_code == 0)

def init(*, project, name, id, resume, dir, config):
  call("init", project, name, id, config)
  assert resume == "allow"
  return Run()
""",
  "trackio.py": """
class Run:
  def log(self, values, step):
    call("log", values, step)

  def finish(self):
    call("finish", True)

def init(*, project, name, resume, config, embed, auto_log_gpu, auto_log_cpu):
  call("init", project, name.rpartition("-")[0], name.rpartition("-")[2], config)
  assert resume == "allow"
  return Run()
""",
  "mlflow/__init__.py": """
from types import SimpleNamespace as Some

class MlflowClient:
  known = {}

  def get_experiment_by_name(self, name):
    self.project = name
    return None

  def create_experiment(self, name):
    return "7"

  def search_runs(self, experiments, text):
    assert experiments == ["7"] and text.startswith("tags.`contrastax.run` = '")
    return self.known.get(text.split("'")[1], [])

  def create_run(self, experiment, tags, run_name):
    self.name, self.identity = run_name, tags["contrastax.run"]
    self.known[self.identity] = [Some(info=Some(run_id="r1"))]
    return self.known[self.identity][0]

  def log_batch(self, number, metrics=(), params=()):
    assert number == "r1" and len(params) <= 100
    if params:
      call("init", self.project, self.name, self.identity, {p.key: p.value for p in params})
    else:
      (step,) = {m.step for m in metrics}
      call("log", {m.key: m.value for m in metrics}, step)

  def set_terminated(self, number, status):
    if status != "RUNNING":
      call("finish", status == "FINISHED")
""",
  "mlflow/entities.py": """
from collections import namedtuple

Param = namedtuple("Param", "key value")
Metric = namedtuple("Metric", "key value timestamp step")
""",
}
NAMES = ("wandb", "trackio", "mlflow")


@pytest.fixture
def calls(tmp_path, monkeypatch):
  """Stands in for the libraries; returns a function that reads and forgets their calls."""
  folder, path = tmp_path / "libraries", tmp_path / "calls.jsonl"
  (folder / "mlflow").mkdir(parents=True)
  for name, code in FAKES.items():
    (folder / name).write_text(CALLS + code)
  for name in [each for each in sys.modules if each.partition(".")[0] in NAMES]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.syspath_prepend(folder)
  monkeypatch.setenv("CALLS", str(path))
  for name in ("WANDB_PROJECT", "TRACKIO_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
    monkeypatch.delenv(name, raising=False)
  path.touch()

  def read():
    lines = path.read_text().splitlines()
    path.write_text("")
    return [json.loads(line) for line in lines]

  yield read
  for name in [each for each in sys.modules if each.partition(".")[0] in NAMES]:
    del sys.modules[name]


METHOD = methods.SimCLR(
  encoder=encoders.mlp((4,)), projection=encoders.projection((4,), 4), views=views.affine_jitter()
)
CONFIG = {"optimizer.learning_rate": 1e-3, "steps": 4, **{f"key{i}": i for i in range(150)}}


def train(folder, *names):
  """Four steps, with a record of each, an evaluation and a checkpoint after every second."""
  source = data.Resident({"image": tiny.images()}, batch_size=16)
  return training.train(
    METHOD, optax.adamw(1e-3), source, steps=4, workdir=folder / "run", log_every=1, eval_every=2,
    checkpoint_every=2, evaluate=lambda state: {"eval/one": 1.0},
    loggers=training.Loggers(names, CONFIG),
  )  # fmt: skip


def resumed(folder, *names):
  shutil.rmtree(folder / "run" / "checkpoints" / "4")
  return train(folder, *names)


def records(folder):
  lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def logged(calls):
  return [{"step": each[1], **each[0]} for name, each, _ in calls if name == "log"]


@pytest.mark.parametrize("name", NAMES)
def test_it_gets_the_metrics_the_config_and_the_name(name, tmp_path, calls):
  train(tmp_path, name)
  found = calls()
  inits = [each[1] for each in found if each[0] == "init"]
  config = {key: value for *_, part in inits for key, value in part.items()}
  project, title, identity, _ = inits[0]
  assert (project, title) == ("contrastax", "run")
  assert {key: str(value) for key, value in config.items()} == {
    key: str(value) for key, value in CONFIG.items()
  }
  assert logged(found) == records(tmp_path) and len(records(tmp_path)) == 7
  assert found[-1] == ["finish", [True], {}]
  assert json.loads((tmp_path / "run" / "loggers.json").read_text()) == {name: identity}


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_goes_on_in_the_same_run(name, tmp_path, calls):
  train(tmp_path, name)
  first = calls()
  resumed(tmp_path, name)
  again = calls()
  if name != "mlflow":  # there the parameters are not logged again
    assert again[0] == first[0]
  assert {each["step"] for each in logged(again)} == {3, 4}
  assert [each["loss"] for each in logged(again) if "loss" in each] == [
    each["loss"] for each in logged(first) if "loss" in each and each["step"] > 2
  ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("moment", ["init", "log", "finish"])
def test_a_logger_that_fails_is_switched_off(name, moment, tmp_path, calls, capsys):
  file = f"{name}.py" if name != "mlflow" else "mlflow/__init__.py"
  failing = FAKES[file].replace(f'call("{moment}"', 'fail("x"')
  fail = "def fail(*arguments):\n  raise RuntimeError('no\\nroute')\n"
  (tmp_path / "libraries" / file).write_text(CALLS + fail + failing)
  state = train(tmp_path, name)
  printed = capsys.readouterr().out
  assert printed.count(f"the logger {name} has failed and is switched off: no route") == 1
  assert int(state.step) == 4 and len(records(tmp_path)) == 7


def test_one_that_fails_leaves_the_others(tmp_path, calls, capsys):
  file = tmp_path / "libraries" / "wandb.py"
  file.write_text(file.read_text() + "\ndef init(**_):\n  raise OSError('no network')\n")
  train(tmp_path, "wandb", "trackio")
  assert logged(calls()) == records(tmp_path)


def test_a_run_that_is_stopped_is_not_finished(tmp_path, calls):
  class Broken(RuntimeError):
    pass

  def broken(state):
    if int(state.step) == 2:
      raise Broken
    return {}

  source = data.Resident({"image": tiny.images()}, batch_size=16)
  with pytest.raises(Broken):
    training.train(
      METHOD, optax.sgd(0.1), source, steps=4, workdir=tmp_path / "run", log_every=1,
      eval_every=2, evaluate=broken, loggers=training.Loggers(("mlflow",)),
    )  # fmt: skip
  assert calls()[-1] == ["finish", [False], {}]


def test_the_config_names_them_and_they_may_change(tmp_path, calls, monkeypatch):
  monkeypatch.setenv("WANDB_PROJECT", "birds")
  argv = tiny.written(tmp_path)
  assert run.main(argv) == 0 and not calls()
  shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
  assert run.main([*argv, "--config.loggers=('wandb',)"]) == 0
  found = calls()
  project, _, _, config = found[0][1]
  assert project == "birds" and config["optimizer.learning_rate"] == 1e-3
  assert {each["step"] for each in logged(found)} == {3, 4}


def test_a_damaged_file_of_identities_is_set_aside(tmp_path, calls):
  train(tmp_path, "wandb")
  (tmp_path / "run" / "loggers.json").write_text("{")
  resumed(tmp_path, "wandb")
  assert set(json.loads((tmp_path / "run" / "loggers.json").read_text())) == {"wandb"}


def test_a_missing_library_and_an_unknown_logger_are_one_line(tmp_path, capsys, monkeypatch):
  found = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: None if name in NAMES else found(name)
  )
  argv = tiny.written(tmp_path)
  for name in NAMES:
    assert run.main([*argv, f"--config.loggers=('{name}',)"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
      f"error: the logger {name} needs its library, which is not installed; pip install "
      f"'contrastax[{name}]'"
    )
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
  assert run.main([*argv, "--config.loggers=('wandbb',)"]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: config.loggers[0] must be 'wandb' or 'trackio' or 'mlflow', not")
  with pytest.raises(
    UserError, match="there is no logger 'board'; there are: wandb, trackio, mlfl"
  ):
    training.Loggers(("board",))


@pytest.mark.parametrize("name", NAMES)
def test_the_real_library(name, tmp_path, monkeypatch, capfd):
  pytest.importorskip(name)
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
  monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
  train(tmp_path, name)
  resumed(tmp_path, name)
  printed = capfd.readouterr()
  assert "has failed" not in printed.out + printed.err
  if name == "mlflow":
    from mlflow import MlflowClient

    client = MlflowClient()
    number = client.get_experiment_by_name("contrastax").experiment_id
    (found,) = client.search_runs([number])
    assert found.info.run_name == "run" and found.info.status == "FINISHED"
    assert found.data.params["optimizer.learning_rate"] == "0.001"
    losses = {
      each.step: each.value for each in client.get_metric_history(found.info.run_id, "loss")
    }
    assert losses == {each["step"]: each["loss"] for each in records(tmp_path) if "loss" in each}
