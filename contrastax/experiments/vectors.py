"""Files of embeddings: parquet, npz and csv. They are written part by part and read as an index."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from contrastax.core import UserError
from contrastax.files import unfinished_of

SUFFIXES = (".parquet", ".npz", ".csv")
ABOUT = "contrastax"
"""The key of the description in the metadata of a parquet file, and in an npz file."""


class Index(NamedTuple):
  """A file of embeddings.

  Args:
    vectors: float [n, d].
    names: the name of each example.
    classes: the name of each example's class, or None.
    about: what the vectors were computed from, see `embed_data`.
  """

  vectors: np.ndarray
  names: Sequence[str]
  classes: Sequence[str] | None
  about: Mapping[str, Any]


def write_vectors(
  path: pathlib.Path,
  columns: Mapping[str, Sequence[Any]],
  parts: Sequence[Callable[[], np.ndarray]],
  shape: tuple[int, int],
  dtype: np.dtype,
  about: Mapping[str, Any],
) -> None:
  """Writes a file of embeddings. After a kill, the path has its old content.

  Args:
    path: the file, whose suffix is one of `SUFFIXES`.
    columns: {name: a value of each example}. They come before the vectors.
    parts: functions that return the vectors of successive examples.
    shape: the shape of all vectors.
    dtype: their type.
    about: what the vectors were computed from. A csv file does not contain it.
  """
  writers = {".parquet": _write_parquet, ".npz": _write_npz, ".csv": _write_csv}
  unfinished = unfinished_of(path)
  try:
    writers[path.suffix.lower()](unfinished, columns, parts, shape, dtype, json.dumps(about))
    with open(unfinished, "rb") as file:
      os.fsync(file.fileno())
    unfinished.replace(path)
  except BaseException:
    with contextlib.suppress(OSError):
      unfinished.unlink(missing_ok=True)
    raise


def read_index(path: pathlib.Path) -> Index:
  """Reads a parquet or npz file of embeddings.

  Raises:
    UserError: the file is missing or damaged, or was not written by `contrastax embed`.
  """
  readers = {".parquet": _read_parquet, ".npz": _read_npz}
  if path.suffix.lower() not in readers:
    raise UserError(f"the index {path} must be a .parquet or .npz file of contrastax embed")
  try:
    index = readers[path.suffix.lower()](path)
    if not isinstance(index.about, dict) or index.vectors.ndim != 2:
      raise ValueError("it has no vectors")
    columns = [each for each in (index.names, index.classes) if each is not None]
    if any(len(each) != len(index.vectors) for each in columns):
      raise ValueError("the numbers of vectors, names and classes differ")
    if not all(isinstance(name, str) for each in columns for name in each):
      raise ValueError("a name is not a text")
    return index
  except FileNotFoundError:
    raise UserError(
      f"there is no index {path}; write it with contrastax embed --out={path}"
    ) from None
  except Exception as error:  # Readers of damaged files raise errors of many classes.
    fault = " ".join(str(error).split()) or type(error).__name__
    raise UserError(
      f"{path} is not an intact file of contrastax embed: {fault}; write it again"
    ) from None


def _write_parquet(
  path: pathlib.Path,
  columns: Mapping[str, Sequence[Any]],
  parts: Sequence[Callable[[], np.ndarray]],
  shape: tuple[int, int],
  dtype: np.dtype,
  about: str,
) -> None:
  import pyarrow as pa
  from pyarrow.parquet import ParquetWriter

  fields = [(name, pa.int32() if name == "label" else pa.string()) for name in columns]
  vector = pa.list_(pa.from_numpy_dtype(dtype), shape[1])
  schema = pa.schema([*fields, ("vector", vector)], metadata={ABOUT: about})
  with ParquetWriter(path, schema) as writer:
    for start, rows in _numbered(parts):
      stop = start + len(rows)
      arrays = [pa.array(columns[name][start:stop], kind) for name, kind in fields]
      flat = pa.array(rows.reshape(-1))
      arrays.append(pa.FixedSizeListArray.from_arrays(flat, shape[1]))
      writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _write_npz(
  path: pathlib.Path,
  columns: Mapping[str, Sequence[Any]],
  parts: Sequence[Callable[[], np.ndarray]],
  shape: tuple[int, int],
  dtype: np.dtype,
  about: str,
) -> None:
  with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
    with archive.open("vector.npy", "w", force_zip64=True) as file:
      header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
      np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
      for part in parts:
        file.write(np.ascontiguousarray(part()).data)
    for name, values in {**columns, ABOUT: about}.items():
      with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.asarray(values), allow_pickle=False)


def _write_csv(
  path: pathlib.Path,
  columns: Mapping[str, Sequence[Any]],
  parts: Sequence[Callable[[], np.ndarray]],
  shape: tuple[int, int],
  dtype: np.dtype,
  about: str,
) -> None:
  digits = ".9g" if dtype == np.float32 else ".5g"  # These digits determine the value.
  with open(path, "w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file)
    writer.writerow([*columns, *(f"v{i}" for i in range(shape[1]))])
    for start, rows in _numbered(parts):
      for i, row in enumerate(rows.tolist(), start):
        texts = [format(value, digits) for value in row]
        writer.writerow([*(values[i] for values in columns.values()), *texts])


def _numbered(parts: Sequence[Callable[[], np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
  """Yields the rows of each part with the number of the first one."""
  start = 0
  for part in parts:
    rows = part()
    yield start, rows
    start += len(rows)


def _read_parquet(path: pathlib.Path) -> Index:
  import pyarrow.parquet

  table = pyarrow.parquet.read_table(path)
  about = json.loads((table.schema.metadata or {})[ABOUT.encode()])
  column = table["vector"]
  width = column.type.list_size
  chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
  vectors = np.concatenate(chunks).reshape(-1, width)
  classes = table["class"].to_pylist() if "class" in table.column_names else None
  return Index(vectors, table["name"].to_pylist(), classes, about)


def _read_npz(path: pathlib.Path) -> Index:
  with np.load(path, allow_pickle=False) as arrays:
    about = json.loads(str(arrays[ABOUT]))
    classes = arrays["class"].tolist() if "class" in arrays else None
    return Index(arrays["vector"], arrays["name"].tolist(), classes, about)
