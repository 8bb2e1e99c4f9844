"""Records of measurements: a file with one JSON object per line, which grows as work is done.

A record counts once its line is complete. A process that is killed while it writes leaves an
incomplete last line: `read` ignores that line, and `append` removes it first.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from contrastax.core import UserError

Record = dict[str, Any]


class Records(tuple[Record, ...]):
  """Records in the order in which they were written."""

  def where(self, **entries: Any) -> Records:
    """Returns the records that have all of these entries."""
    return Records(record for record in self if entries.items() <= record.items())

  def values(self, column: str | Callable[[Record], Any], **entries: Any) -> np.ndarray:
    """Returns one column of the records that have these entries, ordered by seed.

    Args:
      column: A key of the records, or a function of a record.
      **entries: Which records are used, as in `where`.
    """
    found = sorted(self.where(**entries), key=lambda record: record.get("seed", 0))
    return np.array([column(r) if callable(column) else r[column] for r in found])

  @property
  def starts(self) -> list[Record]:
    """The machine, versions, commit and date of each process that added records."""
    return [r.get("circumstances", r) for r in self if "machine" in r or "circumstances" in r]


def read(path: pathlib.Path) -> Records:
  """Reads all complete records; there are none where the file does not exist.

  Raises:
    UserError: A complete line is not a JSON object.
  """
  if not path.exists():
    return Records()
  if path.suffix == ".json":  # one record, indented
    return Records([json.loads(path.read_text(encoding="utf-8"))])
  found = []
  for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
    try:
      found.append(dict(json.loads(line)))
    except (ValueError, TypeError):
      raise UserError(f"{path}: line {number} is not a record; remove that line") from None
  return Records(found)


def append(path: pathlib.Path, record: Record) -> None:
  """Adds a record to the end of the file, after removing an incomplete last line."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == ".json":
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return
  with path.open("ab+") as file:
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    file.write(json.dumps(record).encode() + b"\n")
