"""Data sets in local folders of the library `datasets` of Hugging Face."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import re
from typing import Any, Literal

from contrastax.core import UserError
from contrastax.data.columns import Column
from contrastax.data.dataset import Dataset
from contrastax.data.encoded import image_column, image_shape
from contrastax.data.folder import TEST, TRAIN, report_faults
from contrastax.data.index import File, index_files
from contrastax.data.values import LABEL, SPLIT, dataset_of
from contrastax.nouns import nearest


def read_hugging_face(
  path: str,
  *,
  columns: tuple[str, ...] | None = None,
  label: str = LABEL,
  size: int | tuple[int, int] = 64,
  channels: Literal[1, 3] = 3,
  broken: Literal["skip", "fail"] = "skip",
  verify: bool = True,
  text_bytes: int = 512,
) -> Dataset:
  """Reads a folder of parquet files, or of `Dataset.save_to_disk`, as `data.load` describes it.

  Args:
    path: the folder. It may start with `~`.
    columns: the columns that are read, besides the label. None means all.
    label: the column with the classes. By default there need not be one.
    size: the side of the decoded images in pixels, or (height, width).
    channels: 3 for color, or 1 for gray.
    broken: "skip" lists images that cannot be decoded and leaves their rows out; "fail" raises an
      error.
    verify: see `index_folder`.
    text_bytes: the largest number of bytes of a text in UTF-8. Longer texts are cut.

  Returns:
    The data set. It has test examples if there are files of the splits `train` and `test`, or
    `train` and `validation`.

  Raises:
    UserError: the folder has no such files, a file is damaged, or a column is unsuitable.
  """
  shape = image_shape(size, channels)
  root = pathlib.Path(path).expanduser()
  splits = _splits(path, root)
  tables = {split: _tables(files) for split, files in splits.items()}
  schema = next(iter(tables.values())).schema
  features = _features(schema)
  import pyarrow

  try:
    table = pyarrow.concat_tables(tables.values())
  except pyarrow.ArrowInvalid:
    raise UserError(f"{path}: the splits {sorted(splits)} have different columns") from None
  if len({*schema.names}) != len(schema.names):
    raise UserError(f"{path} has two columns of one name; rename one")
  for name in (*(columns or ()), *(() if label == LABEL else (label,))):
    if name not in schema.names:
      raise UserError(f"{path} has no column {name!r}{nearest(name, schema.names)}")
  # If another column contains the classes, the column "label" is left out.
  wanted = [
    name for name in schema.names if name == label or name != LABEL or label not in schema.names
  ]
  if columns is not None:
    wanted = [name for name in wanted if name in (*columns, label, SPLIT)]
  table = table.select(wanted)
  images = [name for name in wanted if _is_image(schema, features, name)]
  image_columns: dict[str, Column] = {}
  keep = [True] * len(table)
  entries = {}
  faults: list[tuple[str, str]] = []
  for name in images:
    entries[name] = contents = _Contents(root, table[name])
    time = max(file.stat().st_mtime_ns for files in splits.values() for file in files)
    listed = [File(contents.name(row), contents.size(row), time) for row in range(len(table))]
    owner = f"{root.absolute()}:{name}"
    contents.files = index_files(listed, contents, owner, verify=verify)
    keep = [kept and not file.fault for kept, file in zip(keep, contents.files, strict=True)]
    faults += [(file.name, file.fault) for file in contents.files if file.fault]
  report_faults(path, faults, broken)
  usable = [row for row, kept in enumerate(keep) if kept]
  if not usable:
    raise UserError(f"{path} has no row whose images can be decoded")
  for name, contents in entries.items():
    image_columns[name] = image_column(
      lambda row, contents=contents: contents(usable[row]),
      [contents.files[row] for row in usable],
      shape,
    )
  try:
    values = table.drop_columns(images).take(usable).to_pydict()
  except (pyarrow.ArrowException, OverflowError, ValueError) as error:  # such as for a date
    raise UserError(
      f"{path} has values that Python cannot represent ({' '.join(str(error).split())}); leave their "
      "columns out by columns=(…)"
    ) from None
  if len(splits) > 1:
    split = [name for name, part in tables.items() for _ in range(len(part))]
    values[SPLIT] = [split[row] for row in usable]
  names = features.get(label, {}).get("names")
  classes = tuple(map(str, names)) if isinstance(names, list) else ()
  values = {LABEL if name == label else name: each for name, each in values.items()}
  return dataset_of(path, values, image_columns, text_bytes, classes)


class _Contents:
  """The encoded images of a column, by row."""

  def __init__(self, root: pathlib.Path, column: Any):
    self._root, self._column = root, column
    self.files: tuple[File, ...] = ()

  def _entry(self, row: int) -> tuple[bytes | None, str]:
    value = self._column[row].as_py()
    if isinstance(value, bytes) or value is None:
      return value, ""
    return value["bytes"], value.get("path") or ""

  def __call__(self, row: int) -> bytes:
    content, path = self._entry(row)
    if content is not None or not path:
      return content or b""
    if not (self._root / path).is_file():  # A pipe or a device is never read.
      raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return (self._root / path).read_bytes()

  def name(self, row: int) -> str:
    """Returns the name of an image: its path, or its row."""
    return f"{row}:{self._entry(row)[1]}"

  def size(self, row: int) -> int:
    """Returns the size of an image in bytes."""
    return len(self._entry(row)[0] or b"")


def _splits(path: str, root: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Returns the files of the training and test examples by the name of their split."""
  if not root.is_dir():
    raise UserError(f"there is no folder {path}; a relative path starts in the current folder")
  files = sorted(
    each for each in root.rglob("*") if each.suffix in (".parquet", ".arrow") and each.is_file()
  )
  files = [each for each in files if not each.name.startswith(("cache-", "."))]
  if not files:
    raise UserError(f"{path} has no parquet or arrow file; give the folder of a data set")

  def split_of(file: pathlib.Path) -> str:
    parts = [*file.relative_to(root).parts[:-1], *re.split(r"[-.]", file.name)]
    known = [part for part in parts if part in TRAIN + TEST]
    return known[-1] if known else ""

  by_split: dict[str, list[pathlib.Path]] = {}
  for file in files:
    by_split.setdefault(split_of(file), []).append(file)
  train = next((name for name in TRAIN if name in by_split), None)
  test = next((name for name in TEST if name in by_split), None)
  if train:
    folders = sorted({os.fspath(file.parent.relative_to(root)) for file in by_split[train]})
    if len(folders) > 1:
      raise UserError(
        f"{path} has files of the split {train!r} in {len(folders)} folders, such as {folders[0]} and "
        f"{folders[1]}; give the folder of one data set"
      )
  if train and test:
    return {name: by_split[name] for name in (train, test)}
  return {"": [file for part in by_split.values() for file in part]}


def _tables(files: list[pathlib.Path]) -> Any:
  """Reads the rows of files. Arrow files remain on disk and are mapped into memory."""
  import pyarrow
  import pyarrow.parquet

  tables = []
  for file in files:
    try:
      if file.suffix == ".parquet":
        tables.append(pyarrow.parquet.read_table(file))
      else:
        tables.append(pyarrow.ipc.open_stream(pyarrow.memory_map(os.fspath(file))).read_all())
    except (pyarrow.ArrowException, OSError) as error:
      fault = " ".join(str(error).split())
      raise UserError(f"{file} is not an intact file of a data set: {fault}") from None
  try:
    return pyarrow.concat_tables(tables)
  except pyarrow.ArrowInvalid:
    raise UserError(f"{files[0].parent}: the files have different columns") from None


def _features(schema: Any) -> dict[str, dict[str, Any]]:
  """Returns the types that `datasets` has recorded for the columns."""
  try:
    recorded = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    return {name: each for name, each in recorded.items() if isinstance(each, dict)}
  except (AttributeError, KeyError, TypeError, ValueError):
    return {}


def _is_image(schema: Any, features: dict[str, dict[str, Any]], name: str) -> bool:
  """Returns whether a column contains encoded images."""
  kind = str(schema.field(name).type)
  encoded = kind in ("binary", "large_binary") or kind.startswith("struct<bytes: binary")
  return encoded and features.get(name, {}).get("_type", "Image") == "Image"
