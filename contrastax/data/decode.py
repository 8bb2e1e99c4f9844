"""Decodes image files to arrays of one size."""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from contrastax.core import UserError

SUFFIXES = (
  ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
)  # fmt: skip
"""The suffixes of image files, in lower case."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF")
MOST_PIXELS = 89_478_485
"""The largest number of pixels of an image: 256 MB in RGB. It is also Pillow's limit."""
RULE = 2
"""The number of the rule by which images are decoded. A change of the rule changes the number."""

_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
"""How an image of each orientation in the EXIF data becomes upright."""

# An image above Pillow's limit is refused here, so Pillow's warning is redundant.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class NotDecoded(UserError):
  """Raised if an image cannot be decoded. The message is the reason."""


def decode(image: Any, shape: tuple[int, int, int]) -> np.ndarray:
  """Decodes an image and converts it to a shape.

  The rule is the same for every source of images:

  - of an animated GIF or WebP, and of a TIFF with several pages, the first image is used;
  - the rotation in the EXIF data is applied;
  - transparent pixels are placed on white;
  - palettes and CMYK are converted to RGB; 16-bit gray is divided by 257; three channels become one
    by the luma of ITU-R BT.601, and one channel is repeated three times;
  - the largest centered rectangle with the aspect ratio of `shape` is resized to `shape`, bilinearly
    with antialiasing. A JPEG file of more than four times this size is first reduced by a power of
    two while it is decoded.

  Args:
    image: the path of a file, the bytes of a file, or a PIL image.
    shape: (height, width, channels), with 1 or 3 channels.

  Returns:
    uint8, of shape `shape`.

  Raises:
    NotDecoded: the image is empty, truncated, damaged, of an unknown format, or above
      `MOST_PIXELS`.

  Example:
    >>> from PIL import Image
    >>> from contrastax.data.decode import decode
    >>> decode(Image.new("RGB", (64, 48), "red"), (32, 32, 3))[0, 0].tolist()
    [255, 0, 0]
  """
  height, width, channels = shape
  opened = image if isinstance(image, Image.Image) else open_image(image)
  try:
    # An image that the caller has opened is not changed.
    if opened is not image and opened.format in ("JPEG", "MPO"):
      # The sides may be exchanged by the rotation, so both must be large enough.
      longer = 2 * max(height, width)
      opened.draft(None, (longer, longer))
    converted = _converted(_upright(opened), channels)
  except NotDecoded:
    raise
  except Exception as error:  # Pillow's decoders raise errors of many classes.
    raise NotDecoded(_reason(error)) from None
  if converted.size != (width, height):
    converted = ImageOps.fit(converted, (width, height), Image.Resampling.BILINEAR)
  return np.asarray(converted, np.uint8).reshape(shape)


def open_image(file: str | os.PathLike | bytes) -> ImageFile.ImageFile:
  """Opens an image without decoding its pixels.

  Args:
    file: the path or the bytes of a file.

  Returns:
    A PIL image, whose size is known.

  Raises:
    NotDecoded: the file is missing, empty, of an unknown format, or above `MOST_PIXELS`.
  """
  try:
    content = file if isinstance(file, bytes) else _read(file)
    if not content:
      raise NotDecoded("the file is empty")
    opened = Image.open(io.BytesIO(content), formats=FORMATS)
  except Image.UnidentifiedImageError:
    raise NotDecoded("the file is not an image of a known format") from None
  except Image.DecompressionBombError:
    raise NotDecoded(f"the image has more than {MOST_PIXELS:,} pixels") from None
  except NotDecoded:
    raise
  except Exception as error:
    raise NotDecoded(_reason(error)) from None
  if opened.width * opened.height > MOST_PIXELS:
    raise NotDecoded(
      f"the image has {opened.width * opened.height:,} pixels, more than {MOST_PIXELS:,}"
    )
  return opened


def _read(path: str | os.PathLike) -> bytes:
  with open(path, "rb") as file:
    return file.read()


def _upright(image: Image.Image) -> Image.Image:
  """Applies the rotation in the EXIF data.

  `ImageOps.exif_transpose` also writes the EXIF data again, which fails if a camera has written
  entries of a wrong type.
  """
  image.load()
  turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
  return image if turn is None else image.transpose(turn)


def _converted(image: Image.Image, channels: int) -> Image.Image:
  """Returns an image of 8 bits with one or three channels."""
  if image.mode.startswith("I;16"):
    pixels = np.asarray(image).astype(np.uint32)
    transparent = pixels == image.info.get("transparency", -1)
    image = Image.fromarray(np.where(transparent, 255, (pixels + 128) // 257).astype(np.uint8))
  elif image.mode in ("I", "F"):
    raise NotDecoded("the pixels have 32 bits, whose scale is unknown")
  color = image.info.get("transparency")
  if image.mode == "RGB" and isinstance(color, tuple) and max(color) > 255:
    # Pillow reduces colors of 16 bits to 8 bits, but not the transparent color.
    image = image.copy()
    image.info["transparency"] = tuple(value >> 8 for value in color)
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image)
  if channels == 1 and image.mode not in ("1", "L"):
    image = image.convert("RGB")  # Pillow converts some modes to L only through RGB.
  return image.convert("L" if channels == 1 else "RGB")


def _reason(error: Exception) -> str:
  """Describes an error of Pillow, or of the file system."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror.lower()
  text = " ".join(str(error).split()) or type(error).__name__
  if "truncated" in text.lower():
    return "the file is truncated"
  return f"the file is damaged: {text}"
