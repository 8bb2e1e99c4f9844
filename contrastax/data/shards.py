"""Data sets in ArrayRecord files, which `contrastax prepare` writes.

A folder has the files `SPLIT-FIELD-00000.arrayrecord`, … of each split and of each field of two axes
or more, in which a record has the bytes of one example. The file `SPLIT.npz` has the other fields,
such as the labels, and the checksum of each record. `dataset.json` is written last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import zipfile
import zlib
from typing import Any

import numpy as np
from tqdm import tqdm

from contrastax.core import UserError
from contrastax.data.columns import Column
from contrastax.data.dataset import Dataset
from contrastax.files import read_json, write_json

SHARD = 2**28  # the size of one file in bytes, before compression
BLOCK = 256  # examples that are converted at a time
OPTIONS = "group_size:1,zstd:1"  # With one record per group, records can be read in any order.
INFO = "dataset.json"
DAMAGED = (AttributeError, KeyError, MemoryError, OSError, TypeError, ValueError)
CODES, VALUES = "codes of ", "values of "
"""What precedes the name of a field in an npz file."""
RECORDS = re.compile(r"(train|test)-.+-\d{5}\.arrayrecord", re.DOTALL)
"""The names of the files that a killed call leaves behind."""
SPLITS = ("train", "test")


def write_shards(dataset: Dataset, folder: str | os.PathLike, **facts: Any) -> None:
  """Writes a data set to ArrayRecord files.

  A killed call leaves a folder without `dataset.json`, which is not a data set. The same call then
  writes it again.

  Args:
    dataset: the data set, whose fields are arrays or columns.
    folder: the folder, which is created. It must not contain other files.
    facts: further entries of `dataset.json`, such as the source and the license of the data.

  Raises:
    UserError: the folder contains other files, or a data set.
  """
  folder = pathlib.Path(folder)
  if folder.exists() and not folder.is_dir():
    raise UserError(f"{folder} is a file; give a folder")
  folder.mkdir(parents=True, exist_ok=True)
  if (folder / INFO).exists():
    raise UserError(f"{folder} already contains a data set; give another folder, or remove it")
  # The files of a killed call are removed. An npz file is one of these only beside records.
  files = {file.name for file in folder.iterdir()}
  ours = {name for name in files if RECORDS.fullmatch(name)}
  ours |= files & {"train.npz", "test.npz"} if ours else set()
  if others := sorted(files - ours):
    raise UserError(f"{folder} contains {others[0]!r}; give an empty folder")
  for name in ours:
    (folder / name).unlink()
  content: dict[str, Any] = {"classes": list(dataset.classes), "fields": {}, "shards": {}, **facts}
  for split, fields in zip(SPLITS, dataset[:2], strict=True):
    small, shards = {}, {}
    for name, values in fields.items():
      if not isinstance(values, np.ndarray | Column):
        raise UserError(f"the field {name!r} is not one array; only arrays can be written")
      if values.ndim < 2:
        small[VALUES + name] = np.asarray(values)
        continue
      if "/" in name or not name.isprintable():
        raise UserError(
          f"the field {name!r} cannot be a part of the name of a file; rename it, or leave it out"
        )
      content["fields"][name] = {"shape": list(values.shape[1:]), "dtype": str(values.dtype)}
      shards[name], small[CODES + name] = _write_field(folder, f"{split}-{name}", values)
    if fields:
      content["shards"][split] = shards
      with open(folder / f"{split}.npz", "wb") as file:
        np.savez(file, **small)  # pyright: ignore[reportArgumentType]  # its stub types all keywords
  write_json(folder / INFO, content)


def read_shards(path: str) -> Dataset:
  """Reads a folder of ArrayRecord files. Records are read when they are needed.

  Args:
    path: the folder. It may start with `~`.

  Raises:
    UserError: the folder was not written by `write_shards`, or a file is missing or damaged.
  """
  folder = pathlib.Path(path).expanduser()
  try:
    info = read_json(folder / INFO, dict)
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(
      f"{path} has no {INFO}; give a folder that contrastax prepare has written completely"
    ) from None
  try:
    if "train" not in info["shards"]:
      raise ValueError("there are no training examples")
    parts = [
      _read_split(folder, split, info["fields"], info["shards"][split])
      if split in info["shards"]
      else {}
      for split in SPLITS
    ]
    return Dataset(parts[0], parts[1], tuple(info["classes"]))
  except UserError:
    raise
  except (*DAMAGED, zipfile.BadZipFile) as error:
    fault = " ".join(str(error).split())
    raise UserError(
      f"{path} is damaged ({fault}); write it again with contrastax prepare"
    ) from None


def _write_field(folder: pathlib.Path, stem: str, values: Any) -> tuple[list[str], np.ndarray]:
  """Writes the shards of a field, and returns their names and the checksum of each record."""
  from array_record.python.array_record_module import ArrayRecordWriter

  row_bytes = max(1, int(np.prod(values.shape[1:])) * values.dtype.itemsize)
  blocks = max(1, SHARD // (row_bytes * BLOCK))  # in one shard
  names, codes = [], []
  starts = range(0, len(values), BLOCK)
  progress = tqdm(total=len(values), desc=f"writing {stem}", unit=" examples", delay=1, leave=False)
  with progress:
    for first in range(0, len(starts), blocks):
      names.append(f"{stem}-{len(names):05d}.arrayrecord")
      path = os.fspath(folder / names[-1])
      try:
        with contextlib.closing(ArrayRecordWriter(path, OPTIONS)) as writer:
          for start in starts[first : first + blocks]:
            for row in np.ascontiguousarray(np.asarray(values[start : start + BLOCK])):
              writer.write(row.tobytes())
              codes.append(zlib.crc32(row))
              progress.update()
      except RuntimeError as error:  # The library has no other error, such as for a full disk.
        fault = str(error).partition(";")[0].removeprefix("write() failed: ")
        raise UserError(
          f"{path} cannot be written: {fault}; free some space and try again"
        ) from None
  return names, np.array(codes, np.uint64)


def _read_split(
  folder: pathlib.Path, split: str, fields: dict[str, Any], shards: dict[str, list[str]]
) -> dict[str, Any]:
  with np.load(folder / f"{split}.npz", allow_pickle=False) as file:
    arrays = dict(file)
  columns = {}
  for name, files in shards.items():
    codes = arrays.pop(CODES + name)
    shape, dtype = tuple(fields[name]["shape"]), np.dtype(fields[name]["dtype"])
    if not all(type(side) is int and side >= 0 for side in shape):
      raise ValueError(f"the shape {shape}")
    if outside := [file for file in files if os.path.basename(file) != file]:
      raise ValueError(f"{outside[0]!r} is not in the folder")
    paths = tuple(os.fspath(folder / file) for file in files)
    for path in paths:
      if not os.path.isfile(path):
        raise UserError(f"{path} is missing; write {folder} again with contrastax prepare")
    columns[name] = Column(Records(paths, shape, dtype, codes), np.arange(len(codes)))
    if len(codes) and not paths:
      raise ValueError(f"the field {name!r} has no file")
    if len(codes):
      columns[name][-1]  # It finds missing records, and a wrong shape before it takes memory.
  return {**columns, **{name.removeprefix(VALUES): values for name, values in arrays.items()}}


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
  """A reader of the rows in ArrayRecord files.

  Args:
    paths: the files, in order.
    shape: the shape of a row.
    dtype: the type of the values.
    codes: a checksum of each row, uint64 [n].
  """

  paths: tuple[str, ...]
  shape: tuple[int, ...]
  dtype: np.dtype
  codes: np.ndarray

  @property
  def names(self) -> None:
    """The rows have no names."""

  @functools.cached_property
  def _source(self) -> Any:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource(self.paths)

  def read(self, rows: np.ndarray) -> np.ndarray:
    """Returns the rows with these numbers.

    Raises:
      UserError: a file is damaged.
    """
    try:
      records = self._source.__getitems__(rows.tolist())
      return np.frombuffer(b"".join(records), self.dtype).reshape(len(rows), *self.shape)
    except (IndexError, OSError, RuntimeError, ValueError) as error:
      fault = " ".join(str(error).split())[:200]
      raise UserError(
        f"{os.path.dirname(self.paths[0])} is damaged ({fault}); write it again with contrastax prepare"
      ) from None
