"""Converts the inputs of a loaded encoder: arrays, paths of images, PIL images and texts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from contrastax.core import UserError
from contrastax.data.columns import Column
from contrastax.data.dataset import encode_texts
from contrastax.data.decode import NotDecoded, decode
from contrastax.data.folder import printable

Spec = jax.ShapeDtypeStruct


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
  """A reader of image files and PIL images, which are decoded when they are needed.

  Args:
    items: paths and PIL images.
    shape: (height, width, channels) of the decoded images.
  """

  items: Sequence[str | os.PathLike | Image.Image]
  shape: tuple[int, int, int]
  dtype: np.dtype = dataclasses.field(default=np.dtype(np.uint8), init=False)

  @property
  def codes(self) -> np.ndarray:
    """Zeros, because the files are not read before they are needed."""
    return np.zeros(len(self.items), np.uint64)

  @property
  def names(self) -> None:
    """No names."""

  def read(self, rows: np.ndarray) -> np.ndarray:
    """Decodes the images with these numbers, see `data.decode.decode`."""
    images = np.empty((len(rows), *self.shape), self.dtype)
    for place, row in enumerate(rows):
      item = self.items[int(row)]
      try:
        images[place] = decode(item, self.shape)
      except NotDecoded as error:
        name = f"image {int(row)}" if isinstance(item, Image.Image) else printable(os.fspath(item))
        fix = "; contrastax.data.read('folder:…') opens a folder" if _is_folder(item) else ""
        raise UserError(f"{name} cannot be decoded: {error}{fix}") from None
    return images


def convert(spec: Any, inputs: Any) -> tuple[Any, bool]:
  """Converts inputs to arrays with one row per example.

  Args:
    spec: the shape and type of one example: a `jax.ShapeDtypeStruct`, or a tree of them.
    inputs: see `FrozenEncoder.__call__`.

  Returns:
    The inputs as an array, a `Column` or a tree of these, and whether they were a single example
    without an axis of examples.

  Raises:
    UserError: the inputs do not fit the spec.
  """
  single: set[bool] = set()
  converted = _convert(spec, inputs, "inputs", single)
  if len(single) > 1:
    raise UserError("the inputs are one example in one field and several in another; give lists")
  return converted, single == {True}


def is_image(spec: Any) -> bool:
  """Returns whether the inputs of an encoder are images [h, w, c]."""
  return isinstance(spec, Spec) and len(spec.shape) == 3


def is_text(spec: Any) -> bool:
  """Returns whether the inputs of an encoder are bytes [length], which may be a text."""
  return isinstance(spec, Spec) and len(spec.shape) == 1 and spec.dtype == np.uint8


def with_length(texts: np.ndarray, length: int) -> np.ndarray:
  """Returns texts, bytes [n, any length], as bytes [n, length].

  A longer text is cut between two characters. A shorter one is followed by zeros.
  """
  if texts.shape[1] > length and texts[:, length:].any():
    decoded = [bytes(row).rstrip(b"\0").decode("utf-8", "replace") for row in texts]
    texts = encode_texts(decoded, length)
  texts = texts[:, :length]
  return np.pad(texts, ((0, 0), (0, length - texts.shape[1])))


def _convert(spec: Any, inputs: Any, name: str, single: set[bool]) -> Any:
  if isinstance(spec, Mapping):
    if not (isinstance(inputs, Mapping) and set(inputs) == set(spec)):
      found = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
      raise UserError(f"this encoder takes a mapping of {sorted(spec)} for {name}, not {found}")
    return {
      field: _convert(spec[field], inputs[field], f"{name} {field!r}", single) for field in spec
    }
  if isinstance(spec, tuple):
    if not (isinstance(inputs, tuple) and len(inputs) == len(spec)):
      raise UserError(
        f"this encoder takes a tuple of {len(spec)} for {name}, not {type(inputs).__name__}"
      )
    return tuple(
      _convert(*pair, f"{name} {i}", single)
      for i, pair in enumerate(zip(spec, inputs, strict=True))
    )
  one = isinstance(inputs, str | os.PathLike | Image.Image)
  items = [inputs] if one else inputs
  if isinstance(items, list | tuple):
    if not items:
      raise UserError(f"{name} must not be empty")
    if any(isinstance(item, str | os.PathLike | Image.Image) for item in items):
      single.add(one)
      return _objects(spec, items, name)
  array = _array(spec, items, name)
  one = array.shape == spec.shape  # It is one image, without an axis of examples.
  single.add(one)
  return array[None] if one else array


def _objects(spec: Spec, items: Sequence[Any], name: str) -> Any:
  """Converts paths and PIL images, or texts."""
  if is_text(spec) and all(isinstance(item, str) for item in items):
    return with_length(encode_texts(items, spec.shape[0]), spec.shape[0])
  kinds = (str, os.PathLike, Image.Image) if is_image(spec) else (str,)
  wrong = [item for item in items if not isinstance(item, kinds)]
  if not wrong and is_image(spec) and spec.shape[-1] in (1, 3):
    return Column(Pictures(items, spec.shape), np.arange(len(items)))
  shape = ", ".join(map(str, ("n", *spec.shape)))
  if is_text(spec) or (wrong and is_image(spec)):
    taken = "texts" if is_text(spec) else "paths and PIL images"
    raise UserError(f"this encoder takes {taken} for {name}, not {type(wrong[0]).__name__}")
  taken = "images" if is_image(spec) else name
  raise UserError(
    f"this encoder takes {taken} [{shape}], not {type(items[0]).__name__}; pass an array"
  )


def _array(spec: Spec, inputs: Any, name: str) -> Any:
  """Returns an array or a column of examples that fit the spec, or the array of one image.

  Raises:
    UserError: the inputs do not fit the spec.
  """
  given = inputs
  if not isinstance(inputs, Column):
    try:
      inputs = np.asarray(inputs)
    except ValueError:  # The rows have different shapes.
      fix = "; pass [Image.fromarray(x) for x in images]" if is_image(spec) else ""
      raise UserError(f"{name} must be an array; the examples have different shapes{fix}") from None
  if is_image(spec) and inputs.shape == spec.shape:
    return inputs
  if inputs.shape[1:] != spec.shape or not inputs.ndim:
    what = "images" if is_image(spec) else name
    expected, found = ", ".join(map(str, spec.shape)), list(inputs.shape)
    if not found:
      kind = type(given).__name__
      raise UserError(f"this encoder takes {what} [n, {expected}], not {kind}; pass an array")
    fix = ""
    if (*found[1:], 1) == spec.shape:
      fix = ": pass images[..., None]"
    elif tuple(found) == spec.shape:
      fix = ": pass it as one row, inputs[None]"
    elif is_image(spec) and tuple(found[1:]) == (spec.shape[2], *spec.shape[:2]):
      fix = ": pass images.transpose(0, 2, 3, 1)"
    elif is_image(spec) and tuple(found) == (spec.shape[2], *spec.shape[:2]):
      fix = ": pass image.transpose(1, 2, 0)"
    elif is_image(spec) and len(found) == 4 and inputs.dtype == np.uint8 and found[3] in (1, 3):
      squeezed = "[..., 0]" if found[3] == 1 else ""
      fix = f"; PIL images are resized: pass [Image.fromarray(x) for x in images{squeezed}]"
    raise UserError(f"this encoder takes {what} [n, {expected}], not {found}{fix}")
  integers = np.issubdtype(spec.dtype, np.integer)
  if not is_image(spec) and integers and inputs.dtype.kind == "f":
    raise UserError(f"this encoder takes integers for {name}, not {inputs.dtype}")
  return inputs


def _is_folder(item: Any) -> bool:
  return isinstance(item, str | os.PathLike) and os.path.isdir(item)
