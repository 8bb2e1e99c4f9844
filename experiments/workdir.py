"""The folder of a run: whose it is, and what was run."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import time

import jax
from ml_collections import ConfigDict

from contrastax.core import UserError
from experiments.commandline import again, flat

MAY_CHANGE = {"steps", "log_every", "eval_every", "checkpoint_every"}
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")


class Workdir:
  """A run's folder, held by one process at a time.

  On entry it is made, or recognised as this config's; raises UserError where it is
  another run's, in use, not a folder or not writable.
  """

  def __init__(self, path: pathlib.Path, config, argv: list[str]):
    self.path, self._config, self._argv = path, config, argv

  def __enter__(self) -> pathlib.Path:
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      found = [p.name for p in self.path.iterdir() if p.name != ".lock"]
      if found and "config.json" not in found:
        raise UserError(
          f"workdir {self.path} is no run's: it holds {found[0]}; choose another --workdir"
        )
      self._lock = open(self.path / ".lock", "w")
    except (FileExistsError, NotADirectoryError):
      raise UserError(f"workdir {self.path} is a file; choose another --workdir") from None
    except OSError as error:
      raise UserError(
        f"workdir {self.path} cannot be written: {error.strerror}; choose another --workdir"
      ) from None
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(f"workdir {self.path} is in use by another process") from None
    self._claim()
    return self.path

  def __exit__(self, *_):
    self._lock.close()

  def _claim(self):
    now = json.loads(self._config.to_json())
    before = self.path / "config.json"
    if before.exists():
      _compare(json.loads(before.read_text()), now, self.path)
    write_json(before, now)
    starts = self.path / "run.json"
    history = json.loads(starts.read_text()) if starts.exists() else []
    write_json(starts, [*history, circumstances(again(self._argv))])


def config_of(workdir: pathlib.Path) -> ConfigDict:
  """The config of the run in a folder; raises UserError where there is none."""
  try:
    return ConfigDict(json.loads((workdir / "config.json").read_text()))
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(f"{workdir} holds no run: it has no config.json") from None


def write_json(path: pathlib.Path, value) -> None:
  """All of it or nothing; what is no number becomes null, as JSON has no NaN."""
  value = json.loads(json.dumps(value), parse_constant=lambda name: None)
  unfinished = path.with_suffix(".tmp")
  unfinished.write_text(json.dumps(value, indent=1) + "\n")
  unfinished.replace(path)


def _compare(before, now, path):
  before, now = flat(before), flat(now)
  keys = sorted((before.keys() | now.keys()) - MAY_CHANGE)
  other = [
    f"{key}: {before.get(key)!r} → {now.get(key)!r}"
    for key in keys
    if before.get(key) != now.get(key)
  ]
  if other:
    raise UserError(
      f"workdir {path} holds a run of another config ({'; '.join(other)}); "
      "choose another --workdir, or give the run's own values"
    )


def circumstances(command: str) -> dict:
  """What a result depends on besides its config: versions, devices, machine, commit."""
  git = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
  try:
    commit = (
      subprocess.run(
        git, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True, timeout=10
      ).stdout.strip()
      or None
    )
  except (OSError, subprocess.TimeoutExpired):
    commit = None
  return {
    "command": command,
    "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    "commit": commit,
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    "devices": [str(device) for device in jax.devices()],
    "machine": f"{platform.platform()}, {os.cpu_count()} cores, {_processor()}",
  }


def _processor():
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return platform.processor()
  names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
  return next(names, platform.processor())
