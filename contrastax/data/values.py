"""Converts the columns of a table to the fields of a data set."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from contrastax.core import UserError, check_integer
from contrastax.data.dataset import Dataset, divide, encode_texts
from contrastax.data.folder import TEST, TRAIN, number_classes
from contrastax.labels import NONE

Columns = dict[str, list[Any]]
"""The values of each column of a table."""
LABEL, SPLIT = "label", "split"


def dataset_of(
  place: str,
  table: Mapping[str, Sequence[Any]],
  images: Mapping[str, Any],
  text_bytes: int,
  classes: Sequence[str] = (),
) -> Dataset:
  """Returns the data set of the columns of a table.

  Args:
    place: the table, for messages.
    table: the values of each column. The column `label` contains classes, and `split` the names of
      splits.
    images: further fields, which need no conversion.
    text_bytes: the largest number of bytes of a text.
    classes: the names of the classes, if the labels are their numbers.

  Raises:
    UserError: a column is unsuitable.
  """
  check_integer("text_bytes", text_bytes, 1)
  if "index" in (*table, *images):
    raise UserError(f"{place}: rename the column 'index', because a batch has a field of this name")
  if not {*table, *images} - {LABEL, SPLIT}:
    raise UserError(f"{place} has no column besides the label; give a column of images or texts")
  fields, names = dict(images), tuple(classes)
  for name, values in table.items():
    if name == LABEL:
      label, names = _labels(place, values, classes)
      fields |= {} if label is None else {LABEL: label}
    elif name != SPLIT:
      fields[name] = _field(f"{place}: column {name!r}", values, text_bytes)
  if SPLIT not in table:
    return Dataset(fields, {}, names)
  is_train, is_test = (
    np.array([each in kinds for each in table[SPLIT]]) for kinds in (TRAIN, TEST)
  )
  if not (is_train | is_test).all() or not is_train.any() or not is_test.any():
    found = sorted({str(each) for each in table[SPLIT]})[:5]
    raise UserError(
      f"{place}: the column 'split' must contain 'train' and 'test' only, not {found}"
    )
  return divide(fields, is_test, names)


def _labels(
  place: str, values: Sequence[Any], classes: Sequence[str]
) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """Returns the labels and the names of the classes. A missing value is no label."""
  values = [None if _is_missing(value) or value == "" else value for value in values]
  for row, value in enumerate(values):
    if isinstance(value, float) and not value.is_integer():
      raise UserError(
        f"{place}: the column 'label' must contain classes, not {value} (row {row}); rename the column "
        "if it contains a quantity"
      )
    if not isinstance(value, str | int | float | None):
      raise UserError(
        f"{place}: the column 'label' must contain classes, not {type(value).__name__} (row {row})"
      )
  if classes:
    for row, value in enumerate(values):
      if isinstance(value, str) or value is not None and not NONE <= value < len(classes):
        raise UserError(
          f"{place}: the column 'label' must contain numbers of {len(classes)} classes, not {value!r} "
          f"(row {row})"
        )
    numbers = [NONE if value is None else int(value) for value in values]
    return np.array(numbers, np.int32), tuple(classes)
  if not any(isinstance(value, str) for value in values):
    # The order of the names is that of the numbers.
    known = sorted({int(value) for value in values if value is not None and value != NONE})
    if len(known) < 2:
      return None, ()
    number = {value: i for i, value in enumerate(known)}
    label = [NONE if value is None else number.get(int(value), NONE) for value in values]
    return np.array(label, np.int32), tuple(map(str, known))
  return number_classes([None if value is None else str(value) for value in values])


def _field(where: str, values: Sequence[Any], text_bytes: int) -> np.ndarray:
  """Returns a field: texts as bytes, numbers as they are, lists as further axes."""
  for row, value in enumerate(values):
    if _is_missing(value):
      raise UserError(
        f"{where} has no value in row {row}; give one, or leave the column out by columns=(…)"
      )
  kinds = {_kind(value) for value in values}
  if len(kinds) != 1 or None in kinds:
    found = sorted({type(value).__name__ for value in values})
    raise UserError(
      f"{where} must contain texts, numbers, or lists of equal length, not {' and '.join(found)}"
    )
  depth, kind = kinds.pop() or (0, "")
  if kind == "number":
    try:
      array = np.array(values)
    except (ValueError, OverflowError):
      raise UserError(f"{where} must contain lists of equal length") from None
    if array.dtype.kind == "O":
      raise UserError(
        f"{where} has an integer that does not fit into 64 bits; give texts or floats"
      )
    return array.astype(np.float32) if array.dtype.kind == "f" else array
  if depth == 0:
    return _encoded(where, values, text_bytes)
  lengths = {len(value) for value in values}
  if depth > 1 or len(lengths) != 1:
    raise UserError(
      f"{where} must contain lists of as many texts in every row, not of {sorted(lengths)[:5]} texts"
    )
  texts = _encoded(where, [text for value in values for text in value], text_bytes)
  return texts.reshape(len(values), lengths.pop(), -1)


def _encoded(where: str, texts: Sequence[str], most: int) -> np.ndarray:
  cut = sum(len(text.encode("utf-8", "replace")) > most for text in texts)
  if cut:
    print(
      f"{where}: {cut:,} of {len(texts):,} texts are cut to {most} bytes; text_bytes sets the limit",
      file=sys.stderr,
    )
  return encode_texts(texts, most)


def _kind(value: Any, most: int = 16) -> tuple[int, str] | None:
  """Returns (number of axes, "text" or "number") of a value, or None for another type.

  A list with more than `most` axes is another type.
  """
  if isinstance(value, str):
    return 0, "text"
  if isinstance(value, bool | int | float | np.number):
    return 0, "number"
  if not isinstance(value, list | tuple) or not value or not most:
    return None
  kinds = {_kind(each, most - 1) for each in value}
  inner = kinds.pop()
  return None if kinds or inner is None else (inner[0] + 1, inner[1])


def _is_missing(value: Any) -> bool:
  return value is None or (isinstance(value, float) and math.isnan(value))
