"""Data sets in folders of images."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset, divide
from contrastax.data.encoded import file_column, image_shape
from contrastax.data.index import index_folder, write_faults
from contrastax.labels import NONE

TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
SHOWN = 5  # faulty files that a message lists


def read_folder(
  path: str,
  *,
  size: int | tuple[int, int] = 64,
  channels: Literal[1, 3] = 3,
  broken: Literal["skip", "fail"] = "skip",
  verify: bool = True,
) -> Dataset:
  """Reads the image files of a folder, as `data.load` describes it.

  Args:
    path: the folder. It may start with `~`.
    size: the side of the decoded images in pixels, or (height, width).
    channels: 3 for color, or 1 for gray.
    broken: "skip" lists files that cannot be decoded and leaves them out; "fail" raises an error.
    verify: see `index_folder`.

  Returns:
    The data set. It has test examples if the folder is divided into `train` and `test`.

  Raises:
    UserError: the folder has no images, or an argument is invalid.
  """
  shape = image_shape(size, channels)
  root = pathlib.Path(path).expanduser()
  files = index_folder(root, verify=verify)
  usable = [file for file in files if not file.fault]
  report_faults(path, [(file.name, file.fault) for file in files if file.fault], broken)
  if not usable:
    raise UserError(f"{path} contains no image files that can be decoded; give a folder of images")
  parts_of_split = _splits(path, [pathlib.PurePath(file.name).parts for file in usable])
  if parts_of_split is not None:
    usable = [file for file in usable if pathlib.PurePath(file.name).parts[0] in parts_of_split]
  image = file_column(root, usable, shape)
  names = [pathlib.PurePath(file.name).parts for file in usable]
  depth = 0 if parts_of_split is None else 1
  label, classes = number_classes(
    [parts[depth] if len(parts) > depth + 1 else None for parts in names]
  )
  fields: dict[str, Any] = {"image": image} | ({} if label is None else {"label": label})
  if parts_of_split is None:
    return Dataset(fields, {}, classes)
  return divide(fields, np.array([parts[0] == parts_of_split[1] for parts in names]), classes)


def number_classes(names: Sequence[str | None]) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """Numbers class names in their sorted order.

  Args:
    names: the class of each example; None means no label.

  Returns:
    The labels int32 [n], where −1 means no label, and the names of the classes; (None, ()) if there
    are fewer than two classes.
  """
  classes = sorted({name for name in names if name is not None})
  if len(classes) < 2:
    return None, ()
  number: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
  labels = np.array([number.get(name, NONE) for name in names], np.int32)
  return labels, tuple(map(printable, classes))


def report_faults(
  place: str, faults: Sequence[tuple[str, str]], broken: Literal["skip", "fail"]
) -> None:
  """Prints the first files that are left out, and why, and writes the list of all; see `index.faults`.

  Args:
    place: the folder or file that was read.
    faults: (name, reason) of each file.
    broken: "skip" prints a message on stderr; "fail" raises it.

  Raises:
    UserError: there are faults, and `broken` is "fail".
  """
  if broken not in ("skip", "fail"):
    raise UserError(f"broken must be 'skip' or 'fail', not {broken!r}")
  lines = [f"{printable(name)}: {printable(reason)}" for name, reason in faults]
  path = write_faults(place, lines)
  if not faults:
    return
  more = len(faults) - SHOWN
  if more > 0:
    lines = [*lines[:SHOWN], f"{more:,} more" + (f"; all are listed in {path}" if path else "")]
  files = "1 file" if len(faults) == 1 else f"{len(faults):,} files"
  if broken == "fail":
    raise UserError(
      f"{place}: {files} cannot be decoded ({'; '.join(lines)}); remove or repair them, or set broken "
      "to 'skip'"
    )
  print(f"{place}: {files} left out", *lines, sep="\n  ", file=sys.stderr, flush=True)


def printable(name: str) -> str:
  """Returns a file name as valid UTF-8 in one line. Other bytes are written as escapes."""

  def escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # a byte that is not UTF-8, as Python represents it
      return f"\\x{ord(c) - 0xDC00:02x}"
    return c if c.isprintable() else c.encode("unicode_escape").decode()

  return "".join(map(escaped, name))


def _splits(path: str, names: Sequence[tuple[str, ...]]) -> tuple[str, str] | None:
  """Returns the subfolders of training and test images, or None if there are no such two.

  Args:
    path: the folder, for messages.
    names: the parts of the path of each image.
  """
  tops = {parts[0].lower(): parts[0] for parts in names if len(parts) > 1}
  train = [tops[name] for name in TRAIN if name in tops]
  test = [tops[name] for name in TEST if name in tops]
  if not train or not test or not tops.keys() <= {*TRAIN, *TEST}:
    return None
  if loose := [parts[0] for parts in names if len(parts) == 1]:
    raise UserError(
      f"{path} has images beside the subfolders {train[0]} and {test[0]}, such as "
      f"{printable(loose[0])}; move them into one of the two"
    )
  if others := train[1:] + test[1:]:
    print(
      f"{path}: {train[0]} and {test[0]} are the splits; left out: {', '.join(others)}",
      file=sys.stderr,
    )
  return train[0], test[0]
