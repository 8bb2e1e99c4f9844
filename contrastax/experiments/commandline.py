"""The command line: a config file, overrides of its keys, three flags, and the exit status."""

from __future__ import annotations

import difflib
import errno
import pathlib
import re
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import scipy.linalg  # noqa: F401
from absl import flags, logging
from ml_collections import ConfigDict
from threadpoolctl import threadpool_limits

from contrastax.core import TrainingDiverged, UserError
from contrastax.experiments import examples
from contrastax.experiments.overrides import overridden
from contrastax.experiments.schema import flat

# What Python, XLA and the system's threads say of memory that does not suffice.
OUT_OF_MEMORY = (
  "MemoryError", "RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "bad_alloc",
  "can't start new thread",
)  # fmt: skip
WITH_VALUE = ("workdir",)
"""Flags, besides those of the config, whose value may be the next argument."""


class Options(NamedTuple):
  config: ConfigDict
  workdir: pathlib.Path
  dry_run: bool


def status(command: Callable[[], None]) -> int:
  """Runs a command and returns its exit status.

  Each of these errors prints one line on stderr: invalid user input, insufficient memory, and files
  that cannot be read or written, with status 2; a run that diverged, with status 3.
  """
  # Errors of libraries are raised, so their log messages would print them twice.
  logging.set_verbosity(logging.FATAL)
  try:
    # One thread, because waiting threads of BLAS spin and take the cores from JAX's own threads. JAX
    # calls SciPy's BLAS, and the limit holds only for libraries that are loaded.
    with threadpool_limits(1, "blas"):
      command()
  except UserError as error:
    return _refused(error)
  except TrainingDiverged as error:
    return _refused(error, 3)
  except OSError as error:
    if error.errno == errno.ENOSPC:
      return _refused("the disk is full; free some space and run the same command again")
    place = f"{error.filename}: " if error.filename else ""
    return _refused(f"{place}{error.strerror or error}")
  except (MemoryError, RuntimeError) as error:
    if not any(said in f"{type(error).__name__}: {error}" for said in OUT_OF_MEMORY):
      raise
    return _refused(
      f"out of memory ({_line(error)[:200] or 'on the host'}); lower batch_size, or take smaller "
      "images or a smaller encoder; the checkpoints saved before stand"
    )
  return 0


def _refused(text: object, code: int = 2) -> int:
  """Prints an error as one line and returns the exit status."""
  print(f"error: {_line(text)}", file=sys.stderr)
  return code


def parse(argv: list[str], help_text: str) -> Options | None:
  """The options, or None after printing help; UserError for what is wrong with them."""
  wants_help = any(argument in ("--help", "-help", "-h", "help") for argument in argv[1:])
  place, overrides, others = _split([a for a in argv if a.lstrip("-") not in ("help", "h")])
  if wants_help:
    print(help_text.strip())
    if place is None:
      print("\nWith --config=… as well, --help lists that config's keys.")
      return None
  if place is None:
    raise UserError(
      "no config; give one: --config=configs/digits_simclr.py, or the name digits_simclr"
    )
  values = flags.FlagValues()
  flags.DEFINE_string("workdir", None, "where the run lives", flag_values=values)
  flags.DEFINE_bool("dry_run", False, "train nothing, show sizes", flag_values=values)
  try:
    rest = values(others)[1:]
  except flags.Error as error:
    raise UserError(_line(error)) from None
  if rest:
    raise UserError(f"cannot use {rest[0]!r}; overrides are written --config.KEY=VALUE")
  config = overridden(get_config(place), overrides)
  if wants_help:
    print(f"\nKeys of {place}, each set by --config.KEY=VALUE:\n")
    print("\n".join(f"  {key} = {value!r}" for key, value in flat(config).items()))
    return None
  path, _, preset = place.partition(":")
  name = pathlib.Path(path).stem + (f"_{preset}" if preset else "")
  workdir = pathlib.Path(values.workdir or pathlib.Path("runs") / name)
  return Options(ConfigDict(config), workdir, values.dry_run)


def get_config(place: str) -> dict[str, Any]:
  """Returns what `get_config` of a config file returns.

  Args:
    place: the file's path, or the name of an example config; `:preset` may follow.

  Raises:
    UserError: there is no such config, or its code raises.
  """
  path, colon, preset = place.partition(":")
  if not pathlib.Path(path).is_file():
    if path not in examples.names():
      raise UserError(f"no such config: {path}{_close(path)}")
    path = str(examples.path_of(path))
  try:
    made = runpy.run_path(path)["get_config"](*([preset] if colon else []))
    return made.to_dict() if isinstance(made, ConfigDict) else dict(made)
  except Exception as error:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = f":{lines[-1]}" if lines else ""
    raise UserError(f"config {path}{line}: {type(error).__name__}: {error}") from error


def format_command(argv: list[str]) -> str:
  """Returns the command line, quoted for a shell."""
  return f"{program(argv)} {shlex.join(argv[1:])}".strip()


def program(argv: list[str], name: str = "run") -> str:
  """Returns how the user started the program `name`: as a command or as a module of a checkout."""
  command = argv[0].startswith("contrastax ")
  return f"contrastax {name}" if command else f"python -m experiments.{name}"


def _split(argv):
  """(Place of the config, {key: text} of the overrides, the other arguments)."""
  place, overrides, others, rest = None, {}, argv[:1], list(argv[1:])
  while rest:
    flag, equals, text = rest.pop(0).partition("=")
    name = re.sub("^--?", "", flag) if flag.startswith("-") else ""
    if place is None and not equals and not flag.startswith("-"):
      place = flag
      continue
    if name != "config" and not name.startswith("config."):
      others.append(flag + equals + text)
      # The value of a flag may be the next argument; it is not the config.
      if not equals and name in WITH_VALUE and rest:
        others.append(rest.pop(0))
      continue
    if not equals and (not rest or rest[0].startswith("--")):
      raise UserError(f"{flag} needs a value: {flag}=…")
    text = text if equals else rest.pop(0)
    if name == "config":
      place = text
    else:
      overrides[name.removeprefix("config.")] = text
  return place, overrides, others


def _close(path: str) -> str:
  folder = pathlib.Path(path).parent
  known = [str(p) for p in folder.glob("*.py")] if folder.is_dir() else []
  close = difflib.get_close_matches(path, [*known, *examples.names()], 1)
  if close:
    return f"; did you mean {close[0]}?"
  return "; give the path of a file, or a name that `contrastax configs` lists"


def _line(text):
  return " ".join(str(text).split())
