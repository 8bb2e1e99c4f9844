"""The command line: a config, overrides of its keys, flags, and the exit status."""

from __future__ import annotations

import difflib
import errno
import pathlib
import re
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import scipy.linalg  # noqa: F401
from absl import flags, logging
from ml_collections import ConfigDict
from threadpoolctl import threadpool_limits

from contrastax.core import TrainingDiverged, UserError
from contrastax.experiments import examples
from contrastax.experiments.grid import Arm, arms_of
from contrastax.experiments.overrides import overridden
from contrastax.experiments.schema import FIELDS, flat

# Parts of the messages with which Python, XLA, C++ and threads report insufficient memory.
OUT_OF_MEMORY = (
  "MemoryError", "RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "bad_alloc",
  "can't start new thread",
)  # fmt: skip
WITH_VALUE = ("workdir", "by")
"""Flags, besides those of the config, whose value may be the next argument."""


class Options(NamedTuple):
  """The options of `contrastax run`.

  Args:
    config: the completed config; of a sweep, that of its first arm.
    workdir: the folder of the run or of the sweep.
    dry_run: whether sizes are printed and nothing is trained.
    place: the config file or the name of the config.
    arms: the arms of the sweep; () if there is no sweep.
    by: the column of the table by which a sweep chooses its winner, or None for the default.
  """

  config: ConfigDict
  workdir: pathlib.Path
  dry_run: bool
  place: str
  arms: tuple[Arm, ...]
  by: str | None


def status(command: Callable[[], None]) -> int:
  """Runs a command and returns its exit status.

  Status 2 is invalid input of the user, insufficient memory, or a file that cannot be read or written.
  Status 3 is a run that diverged. Each of these prints one line on stderr. Another error is raised.
  """
  # Errors of libraries are raised, so their log messages would print them twice.
  logging.set_verbosity(logging.FATAL)
  try:
    # BLAS gets one thread, because its threads spin while they wait, and take the cores from JAX's
    # threads. JAX calls SciPy's BLAS, which is imported above because the limit applies to loaded
    # libraries only.
    with threadpool_limits(1, "blas"):
      command()
  except UserError as error:
    return _failed(error)
  except TrainingDiverged as error:
    return _failed(error, 3)
  except BrokenPipeError:  # `cli.main` handles it.
    raise
  except OSError as error:
    if error.errno == errno.ENOSPC:
      return _failed("the disk is full; free some space and run the same command again")
    place = f"{error.filename}: " if error.filename else ""
    return _failed(f"{place}{error.strerror or error}")
  except (MemoryError, RuntimeError) as error:
    if not any(text in f"{type(error).__name__}: {error}" for text in OUT_OF_MEMORY):
      raise
    return _failed(
      f"out of memory ({_line(error)[:200] or 'on the host'}); lower batch_size, or use smaller "
      "images or a smaller encoder; the saved checkpoints are kept"
    )
  return 0


def _failed(text: object, code: int = 2) -> int:
  """Prints an error as one line and returns the exit status."""
  print(f"error: {_line(text)}", file=sys.stderr)
  return code


def parse(argv: list[str], help_text: str) -> Options | None:
  """Parses a command line of `contrastax run`.

  Args:
    argv: the program's name and the arguments.
    help_text: the text of --help.

  Returns:
    The options, or None if help was printed.

  Raises:
    UserError: the arguments are invalid.
  """
  wants_help = any(argument in ("--help", "-help", "-h", "help") for argument in argv[1:])
  place, overrides, sweep, others = _split(
    [arg for arg in argv if arg.lstrip("-") not in ("help", "h")]
  )
  if wants_help:
    print(help_text.strip())
    if place is None:
      print("\nWith a config, --help also lists the keys of the config.")
      return None
  if place is None:
    raise UserError(
      "there is no config; give one: --config=configs/digits_simclr.py, or the name digits_simclr"
    )
  values = flags.FlagValues()
  flags.DEFINE_string("workdir", None, "the folder of the run", flag_values=values)
  flags.DEFINE_bool("dry_run", False, "print sizes and train nothing", flag_values=values)
  flags.DEFINE_string("by", None, "the column by which a sweep chooses", flag_values=values)
  try:
    rest = values(others)[1:]
  except flags.Error as error:
    name = getattr(error, "flagname", "")
    fix = f": write --config.{name}=…" if name in FIELDS else ""
    raise UserError(f"{_line(error)}{fix}") from None
  if rest:
    raise UserError(f"unexpected argument {rest[0]!r}; overrides are written --config.KEY=VALUE")
  if values.by is not None and not sweep:
    raise UserError("--by is for a sweep, which has --sweep.KEY=VALUE,VALUE; leave --by out")
  given = get_config(place)
  arms = arms_of(given, overrides, sweep) if sweep else ()
  config = arms[0].config if arms else ConfigDict(overridden(given, overrides))
  if wants_help:
    print(f"\nKeys of {place}, each set by --config.KEY=VALUE:\n")
    print("\n".join(f"  {key} = {value!r}" for key, value in flat(config.to_dict()).items()))
    return None
  path, _, preset = place.partition(":")
  name = pathlib.Path(path).stem + (f"_{preset}" if preset else "") + ("_sweep" if arms else "")
  workdir = pathlib.Path(values.workdir or pathlib.Path("runs") / name)
  return Options(config, workdir, values.dry_run, place, arms, values.by)


def define_network(values: flags.FlagValues) -> None:
  """Defines the flags that choose a network of a run."""
  flags.DEFINE_string("network", None, "another encoder of the run", flag_values=values)
  flags.DEFINE_bool("projected", False, "whether the projection follows", flag_values=values)


def parse_run(
  argv: list[str], values: flags.FlagValues, help_text: str, *, required: Collection[str] = ()
) -> bool:
  """Parses the command line of a command that uses a run: its folder, then flags.

  Args:
    argv: the program's name and the arguments.
    values: the flags of the command, which receive the values. `workdir` and `allow` are added.
    help_text: the text of --help.
    required: the flags that must have a value.

  Returns:
    Whether the command goes on. It does not if help was printed.

  Raises:
    UserError: the arguments are invalid.
  """
  if any(argument in ("--help", "-help", "-h", "help") for argument in argv[1:]):
    print(help_text.strip())
    return False
  flags.DEFINE_string("workdir", None, "the folder of the run", flag_values=values)
  flags.DEFINE_list("allow", [], "modules of your own that may be imported", flag_values=values)
  try:
    rest = values(argv)[1:]
  except flags.Error as error:
    raise UserError(_line(error)) from None
  if rest and values.workdir is None:
    values.workdir = rest.pop(0)
  if rest:
    raise UserError(f"unexpected argument {rest[0]!r}; --help lists the flags")
  if values.workdir is None:
    raise UserError(f"a run is required; give its folder: {argv[0]} runs/digits_simclr")
  for name in required:
    if not values[name].value:
      raise UserError(f"--{name} is required; --help has examples")
  return True


def get_config(place: str) -> dict[str, Any]:
  """Calls `get_config` of a config file and returns the config.

  Args:
    place: the file's path, or the name of an example config; `:preset` may follow.

  Raises:
    UserError: there is no such config, or its code raises.
  """
  path, colon, preset = place.partition(":")
  if not pathlib.Path(path).is_file():
    if path not in examples.names():
      raise UserError(f"there is no config {path}{_close(path)}")
    path = str(examples.path_of(path))
  try:
    config = runpy.run_path(path)["get_config"](*([preset] if colon else []))
    return config.to_dict() if isinstance(config, ConfigDict) else dict(config)
  except Exception as error:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    line = f":{lines[-1]}" if lines else ""
    raise UserError(f"config {path}{line}: {type(error).__name__}: {error}") from error


def format_command(argv: list[str]) -> str:
  """Returns the command line, quoted for a shell."""
  return f"{program(argv)} {shlex.join(argv[1:])}".strip()


def program(argv: list[str], name: str = "run") -> str:
  """Returns the start of a command line of the program `name`.

  It is a command, or a module of a checkout, as the user has started the current program.
  """
  command = argv[0].startswith("contrastax ")
  return f"contrastax {name}" if command else f"python -m experiments.{name}"


def _split(
  argv: list[str],
) -> tuple[str | None, dict[str, str], dict[str, str], list[str]]:
  """Splits a command line.

  Returns:
    (place of the config, {key: text} of the overrides, {key: text} of the sweep, the other
    arguments).
  """
  place, others, rest = None, argv[:1], list(argv[1:])
  texts: dict[str, dict[str, str]] = {"config": {}, "sweep": {}}
  while rest:
    flag, equals, text = rest.pop(0).partition("=")
    name = re.sub("^--?", "", flag) if flag.startswith("-") else ""
    if place is None and not equals and not flag.startswith("-"):
      place = flag
      continue
    kind, dot, key = name.partition(".")
    if name != "config" and not (dot and kind in texts):
      others.append(flag + equals + text)
      # The next argument may be the value of this flag, so it is not the config.
      if not equals and name in WITH_VALUE and rest:
        others.append(rest.pop(0))
      continue
    if not equals and (not rest or rest[0].startswith("--")):
      raise UserError(f"{flag} needs a value: {flag}=…")
    text = text if equals else rest.pop(0)
    if name == "config":
      place = text
    else:
      texts[kind][key] = text
  return place, texts["config"], texts["sweep"], others


def _close(path: str) -> str:
  """Returns the end of a message: the most similar config, or advice."""
  folder = pathlib.Path(path).parent
  known = [str(p) for p in folder.glob("*.py")] if folder.is_dir() else []
  close = difflib.get_close_matches(path, [*known, *examples.names()], 1)
  if close:
    return f"; did you mean {close[0]}?"
  return "; give the path of a file, or a name that `contrastax configs` lists"


def _line(text: object) -> str:
  return " ".join(str(text).split())
