"""The folder of a run: its lock, its config, and the record of the processes that wrote it."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

import contrastax
from contrastax.core import UserError
from contrastax.experiments.commandline import format_command
from contrastax.experiments.processor import processor_fields
from contrastax.experiments.schema import completed, flat, is_former, modules_of
from contrastax.files import read_json, replace_damaged, unfinished_of, write_json
from contrastax.training import weights

CHANGEABLE = {"steps", "stream", "loggers", "log_every", "eval_every", "checkpoint_every"}
"""Keys that may differ when a run is resumed."""
RESTORE = "restore a copy, such as the one that the same command writes into another --workdir"
MAX_DIFFERENCES = 5
"""The largest number of differences from another config that a message lists."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")


class Workdir:
  """The folder of a run, used by one process at a time.

  On entry the folder is created, or compared with the config. `accept` then writes the files that
  describe the run. A command that is refused before `accept` leaves these files unchanged.

  Args:
    path: the folder.
    config: the completed config of the run.
    argv: the command line.

  Raises:
    UserError: on entry, if the folder belongs to another run or to no run, is in use, is a file or
      cannot be written, or if its config.json is damaged.
  """

  def __init__(self, path: pathlib.Path, config: ConfigDict, argv: list[str]):
    self.path, self._argv = path, argv
    self._config = json.loads(json.dumps(_finite(config.to_dict())))

  def __enter__(self) -> Workdir:
    config = self.path / "config.json"
    own = {".lock", unfinished_of(config).name}
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      names = [file.name for file in self.path.iterdir() if file.name not in own]
      if names and "config.json" not in names:
        raise UserError(
          f"workdir {self.path} is not the folder of a run: it contains {names[0]} but no "
          "config.json; choose another --workdir"
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
      raise UserError(
        f"workdir {self.path} is in use by another process; choose another --workdir, or wait"
      ) from None
    except UserError:
      self._lock.close()
      raise
    return self

  def __exit__(self, *_: object) -> None:
    self._lock.close()

  def accept(self) -> None:
    """Writes config.json, and adds this process to run.json. A damaged run.json is renamed."""
    write_json(self.path / "config.json", self._config)
    path = self.path / "run.json"
    try:
      processes = read_json(path, list)
    except FileNotFoundError:
      processes = []
    except UserError as error:
      replace_damaged(path, str(error))
      processes = []
    write_json(path, [*processes, circumstances(format_command(self._argv))])


def config_of(workdir: pathlib.Path) -> ConfigDict:
  """Returns the config of the run in a folder.

  Raises:
    UserError: the folder does not contain a run, or its config.json is damaged.
  """
  try:
    return ConfigDict(_config_json(workdir))
  except (FileNotFoundError, NotADirectoryError):
    if (workdir / weights.FILE).exists():
      raise UserError(
        f"{workdir} is an export, which has no data and no config; give the folder of the run"
      ) from None
    if (workdir / "encoder.json").exists():
      raise UserError(
        f"{workdir} is a run that was started from code: it has no config.json, which this command "
        "needs; use contrastax.load(workdir, encoder=…) and contrastax.evaluation.probes"
      ) from None
    if not workdir.exists():
      raise UserError(f"there is no folder {workdir}; give the folder of a run") from None
    raise UserError(f"{workdir} holds no run: it has no config.json") from None
  except UserError:
    raise
  except (TypeError, ValueError) as error:  # A ConfigDict does not take every key of a JSON object.
    raise UserError(f"{workdir}/config.json is damaged: {error}; {RESTORE}") from None


def _config_json(workdir: pathlib.Path) -> dict[str, Any]:
  path = workdir / "config.json"
  try:
    config = read_json(path, dict)
  except UserError as error:
    raise UserError(f"{error}; {RESTORE}") from None
  if not config:
    raise UserError(f"{path} is damaged: it is empty; {RESTORE}")
  if is_former(config):
    raise UserError(
      f"{path} is of an older version of contrastax, whose checkpoints this version cannot read; "
      "train again in another --workdir"
    )
  return config


def _finite(value: Any) -> Any:
  """Returns the value with infinite numbers as strings, because JSON has no infinity."""
  if isinstance(value, dict):
    return {key: _finite(each) for key, each in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(each) for each in value]
  return str(value) if isinstance(value, float) and math.isinf(value) else value


def _compare(before: Mapping[str, Any], now: Mapping[str, Any], path: pathlib.Path) -> None:
  """Raises UserError if two configs differ in a key that determines the run."""
  # A run of an earlier version has the defaults of the keys that were added since.
  with contextlib.suppress(UserError):
    before = json.loads(json.dumps(_finite(completed(before, allow=modules_of(now)))))
  before, now = flat(before), flat(now)
  keys = sorted((before.keys() | now.keys()) - CHANGEABLE)
  differences = [
    f"{key}: {before.get(key)!r} → {now.get(key)!r}"
    for key in keys
    if before.get(key) != now.get(key)
  ]
  if differences:
    more = len(differences) - MAX_DIFFERENCES
    raise UserError(
      f"workdir {path} has a run of another config ({'; '.join(differences[:MAX_DIFFERENCES])}"
      f"{f'; {more} more' if more > 0 else ''}); choose another --workdir, or use the config of that "
      "run"
    )


def circumstances(command: str) -> dict[str, Any]:
  """Returns what a result depends on besides its config: versions, devices, machine and commit.

  Args:
    command: the command line.
  """
  model = processor_fields().get("model name") or platform.processor()
  return {
    "command": command,
    "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    "contrastax": contrastax.__version__,
    "commit": _commit(),
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    "devices": [str(device) for device in jax.devices()],
    "machine": f"{platform.platform()}, {os.cpu_count()} cores, {model}",
  }


def _commit() -> str | None:
  """Returns the commit of the checkout that contains this file; None for an installed package."""
  source = pathlib.Path(__file__)

  def git(*arguments: str) -> str | None:
    try:
      result = subprocess.run(
        ["git", *arguments], cwd=source.parent, capture_output=True, text=True, timeout=10
      )
    except (OSError, subprocess.TimeoutExpired):
      return None
    return result.stdout.strip() if result.returncode == 0 else None

  # An installed package can lie inside another repository, which does not track its files.
  tracked = git("ls-files", "--error-unmatch", source.name)
  return git("describe", "--always", "--dirty", "--abbrev=40") if tracked else None
