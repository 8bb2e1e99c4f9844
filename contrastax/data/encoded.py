"""Images in files, decoded when they are read."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from contrastax.core import UserError
from contrastax.data.columns import Column
from contrastax.data.decode import RULE, NotDecoded, decode
from contrastax.data.index import File

MOST_SIDE = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
  """A reader of encoded images of any size.

  Args:
    content: function from the number of an image to the bytes of its file.
    shape: (height, width, channels) of the decoded images.
    codes: a checksum of each file, uint64 [n].
    names: the name of each image, [n], for embeddings and messages.
  """

  content: Callable[[int], bytes]
  shape: tuple[int, int, int]
  codes: np.ndarray
  names: np.ndarray
  dtype: np.dtype = dataclasses.field(default=np.dtype(np.uint8), init=False)

  def read(self, rows: np.ndarray) -> np.ndarray:
    """Decodes the images with these numbers, see `decode`."""
    images = np.empty((len(rows), *self.shape), self.dtype)
    for place, row in enumerate(rows):
      try:
        images[place] = decode(self.content(int(row)), self.shape)
      except (NotDecoded, OSError) as error:
        fault = (error.strerror or "").lower() if isinstance(error, OSError) else error
        raise UserError(
          f"the image {self.names[row]!r} cannot be decoded: {fault}; remove it or repair it, and "
          "start again"
        ) from None
    return images


def image_column(
  content: Callable[[int], bytes],
  files: Sequence[File],
  shape: tuple[int, int, int],
) -> Column:
  """Returns the column of images in files.

  Args:
    content: function from the number of an image to the bytes of its file.
    files: the names and checksums of the images.
    shape: (height, width, channels) of the decoded images.
  """
  codes = np.array([image_code(file.code) for file in files], np.uint64)
  names = np.empty(len(files), object)
  names[:] = [file.name for file in files]
  return Column(Images(content, shape, codes, names), np.arange(len(files)))


def file_column(root: pathlib.Path, files: Sequence[File], shape: tuple[int, int, int]) -> Column:
  """Returns the column of image files whose names are relative to a folder; see `image_column`."""
  return image_column(lambda row: (root / files[row].name).read_bytes(), files, shape)


def image_code(code: int) -> int:
  """Returns the checksum of a decoded image, which is computed from the checksum of its file.

  A change of the rule of decoding changes the images, and so their checksums.
  """
  return code ^ RULE


def image_shape(size: Any, channels: Any) -> tuple[int, int, int]:
  """Returns (height, width, channels).

  Args:
    size: the side of the images in pixels, or (height, width).
    channels: 1 or 3.

  Raises:
    UserError: the size or the number of channels is invalid.
  """
  sides = (size, size) if isinstance(size, int) else tuple(size) if _is_pair(size) else ()
  if len(sides) != 2 or not all(type(side) is int and 1 <= side <= MOST_SIDE for side in sides):
    raise UserError(
      f"size must be the side of the images in pixels, such as 64, or (height, width), not {size!r}"
    )
  if channels not in (1, 3):
    raise UserError(f"channels must be 3 (color) or 1 (gray), not {channels!r}")
  return sides[0], sides[1], channels


def _is_pair(size: Any) -> bool:
  return isinstance(size, list | tuple) and len(size) == 2
