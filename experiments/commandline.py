"""The command line: a config file, overrides of its keys, three flags, and the exit status."""

from __future__ import annotations

import difflib
import errno
import pathlib
import re
import shlex
import sys
from collections.abc import Callable
from typing import NamedTuple

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from contrastax.core import UserError

# What Python, XLA and the system's threads say of memory that does not suffice.
OUT_OF_MEMORY = (
  "MemoryError", "RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "bad_alloc",
  "can't start new thread",
)  # fmt: skip


class Options(NamedTuple):
  config: ConfigDict
  workdir: pathlib.Path
  dry_run: bool


def status(command: Callable[[], None]) -> int:
  """Runs a command and returns its exit status.

  What a user can mend, memory that does not suffice, and files that cannot be read or written are one
  line on stderr, and status 2.
  """
  # What libraries have to say of a failure reaches us as an exception, and is said once.
  logging.set_verbosity(logging.FATAL)
  try:
    command()
  except UserError as error:
    return _refused(error)
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


def _refused(text):
  print(f"error: {_line(text)}", file=sys.stderr)
  return 2


def parse(argv: list[str], help_text: str) -> Options | None:
  """The options, or None after printing help; UserError for what is wrong with them."""
  place = _config_place(argv)
  wants_help = any(argument in ("--help", "-help", "-h", "help") for argument in argv[1:])
  if wants_help:
    print(help_text.strip())
    if place is None:
      print("\nWith --config=… as well, --help lists that config's keys.")
      return None
    argv = [argument for argument in argv if argument.lstrip("-") not in ("help", "h")]
  if place is None:
    raise UserError("no config; give one: --config=configs/digits_simclr.py")
  path, _, preset = place.partition(":")
  if not pathlib.Path(path).is_file():
    raise UserError(f"no such config: {path}{_close_file(path)}")

  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    "config", None, "the experiment", flag_values=values, sys_argv=argv
  )
  flags.DEFINE_string("workdir", None, "where the run lives", flag_values=values)
  flags.DEFINE_bool("dry_run", False, "train nothing, show sizes", flag_values=values)
  try:
    rest = values(argv)[1:]
  except flags.Error as error:
    text = str(error).strip()
    if "Traceback" in text:  # what get_config raised comes as a whole traceback in the message
      raise UserError(f"config {place}: {text.splitlines()[-1]}") from None
    for said, meant in {"int()": "an integer", "to float": "a number"}.items():
      text = re.sub(rf": .*{re.escape(said)}.*", f": the value must be {meant}", text)
    raise UserError(_line(text)) from None
  except AttributeError as error:
    found = re.search(r'mean "(.+)" instead of "(.+)"', str(error))
    if found:
      raise UserError(f"{place} has no key {found[2]!r}; did you mean {found[1]!r}?") from None
    raise UserError(f"{place} has no key {error.args[0]}; --help lists its keys") from None
  if rest:
    raise UserError(f"cannot use {rest[0]!r}; overrides are written --config.KEY=VALUE")
  if wants_help:
    print(f"\nKeys of {place}, each set by --config.KEY=VALUE:\n")
    print("\n".join(f"  {key} = {value!r}" for key, value in flat(values.config).items()))
    return None
  name = pathlib.Path(path).stem + (f"_{preset}" if preset else "")
  workdir = pathlib.Path(values.workdir or pathlib.Path("runs") / name)
  return Options(values.config, workdir, values.dry_run)


def again(argv: list[str]) -> str:
  """The command that was given, as a shell takes it."""
  return shlex.join(["python", "-m", "experiments.run", *argv[1:]])


def flat(config, prefix: str = "") -> dict:
  """{"optimizer.name": "adamw", …}"""
  out = {}
  for key, value in config.items():
    nested = isinstance(value, ConfigDict | dict)
    out.update(flat(value, f"{prefix}{key}.") if nested else {prefix + key: value})
  return out


def _config_place(argv):
  for argument, following in zip(argv, [*argv[1:], None], strict=True):
    flag, equals, value = argument.partition("=")
    if flag in ("--config", "-config"):
      return value if equals else following
  return None


def _close_file(path):
  folder = pathlib.Path(path).parent
  known = [str(p) for p in folder.glob("*.py")] if folder.is_dir() else []
  close = difflib.get_close_matches(path, known, 1)
  return f"; did you mean {close[0]}?" if close else " (a relative path starts where you are)"


def _line(text):
  return " ".join(str(text).split())
