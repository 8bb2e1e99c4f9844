"""Data sets in npz files of NumPy."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset, encode_texts
from contrastax.labels import NONE
from contrastax.views.images import check_images

TEST = "test_"
# The errors, besides those named below, of zipfile and NumPy for a damaged or encrypted file.
DAMAGED = (
  ArithmeticError, LookupError, RuntimeError, SyntaxError, lzma.LZMAError, struct.error, zlib.error,
)  # fmt: skip


def read_npz(path: str) -> Dataset:
  """Reads the data set of an npz file, as `data.load` describes it.

  Args:
    path: path of the file. It may start with `~`.

  Returns:
    The data set. Each array of the file is a field. Without arrays of test examples, none are held
    out.

  Raises:
    UserError: the file is missing or damaged, or one of its arrays is unsuitable.
  """
  path = os.path.expanduser(path)
  arrays = read_arrays(path)
  train = {name: values for name, values in arrays.items() if not name.startswith(TEST)}
  test = {name.removeprefix(TEST): arrays[name] for name in arrays if name.startswith(TEST)}
  if not train:
    raise UserError(f"{path} has no array of training examples; write one with np.savez")
  if missing := [*(test.keys() - train.keys()), *(train.keys() - test.keys() if test else ())]:
    name = min(missing)
    raise UserError(f"{path}: give both {name!r} and {TEST + name!r}, or neither")
  parts = {"": train, TEST: test} if test else {"": train}
  for prefix, part in parts.items():
    # The message about the shape of images is more helpful than one about rows.
    if "image" in part:
      part["image"] = _images(path, f"{prefix}image", part["image"])
    _check_rows(path, prefix, part)
  classes: tuple[str, ...] = ()
  for name in train:
    both = [part[name] for part in parts.values()]
    if name == "image":
      _check_shapes(path, both)
    elif name == "label":
      both = [_labels(path, f"{prefix}label", part["label"]) for prefix, part in parts.items()]
      both, classes = _number_classes(path, both)
    else:
      both = _fields(path, name, both)
    for part, values in zip(parts.values(), both, strict=True):
      part[name] = values
  return Dataset(train, test, classes)


def read_arrays(path: str) -> dict[str, np.ndarray]:
  """Reads the arrays of an npz file.

  Raises:
    UserError: the file is missing, damaged or too large, or contains objects.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: np.asarray(file[name]) for name in file.files}
  except FileNotFoundError:
    raise UserError(
      f"there is no file {path}; a relative path starts in the current folder"
    ) from None
  except PermissionError:
    raise UserError(f"{path} cannot be read: permission denied") from None
  except MemoryError:
    raise UserError(f"{path} has arrays that do not fit into memory; use a smaller file") from None
  except (AttributeError, EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile):
    raise UserError(f"{path} is not an npz file of plain arrays; write one with np.savez") from None
  except DAMAGED as error:
    fault = " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path} cannot be read: {fault}; write it again with np.savez") from None


def _main_array(arrays: dict[str, np.ndarray]) -> str:
  """Returns the name of the array whose rows messages count."""
  return "image" if "image" in arrays else min(arrays)


def _check_rows(path: str, prefix: str, arrays: dict[str, np.ndarray]) -> None:
  """Raises UserError unless all arrays have one row per example."""
  main = _main_array(arrays)
  for name, values in arrays.items():
    if not values.ndim:
      raise UserError(
        f"{path}: {prefix}{name} is a single value; give one row per example, or leave it out"
      )
    if not len(values):
      raise UserError(f"{path}: {prefix}{name} has no rows; give 1 example or more")
  for name, values in arrays.items():
    if name != "label" and len(values) != len(arrays[main]):
      raise UserError(
        f"{path}: {prefix}{name} has {len(values)} rows, but {prefix}{main} has "
        f"{len(arrays[main])}; give one row per example, or leave it out"
      )
  if "label" in arrays and arrays["label"].shape != (len(arrays[main]),):
    things = "images" if main == "image" else "examples"
    name = f"{prefix}label"
    raise UserError(
      f"{path}: {name} must be one class for each of {len(arrays[main])} {things}, "
      f"[{len(arrays[main])}], not {list(arrays['label'].shape)}; use {name}[:, 0] for a column, "
      f"{name}.argmax(1) for one-hot rows"
    )


def _images(path: str, name: str, image: np.ndarray) -> np.ndarray:
  if image.ndim == 3:
    image = image[..., None]
  if image.ndim != 4 or not image.size:
    raise UserError(f"{path}: {name} must be [n, h, w] or [n, h, w, c], not {list(image.shape)}")
  check_images(f"{path}: {name}", image)
  return image if image.dtype == np.uint8 else image.astype(np.float32)


def _check_shapes(path: str, images: list[np.ndarray]) -> None:
  shapes = [each.shape[1:] for each in images]
  if len(set(shapes)) > 1:
    raise UserError(
      f"{path}: images are {shapes[0]}, but test images are {shapes[1]}; give them the same shape"
    )


def _labels(path: str, name: str, label: np.ndarray) -> np.ndarray:
  """Returns the labels as integers or texts."""
  if label.dtype.kind in "US":
    return _texts(path, name, label)
  if label.dtype.kind == "b":
    return label
  if label.dtype.kind == "f" and np.isfinite(label).all() and (label == np.round(label)).all():
    label = label.astype(np.int64)
  if label.dtype.kind not in "iu":
    raise UserError(
      f"{path}: {name} must be classes: integers, booleans or texts, not {label.dtype}; give "
      "regression targets another name, such as 'target'"
    )
  if label.min() < NONE or label.max() > np.iinfo(np.int64).max:
    wrong = label.min() if label.min() < NONE else label.max()
    raise UserError(
      f"{path}: {name} must be 0 or more and below 2^63, or -1 for no label, not {wrong}; "
      f"np.unique({name}, return_inverse=True)[1] numbers the classes"
    )
  return label.astype(np.int64)


def _number_classes(
  path: str, labels: list[np.ndarray]
) -> tuple[list[np.ndarray], tuple[str, ...]]:
  """Numbers the classes from 0, because a few classes may have labels with large values.

  Returns:
    The labels of each part as int32, where −1 means no label, and the names of the classes.
  """
  if len({each.dtype.kind for each in labels}) > 1:
    kinds = " and ".join(str(each.dtype) for each in labels)
    raise UserError(f"{path}: label and test_label are {kinds}; give them one type")
  joined = np.concatenate(labels)
  known = joined != NONE if joined.dtype.kind == "i" else np.ones(len(joined), bool)
  values, numbers = np.unique(joined[known], return_inverse=True)
  if len(values) < 2:
    shown = values[0] if len(values) else NONE
    raise UserError(
      f"{path}: all labels are {shown}; leave the labels out, or use two classes or more"
    )
  numbered = np.full(len(joined), NONE, np.int32)
  numbered[known] = numbers
  return _divided(numbered, labels), tuple(str(value) for value in values)


def _fields(path: str, name: str, both: list[np.ndarray]) -> list[np.ndarray]:
  """Returns a field of both parts: texts as bytes, and numbers as they are."""
  for values, prefix in zip(both, ("", TEST), strict=False):
    if values.dtype.kind not in "biufUS":
      raise UserError(
        f"{path}: {prefix}{name} must be numbers, booleans or texts, not {values.dtype}; leave it out"
      )
  if len({values.shape[1:] for values in both}) > 1:
    shapes = " and ".join(str(list(values.shape[1:])) for values in both)
    raise UserError(f"{path}: the rows of {name} and {TEST}{name} are {shapes}; give one shape")
  if not any(values.dtype.kind in "US" for values in both):
    return both
  if both[0].ndim != 1:
    raise UserError(
      f"{path}: {name} must be one text per example, [n], not {list(both[0].shape)}; write one array "
      "per text"
    )
  texts = [_texts(path, name, values) for values in both]
  return _divided(encode_texts([str(text) for text in np.concatenate(texts)]), texts)


def _divided(joined: np.ndarray, parts: list[np.ndarray]) -> list[np.ndarray]:
  """Divides joined rows into parts as long as the given ones."""
  return np.split(joined, np.cumsum([len(part) for part in parts])[:-1])


def _texts(path: str, name: str, values: np.ndarray) -> np.ndarray:
  """Returns texts as strings; bytes are decoded as UTF-8."""
  try:
    return values if values.dtype.kind == "U" else np.char.decode(values, "utf-8")
  except UnicodeDecodeError as error:
    raise UserError(f"{path}: {name} is not UTF-8 ({error.reason}); save it as strings") from None
