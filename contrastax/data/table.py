"""Data sets in tables: csv, jsonl and parquet files."""

from __future__ import annotations

import csv
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

from contrastax.core import UserError
from contrastax.data.dataset import Dataset
from contrastax.data.decode import SUFFIXES
from contrastax.data.encoded import file_column, image_shape
from contrastax.data.folder import report_faults
from contrastax.data.index import File, index_files, listed_file
from contrastax.data.values import LABEL, SPLIT, Columns, dataset_of
from contrastax.nouns import nearest


def read_table(
  path: str,
  *,
  columns: tuple[str, ...] | None = None,
  label: str | None = None,
  size: int | tuple[int, int] = 64,
  channels: Literal[1, 3] = 3,
  broken: Literal["skip", "fail"] = "skip",
  verify: bool = True,
  text_bytes: int = 512,
) -> Dataset:
  """Reads a csv, jsonl or parquet file, as `data.load` describes it.

  Args:
    path: the file, whose suffix determines its format. It may start with `~`.
    columns: the columns that are read, besides the label. None means all.
    label: the column with the classes. None means the column `label`, if there is one.
    size: the side of decoded images in pixels, or (height, width).
    channels: 3 for color, or 1 for gray.
    broken: "skip" lists images that cannot be decoded and leaves their rows out; "fail" raises an
      error.
    verify: see `index_folder`.
    text_bytes: the largest number of bytes of a text in UTF-8. Longer texts are cut.

  Returns:
    The data set. It has test examples if the column `split` contains "train" and "test".

  Raises:
    UserError: the file is missing or damaged, or a column is unsuitable.
  """
  shape = image_shape(size, channels)
  table = _read(path)
  for name in (*(columns or ()), *(() if label is None else (label,))):
    if name not in table:
      raise UserError(f"{path} has no column {name!r}{nearest(name, table)}")
  label = LABEL if label is None else label
  if columns is not None:
    table = {name: table[name] for name in (*columns, label, SPLIT) if name in table}
  if not table or not len(next(iter(table.values()))):
    raise UserError(f"{path} has no rows; give 1 example or more")
  # If another column contains the classes, the column "label" is left out.
  table = {
    LABEL if name == label else name: values
    for name, values in table.items()
    if name == label or name != LABEL
  }
  root = pathlib.Path(path).expanduser().absolute().parent
  images = [
    name for name, values in table.items() if name not in (LABEL, SPLIT) and _are_paths(values)
  ]
  files = {file.name: file for file in _files(root, path, table, images, verify)}
  report_faults(path, [(file.name, file.fault) for file in files.values() if file.fault], broken)
  usable = [
    row
    for row in range(len(next(iter(table.values()))))
    if not any(files[table[name][row]].fault for name in images)
  ]
  if not usable:
    raise UserError(f"{path} has no row whose images can be decoded; correct the paths")
  table = {name: [values[row] for row in usable] for name, values in table.items()}
  columns_of_images = {
    name: file_column(root, [files[each] for each in table.pop(name)], shape) for name in images
  }
  return dataset_of(path, table, columns_of_images, text_bytes)


def _read(path: str) -> Columns:
  """Reads the columns of a file."""
  place = pathlib.Path(path).expanduser()
  readers: dict[str, Callable[[pathlib.Path], Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": read_parquet,
  }
  if place.suffix.lower() not in readers:
    raise UserError(f"{path} must be a .csv, .tsv, .jsonl or .parquet file")
  try:
    return readers[place.suffix.lower()](place)
  except FileNotFoundError:
    raise UserError(
      f"there is no file {path}; a relative path starts in the current folder"
    ) from None
  except IsADirectoryError:
    raise UserError(f"{path} is a folder; give a file") from None
  except OSError as error:
    raise UserError(f"{path} cannot be read: {(error.strerror or '').lower()}") from None
  except UnicodeDecodeError as error:
    raise UserError(f"{path} is not UTF-8 ({error.reason}); save it as UTF-8") from None


def _read_csv(path: pathlib.Path) -> Columns:
  csv.field_size_limit(2**31 - 1)  # By default, a value may have at most 131,072 characters.
  with open(path, encoding="utf-8-sig", newline="") as file:
    reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
      header = next(reader, [])
      if len(set(header)) != len(header) or not all(header):
        raise UserError(f"{path}: the first line must name the columns, each once, not {header}")
      if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise UserError(f"{path}: separate the columns by commas; the first line is {header[0]!r}")
      rows = []
      for row in reader:
        if row and len(row) != len(header):
          raise UserError(
            f"{path}:{reader.line_num}: the row has {len(row)} values, but there are {len(header)} "
            "columns; quote values that contain a comma"
          )
        if row:
          rows.append(row)
    except csv.Error as error:
      raise UserError(f"{path}:{reader.line_num}: the row is not valid csv: {error}") from None
  columns = zip(*rows, strict=True)
  return {name: list(_numbers(values)) for name, values in zip(header, columns, strict=False)}


def _read_jsonl(path: pathlib.Path) -> Columns:
  rows = []
  with open(path, encoding="utf-8-sig") as file:
    for number, line in enumerate(file, 1):
      if not line.strip():
        continue
      try:
        row = json.loads(line)
      except (ValueError, RecursionError) as error:
        raise UserError(f"{path}:{number}: the line is not JSON: {error}") from None
      if not isinstance(row, dict):
        raise UserError(f'{path}:{number}: the line must be an object, {{"name": value, …}}')
      if rows and row.keys() != rows[0].keys():
        names = sorted(row.keys() ^ rows[0].keys())
        raise UserError(
          f"{path}:{number}: the line and the first line differ in the keys {names}; give every line "
          "the same keys, null for a missing label"
        )
      rows.append(row)
  return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def read_parquet(path: pathlib.Path) -> Columns:
  """Reads the columns of a parquet file."""
  import pyarrow
  import pyarrow.parquet

  try:
    table = pyarrow.parquet.read_table(path)
  except (pyarrow.ArrowException, OSError) as error:
    if isinstance(error, FileNotFoundError | IsADirectoryError):
      raise
    raise UserError(
      f"{path} is not an intact parquet file: {' '.join(str(error).split())}"
    ) from None
  try:
    return table.to_pydict()
  except (pyarrow.ArrowException, OverflowError, ValueError) as error:  # such as for a date
    raise UserError(
      f"{path} has values that Python cannot represent ({' '.join(str(error).split())}); store them as "
      "texts or numbers"
    ) from None


def _are_paths(values: Sequence[Any]) -> bool:
  """Returns whether the values are paths of images: texts that end with a suffix of images."""
  return all(isinstance(value, str) and value.lower().endswith(SUFFIXES) for value in values)


def _files(
  root: pathlib.Path, path: str, table: Columns, images: Sequence[str], verify: bool
) -> tuple[File, ...]:
  """Returns the files of the images of a table."""
  listed = []
  for name in dict.fromkeys(value for column in images for value in table[column]):
    try:
      listed.append(listed_file(name, os.stat(root / name)))
    except (OSError, ValueError) as error:
      fault = error.strerror if isinstance(error, OSError) else None
      fault = (fault or "the path is not valid").lower()
      if name.partition("://")[0].lower() in ("http", "https", "ftp", "s3", "gs"):
        fault = "URLs are not read; download the image and give the path of its file"
      listed.append(File(name, 0, 0, fault=fault))
  return index_files(
    listed,
    lambda i: (root / listed[i].name).read_bytes(),
    str(root / pathlib.Path(path).name),
    verify=verify,
  )


def _numbers(values: Sequence[str]) -> Sequence[Any]:
  """Returns the numbers that the texts of a csv column contain, or the texts.

  An empty text among numbers is a missing value, None.
  """
  # Python reads "1_2" as 12, but it is a text.
  if not any(values) or any("_" in value for value in values):
    return values
  for kind in (int, float):
    try:
      return [kind(value) if value else None for value in values]
    except ValueError:
      continue
  return values
