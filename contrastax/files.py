"""The small files of a run: written whole or not at all, and read with one error for any damage."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from typing import Any

from contrastax.core import UserError

KINDS = {dict: "object", list: "array"}


def read_json(path: str | os.PathLike, kind: type[dict] | type[list]) -> Any:
  """Reads a JSON file.

  Args:
    path: the file.
    kind: the type that the value must have.

  Raises:
    FileNotFoundError, NotADirectoryError: there is no such file.
    UserError: the file cannot be read, is not JSON, or holds a value of another type.
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
    fault = f"it holds no JSON {KINDS[kind]}"
  raise UserError(f"{path} cannot be read: {fault}")


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes a value as JSON, by `write_text`; a number that is not finite becomes null."""
  value = json.loads(json.dumps(value), parse_constant=lambda name: None)
  write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text, by `write_bytes`."""
  write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file in one step: a reader, or a kill, finds the old content or the new one.

  A directory of that name is set aside.
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


def unfinished_of(path: pathlib.Path) -> pathlib.Path:
  """The file that `write_bytes` writes before it renames it; a kill may leave it."""
  return path.with_name(f".{path.name}.tmp")


def read_records(path: str | os.PathLike) -> tuple[list[dict[str, float]], int]:
  """Reads a metrics.jsonl: its records, and the number of damaged lines, which are left out.

  A record is a JSON object of numbers with an integer `step`. A last line without its end, as a
  kill leaves it, is left out and not counted. A file that does not exist has no records.
  """
  path = pathlib.Path(path)
  lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
  found = [_record(line) for line in lines[:-1]]
  records = [record for record in found if record is not None]
  return records, len(found) - len(records)


def set_aside(path: pathlib.Path) -> pathlib.Path:
  """Renames a damaged file or folder to `NAME.damaged`, which replaces an earlier one."""
  aside = path.with_name(f"{path.name}.damaged")
  remove(aside)
  return path.replace(aside)


def replace_damaged(path: pathlib.Path, fault: str) -> None:
  """Sets aside what is no input of a run, so that the run goes on, and prints a warning."""
  print(f"warning: {fault}; renamed to {set_aside(path).name}", flush=True)


def make_folder(path: pathlib.Path) -> None:
  """Makes a folder for output; a file of that name is set aside."""
  if path.exists() and not path.is_dir():
    replace_damaged(path, f"{path} is no folder")
  path.mkdir(exist_ok=True)


def remove(path: pathlib.Path) -> None:
  """Removes a file, a link or a folder, if it is there."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _record(line):
  try:
    record = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if not isinstance(record, dict) or type(record.get("step")) is not int:
    return None
  return record if all(type(value) in (int, float) for value in record.values()) else None
