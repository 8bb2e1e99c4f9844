"""Reads and writes the small files of a run.

A file is written completely or not at all. A damaged file raises `UserError`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from contrastax.core import UserError

KINDS = {dict: "object", list: "array"}


def read_json(path: str | os.PathLike, kind: type[dict] | type[list]) -> Any:
  """Reads a JSON file.

  Args:
    path: the file.
    kind: the type that the value must have.

  Returns:
    The value.

  Raises:
    FileNotFoundError: there is no such file.
    NotADirectoryError: a part of the path is not a folder.
    UserError: the file cannot be read, is not JSON, or contains a value of another type.
  """
  try:
    value = json.loads(pathlib.Path(path).read_bytes())
  except (FileNotFoundError, NotADirectoryError):
    raise
  except OSError as error:
    fault = str(error.strerror).lower()
  except (ValueError, RecursionError):
    fault = "it is not JSON"
  else:
    if isinstance(value, kind):
      return value
    fault = f"it does not contain a JSON {KINDS[kind]}"
  raise UserError(f"{path} cannot be read: {fault}")


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes a value as JSON. Numbers that are not finite become null."""
  value = json.loads(json.dumps(value), parse_constant=lambda name: None)
  write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text in UTF-8, as `write_bytes` does."""
  write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file atomically: after a kill, it has either the old or the new content.

  A folder of that name is renamed; see `set_aside`.
  """
  path = pathlib.Path(path)
  unfinished = unfinished_of(path)
  try:
    with open(unfinished, "wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    if path.is_dir():
      replace_damaged(path, f"{path} is a folder")
    unfinished.replace(path)
  except OSError:
    if unfinished.is_file():
      unfinished.unlink()
    raise


def new_output(out: str | os.PathLike) -> pathlib.Path:
  """Returns the path of an output that a command writes.

  Raises:
    UserError: the path exists. Nothing is written over a file of the user.
  """
  path = pathlib.Path(out).expanduser()
  if os.path.lexists(path):
    raise UserError(f"the output {out} already exists; choose another --out, or remove it")
  return path


@contextlib.contextmanager
def writing(out: str | os.PathLike) -> Iterator[None]:
  """Returns a context whose errors of writing name the output, not the temporary files beside it.

  Args:
    out: the output as the user gave it.
  """
  try:
    yield
  except OSError as error:
    fault = (error.strerror or str(error)).lower()
    fix = "choose an --out in a folder that can be written"
    if error.errno == errno.ENOSPC:
      fault, fix = (
        "the disk is full",
        "free some space and run the command again, or choose another --out",
      )
    raise UserError(f"the output {out} cannot be written: {fault}; {fix}") from error


def unfinished_of(path: pathlib.Path) -> pathlib.Path:
  """Returns the path of the temporary file of `write_bytes`. A kill may leave this file behind."""
  return path.with_name(f".{path.name}.tmp")


def read_records(path: str | os.PathLike) -> tuple[list[dict[str, float]], int]:
  """Reads a metrics.jsonl.

  A record is a JSON object of numbers with an integer `step`. A file that does not exist has no
  records.

  Returns:
    (records, the number of damaged lines). Damaged lines are skipped. An incomplete last line,
    which remains if the process was killed, is skipped and not counted.
  """
  path = pathlib.Path(path)
  lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
  parsed = [_record(line) for line in lines[:-1]]
  records = [record for record in parsed if record is not None]
  return records, len(parsed) - len(records)


def set_aside(path: pathlib.Path) -> pathlib.Path:
  """Renames a damaged file or folder to `NAME.damaged` and returns the new path.

  An earlier `NAME.damaged` is replaced.
  """
  aside = path.with_name(f"{path.name}.damaged")
  remove(aside)
  return path.replace(aside)


def replace_damaged(path: pathlib.Path, fault: str) -> None:
  """Renames a damaged file that the run does not need, and prints a warning with the fault."""
  print(f"warning: {fault}; renamed to {set_aside(path).name}", flush=True)


def make_folder(path: pathlib.Path) -> None:
  """Makes a folder for output. A file of that name is renamed; see `set_aside`."""
  if path.exists() and not path.is_dir():
    replace_damaged(path, f"{path} is not a folder")
  path.mkdir(exist_ok=True)


def remove(path: pathlib.Path) -> None:
  """Removes a file, a link or a folder, if it exists."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _record(line: bytes) -> dict[str, float] | None:
  try:
    record = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if not isinstance(record, dict) or type(record.get("step")) is not int:
    return None
  return record if all(type(value) in (int, float) for value in record.values()) else None


def cache_folder() -> pathlib.Path:
  """Returns the user's folder for files that may be removed at any time."""
  configured = os.environ.get("XDG_CACHE_HOME", "")
  if os.path.isabs(configured):  # The XDG standard ignores relative paths.
    return pathlib.Path(configured)
  home = pathlib.Path(os.path.expanduser("~"))
  return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
