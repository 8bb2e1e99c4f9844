"""Fields whose rows are read when they are needed."""

from __future__ import annotations

import dataclasses
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import jax
import numpy as np

CHUNK = 32  # rows that one thread reads at a time


class Reader(Protocol):
  """The rows of a field in files."""

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of one row."""
    ...

  @property
  def dtype(self) -> np.dtype:
    """The type of the values."""
    ...

  @property
  def codes(self) -> np.ndarray:
    """A checksum of the content of each row, uint64 [n]."""
    ...

  @property
  def names(self) -> np.ndarray | None:
    """The name of each row, such as the path of its file, or None."""
    ...

  def read(self, rows: np.ndarray) -> np.ndarray:
    """Returns the rows with these numbers. Several threads may call it at the same time."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
  """A field whose rows are read when they are needed, such as images in files.

  It has the attributes `shape`, `dtype` and `ndim` of an array. `column[rows]` with a
  slice or an array selects rows and reads nothing; `column[3]` reads one row, and
  `np.asarray(column)` reads all rows.

  Args:
    reader: the rows in files.
    rows: int64 [n], the numbers of the rows.

  Example:
    >>> import numpy as np
    >>> from contrastax.data.columns import Column, Kept
    >>> column = Column(Kept(np.arange(6).reshape(3, 2)), np.arange(3))
    >>> column[1:].shape, np.asarray(column[1:]).tolist()
    ((2, 2), [[2, 3], [4, 5]])
  """

  reader: Reader
  rows: np.ndarray

  @property
  def shape(self) -> tuple[int, ...]:
    """The number of rows and the shape of a row."""
    return (len(self.rows), *self.reader.shape)

  @property
  def dtype(self) -> np.dtype:
    """The type of the values."""
    return self.reader.dtype

  @property
  def ndim(self) -> int:
    """The number of axes."""
    return len(self.shape)

  @property
  def nbytes(self) -> int:
    """The size in bytes of all rows after they are read."""
    return int(np.prod(self.shape)) * self.dtype.itemsize

  @property
  def names(self) -> np.ndarray | None:
    """The names of the rows, or None."""
    names = self.reader.names
    return None if names is None else names[self.rows]

  @property
  def codes(self) -> np.ndarray:
    """The checksums of the rows, uint64 [n]."""
    return self.reader.codes[self.rows]

  @property
  def checksum(self) -> int:
    """A 32-bit checksum of the rows, which is computed from the checksums of the reader."""
    text = f"{self.dtype} {self.shape}"
    return zlib.crc32(self.codes.tobytes(), zlib.crc32(text.encode()))

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, rows: Any) -> Any:
    if isinstance(rows, int | np.integer):
      return self.reader.read(self.rows[rows : rows + 1 or None])[0]
    return dataclasses.replace(self, rows=self.rows[rows])

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    if isinstance(self.reader, Kept):
      result = self.reader.read(self.rows)
      return result if dtype is None else result.astype(dtype)
    result = np.empty(self.shape, self.dtype)
    starts = range(0, len(self), CHUNK)

    def fill(start: int) -> None:
      part = slice(start, start + CHUNK)
      result[part] = self.reader.read(self.rows[part])

    with ThreadPoolExecutor(os.cpu_count()) as threads:
      for _ in threads.map(fill, starts):
        pass
    return result if dtype is None else result.astype(dtype)


class Kept:
  """The rows of a field in memory.

  Args:
    values: the rows, [n, …].
    codes: the checksum of each row, uint64 [n]. None computes them from the values.
    names: the name of each row, or None.
  """

  def __init__(
    self, values: np.ndarray, codes: np.ndarray | None = None, names: np.ndarray | None = None
  ):
    self._values, self.names = values, names
    self.shape, self.dtype = values.shape[1:], values.dtype
    self.codes = _codes(values) if codes is None else codes

  def read(self, rows: np.ndarray) -> np.ndarray:
    """Returns the rows with these numbers."""
    return self._values[rows]


def keep(tree: Any) -> Any:
  """Reads the columns of a tree, such as a `Dataset`, into memory. Each file is read once.

  The checksums and the names remain.
  """
  leaves, structure = jax.tree.flatten(tree)
  rows: dict[int, np.ndarray] = {}
  readers = {id(leaf.reader): leaf.reader for leaf in leaves if isinstance(leaf, Column)}
  for number in readers:
    used = [leaf.rows for leaf in leaves if isinstance(leaf, Column) and id(leaf.reader) == number]
    rows[number] = np.unique(np.concatenate(used))
  kept = {
    number: Kept(
      np.asarray(Column(reader, rows[number])),
      reader.codes[rows[number]],
      None if reader.names is None else reader.names[rows[number]],
    )
    for number, reader in readers.items()
  }
  return structure.unflatten(
    Column(kept[id(leaf.reader)], np.searchsorted(rows[id(leaf.reader)], leaf.rows))
    if isinstance(leaf, Column)
    else leaf
    for leaf in leaves
  )


def _codes(values: np.ndarray) -> np.ndarray:
  return np.array([zlib.crc32(np.ascontiguousarray(row).data) for row in values], np.uint64)
