"""The folder of a run: whose it is, and what was run."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import time

import jax
from ml_collections import ConfigDict

import contrastax
from contrastax.core import UserError
from contrastax.experiments.commandline import format_command
from contrastax.experiments.schema import flat, is_flat
from contrastax.files import read_json, replace_damaged, unfinished_of, write_json

MAY_CHANGE = {"steps", "log_every", "eval_every", "checkpoint_every"}
COPY = "put a copy back, such as the one that the same command writes into another --workdir"
SHOWN = 5  # differences from another config that an error lists
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")


class Workdir:
  """A run's folder, held by one process at a time.

  On entry the folder is made, or recognized as this config's run. `accept` then writes the files
  that say what is run; a command that is refused before leaves them as they were.

  Raises UserError on entry where the folder is another run's, in use, not a folder, not writable or
  where its config.json is damaged.
  """

  def __init__(self, path: pathlib.Path, config: ConfigDict, argv: list[str]):
    self.path, self._argv = path, argv
    self._config = json.loads(json.dumps(_finite(config.to_dict())))

  def __enter__(self) -> Workdir:
    config = self.path / "config.json"
    ours = {".lock", unfinished_of(config).name}
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      found = [p.name for p in self.path.iterdir() if p.name not in ours]
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
      if config.exists():
        _compare(_config_json(self.path), self._config, self.path)
    except BlockingIOError:
      self._lock.close()
      raise UserError(f"workdir {self.path} is in use by another process") from None
    except UserError:
      self._lock.close()
      raise
    return self

  def __exit__(self, *_):
    self._lock.close()

  def accept(self) -> None:
    """Writes config.json, and adds this process to run.json; sets aside a damaged run.json."""
    write_json(self.path / "config.json", self._config)
    starts = self.path / "run.json"
    try:
      history = read_json(starts, list)
    except FileNotFoundError:
      history = []
    except UserError as error:
      replace_damaged(starts, str(error))
      history = []
    write_json(starts, [*history, circumstances(format_command(self._argv))])


def config_of(workdir: pathlib.Path) -> ConfigDict:
  """The config of the run in a folder; raises UserError where there is none, or a damaged one."""
  try:
    return ConfigDict(_config_json(workdir))
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(f"{workdir} holds no run: it has no config.json") from None
  except UserError:
    raise
  except (TypeError, ValueError) as error:  # a key that no config can have
    raise UserError(f"{workdir}/config.json is damaged: {error}; {COPY}") from None


def _config_json(workdir):
  path = workdir / "config.json"
  try:
    found = read_json(path, dict)
  except UserError as error:
    raise UserError(f"{error}; {COPY}") from None
  if not found:
    raise UserError(f"{path} is damaged: it is empty; {COPY}")
  if is_flat(found):
    raise UserError(
      f"{path} is of an older version of contrastax, whose checkpoints this version cannot read; "
      "train again in another --workdir"
    )
  return found


def _finite(value):
  """The value with infinite numbers as strings, which JSON can hold."""
  if isinstance(value, dict):
    return {key: _finite(each) for key, each in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(each) for each in value]
  return str(value) if isinstance(value, float) and math.isinf(value) else value


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
      f"workdir {path} holds a run of another config ({'; '.join(other[:SHOWN])}"
      f"{f'; {len(other) - SHOWN} more' if len(other) > SHOWN else ''}); "
      "choose another --workdir, or give the run's own values"
    )


def circumstances(command: str) -> dict:
  """What a result depends on besides its config: versions, devices, machine, commit."""
  return {
    "command": command,
    "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    "contrastax": contrastax.__version__,
    "commit": _commit(),
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    "devices": [str(device) for device in jax.devices()],
    "machine": f"{platform.platform()}, {os.cpu_count()} cores, {_processor()}",
  }


def _commit() -> str | None:
  """The commit of the checkout that this file belongs to; None for an installed package."""
  here = pathlib.Path(__file__)

  def git(*arguments: str) -> str | None:
    try:
      done = subprocess.run(
        ["git", *arguments], cwd=here.parent, capture_output=True, text=True, timeout=10
      )
    except (OSError, subprocess.TimeoutExpired):
      return None
    return done.stdout.strip() if done.returncode == 0 else None

  # A package that is installed inside another repository is not a file of that repository.
  tracked = git("ls-files", "--error-unmatch", here.name)
  return git("describe", "--always", "--dirty", "--abbrev=40") if tracked else None


def _processor():
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return platform.processor()
  names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
  return next(names, platform.processor())
