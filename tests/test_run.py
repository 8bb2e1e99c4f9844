"""One experiment as its user runs it: from the command line, to the end or stopped on the way."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import contrastax
from contrastax import data
from contrastax.experiments.run import main

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "digits_simclr.py"


def command(*arguments):
  return [sys.executable, "-m", "experiments.run", *map(str, arguments)]


def finish(*arguments, cwd=ROOT, code=0, env=None):
  """Runs a command to its end and returns what it printed."""
  done = subprocess.run(
    command(*arguments), cwd=cwd, capture_output=True, text=True, env={**os.environ, **(env or {})}
  )
  assert done.returncode == code, done.stdout + done.stderr
  return done.stdout + done.stderr


def start(*arguments, env=None):
  return subprocess.Popen(
    command(*arguments),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env={**os.environ, **(env or {})},
  )


def wait_for(happened, process):
  while not happened():
    assert process.poll() is None, process.stdout.read()
    time.sleep(0.002)


def arguments(workdir, steps=40):
  return [
    f"--config={CONFIG}:runlocal", f"--workdir={workdir}",
    f"--config.steps={steps}", "--config.checkpoint_every=4", "--config.eval_every=20",
  ]  # fmt: skip


def steps_of(workdir):
  folder = workdir / "checkpoints"
  return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())


def arrays(workdir):
  """Every array of the newest checkpoint, by path."""
  newest = workdir / "checkpoints" / str(steps_of(workdir)[-1])
  tree = ocp.PyTreeCheckpointer().restore(newest)
  return {jax.tree_util.keystr(p): np.asarray(v) for p, v in jax.tree.leaves_with_path(tree)}


def summary(workdir):
  found = json.loads((workdir / "summary.json").read_text())
  return {k: v for k, v in found.items() if "time" not in k and "sec" not in k}


def metrics(workdir):
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [{k: v for k, v in line.items() if "images_per" not in k} for line in lines]


def assert_same_run(workdir, reference):
  ours, theirs = arrays(workdir), arrays(reference)
  assert ours.keys() == theirs.keys()
  for name, values in theirs.items():
    np.testing.assert_array_equal(ours[name], values, err_msg=name)
  assert any("mean" in name for name in ours) and any("opt_state" in name for name in ours)
  assert summary(workdir) == summary(reference)
  assert metrics(workdir) == metrics(reference)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
  """The environment of a command that keeps its compiled programs."""
  home = tmp_path_factory.mktemp("cache")
  return {"JAX_ENABLE_COMPILATION_CACHE": "true", "XDG_CACHE_HOME": str(home)}


@pytest.fixture(scope="module")
def reference(tmp_path_factory, kept):
  """A run that nothing interrupted, and which compiled and kept all its programs."""
  workdir = tmp_path_factory.mktemp("reference") / "run"
  printed = finish(*arguments(workdir), env=kept)
  assert printed.splitlines()[0].startswith("devices: ")
  return workdir


def test_what_stands_at_the_end(reference):
  table = json.loads((reference / "summary.json").read_text())["table"]
  assert list(table) == ["raw", "untrained", "trained"]
  for row in table.values():
    assert list(row) == ["knn", "linear_1", "linear_5", "linear"]
    assert all(0 < value <= 1 for value in row.values())
  assert table["trained"]["linear_1"] > table["untrained"]["linear_1"] + 0.1
  assert (reference / "figures" / "learning_curves.png").stat().st_size > 10_000
  assert (reference / "figures" / "map.png").stat().st_size > 10_000
  assert list((reference / "tensorboard").iterdir())
  (first,) = json.loads((reference / "run.json").read_text())
  assert first["versions"]["jax"] and first["devices"] and "experiments.run" in first["command"]


def test_a_run_with_kept_programs_is_the_same(reference, kept, tmp_path):
  """The reference compiled them itself."""
  before = sorted(pathlib.Path(kept["XDG_CACHE_HOME"]).rglob("*-cache"))
  assert len(before) > 10
  printed = finish(*arguments(tmp_path / "run"), env=kept)
  assert sorted(pathlib.Path(kept["XDG_CACHE_HOME"]).rglob("*-cache")) == before
  assert_same_run(tmp_path / "run", reference)
  lines = printed.splitlines()
  assert "evaluating: kNN, linear probes and geometry of 500 test examples" in lines
  assert any(line.startswith("figures: ") for line in lines)


def test_load_gives_the_encoder_of_the_run(reference):
  encode = contrastax.load(reference)
  images = data.load("digits").test["image"]
  z = encode(images)
  assert z.shape == (500, 128) and z.dtype == np.float32
  as_float = encode(images[:3] / np.float32(255))
  np.testing.assert_allclose(encode(images[:3]), as_float, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(encode(images, batch_size=7), z, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match=r"takes images \[n, 8, 8, 1\], not \[2, 28, 28, 1\]"):
    encode(np.zeros((2, 28, 28, 1)))


def test_load_of_no_run(tmp_path):
  with pytest.raises(contrastax.UserError, match="holds no run: it has no encoder.json"):
    contrastax.load(tmp_path)
  with pytest.raises(contrastax.UserError, match="there is no folder .*none; give the folder of a"):
    contrastax.load(tmp_path / "none")


def test_killed_and_stopped_runs_end_as_the_uninterrupted_one(reference, kept, tmp_path, capsys):
  """SIGKILL within an asynchronous save, then SIGTERM at another step, then to the end."""
  workdir = tmp_path / "run"
  process = start(*arguments(workdir), env=kept)
  wait_for(lambda: list(workdir.glob("checkpoints/8.orbax-checkpoint-tmp*")), process)
  process.kill()
  process.wait()
  assert max(steps_of(workdir), default=0) <= 8

  process = start(*arguments(workdir), env=kept)
  wait_for(lambda: 12 in steps_of(workdir), process)
  process.send_signal(signal.SIGTERM)
  printed = process.communicate()[0]
  assert process.returncode == 143, printed
  assert printed.splitlines()[-1].startswith("python -m experiments.run --config=")
  assert 12 <= steps_of(workdir)[-1] < 40

  printed = finish(*arguments(workdir), env=kept)
  assert "resuming from checkpoint" in printed
  assert_same_run(workdir, reference)

  (workdir / "summary.json").unlink()
  assert main(["run", *arguments(workdir)]) == 0
  assert "finished" in capsys.readouterr().out
  assert summary(workdir) == summary(reference)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(6))
def test_kills_anywhere(reference, tmp_path, seed):
  """Three kills at arbitrary moments, the first signal of every second run a SIGINT."""
  rng = random.Random(seed)
  workdir = tmp_path / "run"
  for attempt in range(3):
    before = steps_of(workdir)
    process = start(*arguments(workdir))
    while steps_of(workdir) == before and process.poll() is None:
      time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.3))
    gentle = attempt == 0 and seed % 2
    process.send_signal(signal.SIGINT if gentle else signal.SIGKILL)
    process.communicate()
    assert process.returncode in ((130, 0) if gentle else (-9, 0))
  finish(*arguments(workdir))
  assert_same_run(workdir, reference)


def damage_truncated(folder):
  file = largest(folder)
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damage_half_written(folder):
  (folder / "checksums.json").unlink()
  largest(folder).unlink()


def damage_bit(folder, rng):
  file = largest(folder)
  content = bytearray(file.read_bytes())
  content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  file.write_bytes(content)


def largest(folder):
  return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.full
@pytest.mark.parametrize("damage", [damage_truncated, damage_half_written])
def test_a_damaged_newest_checkpoint_is_said_and_not_used(reference, tmp_path, damage):
  workdir = tmp_path / "run"
  shutil.copytree(reference, workdir)
  damage(workdir / "checkpoints" / "40")
  printed = finish(*arguments(workdir))
  assert "checksum" in printed or "incomplete" in printed
  assert "resuming from checkpoint 36" in printed
  assert_same_run(workdir, reference)


@pytest.mark.full
def test_flipped_bits_are_said_and_not_used(reference, tmp_path, capsys):
  """At 20 random places of the newest checkpoint's largest file; each run ends as it should."""
  rng = random.Random(0)
  for place in range(20):
    workdir = tmp_path / str(place)
    shutil.copytree(reference, workdir)
    (workdir / "summary.json").unlink()
    damage_bit(workdir / "checkpoints" / "40", rng)
    assert main(["run", *arguments(workdir)]) == 0
    printed = capsys.readouterr().out
    assert "checkpoint 40 is not used: the checksum of" in printed
    assert "resuming from checkpoint 36" in printed
    assert_same_run(workdir, reference)
    shutil.rmtree(workdir)


@pytest.mark.full
def test_a_finished_run_can_be_trained_further_but_not_changed(reference, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(reference, workdir)
  printed = finish(*arguments(workdir), "--config.seed=1", code=2)
  assert "seed: 0 → 1" in printed
  assert "beyond steps = 30" in finish(*arguments(workdir, steps=30), code=2)
  finish(*arguments(workdir, steps=44))
  assert json.loads((workdir / "summary.json").read_text())["steps"] == 44


@pytest.mark.full
def test_a_run_of_a_version_without_a_key_is_resumed(reference, tmp_path):
  """The key has its default in such a run, and other values are another config."""
  shutil.copytree(reference, tmp_path / "run")
  path = tmp_path / "run" / "config.json"
  config = json.loads(path.read_text())
  for part, key in ((config["optimizer"], "rules"), (config, "validation")):
    del part[key]
  path.write_text(json.dumps(config))
  assert main(["run", *arguments(tmp_path / "run")]) == 0
  path.write_text(json.dumps(config))
  assert main(["run", *arguments(tmp_path / "run"), "--config.validation=9"]) == 2


def test_a_full_disk_stops_the_run_and_the_earlier_checkpoint_stands(tmp_path):
  mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1900k", "tmpfs", str(tmp_path)])
  if mounted.returncode:
    pytest.skip("no right to mount a small disk")
  try:
    printed = finish(*arguments(tmp_path / "run"), code=2)
    assert "Traceback" not in printed
    assert "the disk is full" in printed.splitlines()[-1]
    assert steps_of(tmp_path / "run") == [0]
    remount = ["mount", "-o", "remount,size=40m", str(tmp_path)]
    subprocess.run(remount, check=True)
    finish(*arguments(tmp_path / "run", steps=8))
    assert steps_of(tmp_path / "run")[-1] == 8
  finally:
    subprocess.run(["umount", str(tmp_path)], check=True)
