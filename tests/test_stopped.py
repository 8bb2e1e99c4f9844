"""A run that is stopped or killed goes on as if nothing had happened, and its records are not doubled."""

import ast
import inspect
import json
import os
import pathlib
import signal
import struct
import warnings

import numpy as np
import pytest
import tiny
from tensorboardX.proto.event_pb2 import Event, SessionLog

from contrastax import reporting
from contrastax.experiments import report, run
from contrastax.experiments.figures import figure
from contrastax.files import read_json, read_records
from contrastax.training import Checkpoints, Interrupted, Stop
from contrastax.training.log import Log, cut

ROOT = pathlib.Path(__file__).parent.parent
SIGNALS = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}


def asked(*names):
  for name in names:
    os.kill(os.getpid(), signal.Signals[name])


@pytest.mark.parametrize("name", SIGNALS)
def test_each_signal_waits_for_a_safe_place_and_gives_its_code(name):
  before = signal.getsignal(signal.Signals[name])
  with pytest.raises(Interrupted) as stopped, Stop() as stop, stop.deferred():
    assert not stop
    asked(name)
    assert stop
  assert stopped.value.code == SIGNALS[name]
  assert signal.getsignal(signal.Signals[name]) == before


@pytest.mark.parametrize("first", SIGNALS)
def test_a_terminal_that_is_closed_may_send_more_than_one_signal(first):
  with pytest.raises(Interrupted) as stopped, Stop() as stop, stop.deferred():
    asked(first, "SIGHUP", "SIGHUP")
  assert stopped.value.code == SIGNALS[first]
  assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_nohup_is_respected():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with Stop() as stop:
      asked("SIGHUP")
      assert not stop
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)


def events(folder):
  """[(step, tag)] that TensorBoard shows: a start of a session drops what is of its step and later."""
  shown = []
  for path in sorted(folder.iterdir()):
    content, place = path.read_bytes(), 0
    while place < len(content):
      (length,) = struct.unpack_from("<Q", content, place)
      event = Event.FromString(content[place + 12 : place + 12 + length])
      place += 16 + length
      if event.HasField("session_log") and event.session_log.status == SessionLog.START:
        shown = [(step, tag) for step, tag in shown if step < event.step]
      shown += [(event.step, value.tag) for value in event.summary.value]
  return shown


def assert_each_once(workdir):
  steps = [(r["step"], "loss" in r) for r in read_records(workdir / "metrics.jsonl")[0]]
  assert len(steps) == len(set(steps)) == 7  # evaluations at 0, 2 and 4, and 4 steps
  shown = events(workdir / "tensorboard")
  assert len(shown) == len(set(shown)) > 0


def test_a_hangup_saves_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
  arguments, progress = tiny.written(tmp_path), report.progress

  def hung_up(config, parts, state):
    if state.step == 2:
      asked("SIGHUP", "SIGHUP")
    return progress(config, parts, state)

  with monkeypatch.context() as patch:
    patch.setattr(report, "progress", hung_up)
    assert run.main(arguments) == 129
  assert "SIGHUP: stopped; to resume:" in capsys.readouterr().out
  assert Checkpoints(tmp_path / "run" / "checkpoints").newest_intact() == 3  # after one more step
  assert run.main(arguments) == 0
  assert "resuming from checkpoint 3" in capsys.readouterr().out
  assert_each_once(tmp_path / "run")


class Killed(BaseException):
  """Stands for SIGKILL: nothing of the program catches it."""


@pytest.mark.parametrize("step", [0, 2])
def test_a_run_that_is_killed_before_a_checkpoint_is_whole_has_each_record_once(
  tmp_path, monkeypatch, step
):
  arguments, save = tiny.written(tmp_path), Checkpoints.save

  def killed(self, at, tree):
    if at == step:
      raise Killed
    save(self, at, tree)

  with monkeypatch.context() as patch:
    patch.setattr(Checkpoints, "save", killed)
    with pytest.raises(Killed):
      run.main(arguments)
  assert {r["step"] for r in read_records(tmp_path / "run" / "metrics.jsonl")[0]} >= {step}
  assert run.main(arguments) == 0
  assert_each_once(tmp_path / "run")


def test_records_are_on_disk_before_their_checkpoint_begins(tmp_path, monkeypatch):
  save, seen = Checkpoints.save, {}

  def watched(self, step, tree):
    seen[step] = {r["step"] for r in read_records(tmp_path / "run" / "metrics.jsonl")[0]}
    save(self, step, tree)

  monkeypatch.setattr(Checkpoints, "save", watched)
  assert run.main(tiny.written(tmp_path)) == 0
  assert seen == {0: {0}, 2: {0, 1, 2}, 4: {0, 1, 2, 3, 4}}


LINES = [{"step": 0, "eval/knn": 0.5}, {"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
JUNK = ["", "{", "[]", "3", '{"loss": 1.0}', '{"step": "1"}', '{"step": 1, "loss": "x"}', "\x00"]


@pytest.mark.parametrize("step", [None, 0, 1, 2])
def test_cut_keeps_what_was_saved(tmp_path, capsys, step):
  path = tmp_path / "metrics.jsonl"
  path.write_text("".join(f"{text}\n" for text in [*map(json.dumps, LINES), *JUNK]) + '{"step": 0')
  cut(path, step)
  assert read_records(path) == ([r for r in LINES if step is not None and r["step"] <= step], 0)
  assert f"{len(JUNK)} damaged lines dropped" in capsys.readouterr().out
  cut(path, step)
  assert capsys.readouterr().out == ""


def test_a_line_that_a_kill_cut_short_is_dropped_silently(tmp_path, capsys):
  path = tmp_path / "metrics.jsonl"
  path.write_text(json.dumps(LINES[0]) + '\n{"step": 1, "lo')
  cut(path, 5)
  assert read_records(path) == (LINES[:1], 0) and capsys.readouterr().out == ""


def test_a_closed_terminal_does_not_stop_the_log(tmp_path, monkeypatch):
  def closed(*_, **__):
    raise OSError(5, "Input/output error")

  log = Log(tmp_path, restored=None, steps=2, batch_size=4, every=1)
  monkeypatch.setattr("sys.stdout.write", closed)
  log.add(1, {"loss": 1.0})
  log.add(2, {"loss": 1.0})
  with log.aside():
    pass
  log.close()
  assert [r["step"] for r in read_records(tmp_path / "metrics.jsonl")[0]] == [1, 2]


def public(module):
  return {n for n, f in vars(module).items() if inspect.isfunction(f) and not n.startswith("_")}


def guarded(tree):
  """The names of reporting's functions that are called inside `with figure(…)`, and outside."""
  inside, everywhere = set(), set()
  for node in ast.walk(tree):
    if isinstance(node, ast.With) and ast.unparse(node.items[0].context_expr).startswith("figure("):
      inside |= {id(each) for each in ast.walk(node)}
  calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
  names = {id(n): ast.unparse(n.func) for n in calls}
  everywhere = {i: n.removeprefix("reporting.") for i, n in names.items() if "reporting." in n}
  drawn = {i: n for i, n in everywhere.items() if n in public(reporting)}
  return {n for i, n in drawn.items() if i in inside}, {
    n for i, n in drawn.items() if i not in inside
  }


def test_every_figure_of_a_run_is_drawn_in_the_guard():
  trees = [
    ast.parse(path.read_text()) for path in (ROOT / "contrastax" / "experiments").glob("*.py")
  ]
  inside, outside = (set().union(*found) for found in zip(*map(guarded, trees), strict=True))
  assert inside == public(reporting) and not outside


def test_a_run_whose_figures_all_fail_has_its_summary(tmp_path, monkeypatch, capsys):
  def fails(*_, **__):
    raise ValueError("no\nfigure")

  for name in public(reporting):
    monkeypatch.setattr(reporting, name, fails)
  arguments = tiny.written(tmp_path)
  assert run.main(arguments) == 0
  printed = capsys.readouterr().out
  for name in ("learning_curves", "map", "negatives", "nearest_negatives", "temperatures"):
    assert f"warning: figure {name}.png could not be drawn: no figure\n" in printed
  summary = read_json(tmp_path / "run" / "summary.json", dict)
  assert summary["steps"] == 4 and summary["negatives"] and summary["figures"] == []


def test_a_process_that_ends_in_a_figure_leaves_the_summary_and_a_report_to_complete(
  tmp_path, monkeypatch
):
  def crashes(*_, **__):
    raise Killed

  arguments = tiny.written(tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(reporting, "space_map", crashes)
    with pytest.raises(Killed):
      run.main(arguments)
  first = read_json(tmp_path / "run" / "summary.json", dict)
  assert first["steps"] == 4 and not report.is_finished(tmp_path / "run", 4)
  assert run.main(arguments) == 0
  assert report.is_finished(tmp_path / "run", 4)
  second = read_json(tmp_path / "run" / "summary.json", dict)
  assert "map.png" in second.pop("figures")
  assert {**second, "train_seconds": 0} == {**first, "train_seconds": 0}


def test_a_figure_that_fails_leaves_no_half_of_it_and_stops_at_a_signal(tmp_path, capsys):
  with figure(tmp_path / "map.png") as path:
    path.write_bytes(b"half")
    raise KeyError("x")
  assert not (tmp_path / "map.png").exists()
  assert capsys.readouterr().out == "warning: figure map.png could not be drawn: 'x'\n"
  with pytest.raises(Interrupted), figure(tmp_path / "map.png"):
    raise Interrupted(signal.SIGTERM)


def test_a_character_that_the_font_lacks_is_no_warning(tmp_path, capsys):
  images, each = np.zeros((2, 4, 4, 1), np.uint8), np.array([0.1, 0.2])
  path, names = tmp_path / "extreme.png", ("貓", "chien à l'île")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    with figure(path):
      reporting.extreme_temperatures(images, each, path, names=names)
    assert path.stat().st_size > 1000 and capsys.readouterr().out == ""
    with pytest.raises(UserWarning, match="Glyph"):
      reporting.extreme_temperatures(images, each, path, names=names)
