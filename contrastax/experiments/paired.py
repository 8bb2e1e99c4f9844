"""What summary.json has for paired comparisons of spaces and of runs, and the comparisons."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from contrastax import evaluation
from contrastax.data import Column
from contrastax.data.fields import leaves
from contrastax.evaluation.embed import count_rows

COLUMNS = ("knn", "linear_1", "linear_5", "linear")
"""The columns of the table of a run, if the data have labels."""
BLOCK = 4096  # The number of examples that are read at a time.


class Difference(NamedTuple):
  """The difference of two accuracies, and its 95 % interval.

  Args:
    mean: the difference.
    low: the lower end of the interval.
    high: the upper end.
  """

  mean: float
  low: float
  high: float

  def text(self) -> str:
    """Returns the difference with its interval, such as `+0.012 [-0.003, +0.027]`."""
    return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def pack(correct: np.ndarray) -> str:
  """Returns booleans [m] as a short text: 8 in a byte, in Base64."""
  return base64.b64encode(np.packbits(correct).tobytes()).decode()


def unpack(text: str, count: int) -> np.ndarray:
  """Returns the `count` booleans of a text from `pack`.

  Raises:
    ValueError: the text has another number of booleans.
  """
  packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
  if len(packed) != -(-count // 8):
    raise ValueError(f"the text has {len(packed)} bytes, which are not {count} booleans")
  return np.unpackbits(packed, count=count).astype(bool)


def fingerprint(*splits: Mapping[str, Any]) -> str:
  """Returns a checksum of all arrays of the splits of a data set, as 16 hexadecimal digits.

  A `Column` enters by the checksums of its rows. For images in files these do not depend on the size
  to which the images are decoded.

  Args:
    *splits: the training examples and the test examples: trees of arrays with one example per row.
  """
  digest = hashlib.sha256()
  for split in splits:
    count = count_rows(split)
    for path, rows in sorted(leaves(split), key=lambda leaf: leaf[0]):
      if isinstance(rows, Column):
        digest.update(f"{path} {count}".encode() + np.ascontiguousarray(rows.codes).tobytes())
        continue
      digest.update(f"{path} {rows.dtype} {tuple(rows.shape)}".encode())
      for start in range(0, count, BLOCK):
        digest.update(np.ascontiguousarray(rows[start : start + BLOCK]).tobytes())
  return digest.hexdigest()[:16]


def differences(
  summary: Mapping[str, Any], row: str, other: Mapping[str, Any], other_row: str
) -> dict[str, Difference]:
  """Returns the differences of a row of one run and a row of another run, or of the same run.

  The probes with few labels are compared draw by draw (Student's t), and the others example by
  example (`evaluation.accuracy_difference`).

  Args:
    summary: the summary.json of a run.
    row: a row of its table.
    other: the summary.json of the other run, which was evaluated on the same data.
    other_row: a row of its table, which is subtracted.

  Returns:
    {column: difference} of the columns that both rows have. It is empty without labels.
  """
  found, rows = {}, ((summary, row), (other, other_row))
  for column in COLUMNS:
    if all(column in each["draws"].get(name, {}) for each, name in rows):
      ours, theirs = (np.array(each["draws"][name][column], float) for each, name in rows)
      mean, half = evaluation.mean_and_interval(ours - theirs)
      difference = Difference(mean, mean - half, mean + half)
    elif all(column in each["correct"].get(name, {}) for each, name in rows):
      ours, theirs = (
        unpack(each["correct"][name][column], each["examples"]["test"]) for each, name in rows
      )
      difference = Difference(*evaluation.accuracy_difference(ours, theirs))
    else:
      continue
    if np.isfinite(difference.mean):
      found[column] = difference
  return found
