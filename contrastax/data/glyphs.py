"""The data set `glyphs`: characters in the fonts of matplotlib, with their Unicode names."""

from __future__ import annotations

import pathlib
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from contrastax.core import UserError, check_integer
from contrastax.data.dataset import Dataset, divide, encode_texts
from contrastax.data.splits import frequent_classes, one_in
from contrastax.nouns import nearest

FONTS = (
  "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif",
  "STIXGeneral",
)  # fmt: skip
"""The default fonts. They are files that matplotlib installs."""
LEAST = 50  # The fewest training characters of a class.
HELD_OUT = 4  # One in so many characters is a candidate for the test examples.


class Drawn(NamedTuple):
  """The characters of one font.

  Args:
    character: [n], code points in ascending order.
    image: [n, size, size], uint8.
  """

  character: np.ndarray
  image: np.ndarray


def load_glyphs(*, size: int = 32, fonts: tuple[str, ...] = FONTS) -> Dataset:
  """Renders the characters of fonts that matplotlib ships, with their Unicode names.

  Every character that has a name and ink is an example of each font that contains it. The fields:

  - `image` [n, size, size, 1] uint8: the glyph, white on black, see `draw`.
  - `text` [n, length] uint8: the name, such as "LATIN SMALL LETTER A WITH ACUTE", in UTF-8 and
    followed by zeros.
  - `label` [n] int32: the first word of the name, which is often the script. A word with fewer than
    50 training characters is no class, and the label is −1.
  - `character` [n] int32: the code point.
  - `font` [n] int32: the number of the font in `fonts`.
  - `next_font` [n] int32: the index of the same character in the next font that has it. It is the
    example's own index if no other font has the character.

  Characters with the same image, such as the Latin A and the Greek Alpha of a font, cannot be
  distinguished. Only the one with the smallest code point has this image.

  The test examples are combinations that do not occur in training, see `is_held_out`. All fonts of a
  character are in the same split.

  Args:
    size: height and width of the images, 8 to 128.
    fonts: names of fonts of matplotlib, such as "DejaVuSerif-Italic", at least one.

  Returns:
    The data set.

  Raises:
    UserError: the size is not an integer from 8 to 128, or matplotlib has no such font.

  Example:
    >>> from contrastax import data
    >>> small = data.load("glyphs", size=16, fonts=("STIXGeneral",))
    >>> small.train["image"].shape[1:], "LATIN" in small.classes
    ((16, 16, 1), True)

  References:
    The fonts are DejaVu (Bitstream Vera license) and STIX (SIL Open Font License).
  """
  check_integer("size", size, 8, 128)
  drawn = [draw(path, size) for path in font_files(fonts)]
  character = np.concatenate([each.character for each in drawn])
  image = np.concatenate([each.image for each in drawn])[..., None]
  font = np.repeat(np.arange(len(drawn)), [len(each.character) for each in drawn])
  order = np.lexsort((font, character))  # The fonts of a character are adjacent.
  first: dict[bytes, int] = {}
  rows = [
    i for i in order if first.setdefault(image[i].tobytes(), int(character[i])) == character[i]
  ]
  character, image, font = character[rows], image[rows], font[rows]
  known, number = np.unique(character, return_inverse=True)
  names = [unicodedata.name(chr(code)) for code in known]
  held_out = is_held_out(names)
  label, classes = frequent_classes([name.split()[0] for name in names], held_out, LEAST)
  text = encode_texts(names)
  arrays = {
    "image": image,
    "text": text[number],
    "label": label[number],
    "character": character.astype(np.int32),
    "font": font.astype(np.int32),
  }
  dataset = divide(arrays, held_out[number], classes)
  for part in dataset[:2]:
    part["next_font"] = next_of_group(part["character"])
  return dataset


def font_files(names: Sequence[str]) -> list[pathlib.Path]:
  """Returns the files of fonts of matplotlib.

  Args:
    names: the names of the fonts.

  Raises:
    UserError: there are no names, a name occurs twice, or matplotlib does not contain such a font.
  """
  import matplotlib

  folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
  known = {path.stem: path for path in sorted(folder.glob("*.ttf"))}
  if not names or len(set(names)) < len(names):
    raise UserError(f"glyphs: fonts must be one or more different names, not {names!r}")
  for name in names:
    if name not in known:
      raise UserError(f"glyphs: matplotlib has no font {name!r}{nearest(name, known)}")
  return [known[name] for name in names]


def draw(path: pathlib.Path, size: int) -> Drawn:
  """Draws the characters of a font that have a name and ink.

  All characters have the same scale, 3/4 of the image per em, so that a capital differs from a small
  letter. The ink is centered horizontally. Vertically it has its place relative to the baseline,
  which lies 3/4 of the image below its upper edge, so that a comma differs from an apostrophe. Ink that would
  cross an edge is moved inside, and ink that is larger than the image is shrunk to fit.

  Args:
    path: the file of the font.
    size: height and width of an image.
  """
  from matplotlib.ft2font import FT2Font
  from PIL import Image, ImageFont

  codes, images = [], []
  font = ImageFont.truetype(str(path), round(0.75 * size), layout_engine=ImageFont.Layout.BASIC)
  for code in sorted(FT2Font(str(path)).get_charmap()):
    if not unicodedata.name(chr(code), ""):
      continue
    drawn: Any  # Pillow's type of a mask does not state that it is a buffer.
    drawn, (_, top) = font.getmask2(chr(code), mode="L", anchor="ls")
    width, height = drawn.size
    if not (width and height):
      continue
    ink = np.frombuffer(bytes(drawn), np.uint8).reshape(height, width)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
      continue
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top += round(0.75 * size) + rows[0]
    if max(ink.shape) > size:
      scale = size / max(ink.shape)
      shape = [max(1, round(side * scale)) for side in ink.shape]
      ink = np.asarray(Image.fromarray(ink).resize(shape[::-1], Image.Resampling.BOX))
    image = np.zeros((size, size), np.uint8)
    height, width = ink.shape
    top, left = min(max(top, 0), size - height), (size - width) // 2
    image[top : top + height, left : left + width] = ink
    codes.append(code)
    images.append(image)
  return Drawn(np.array(codes), np.stack(images))


def is_held_out(names: Sequence[str]) -> np.ndarray:
  """Returns which names are test examples: new combinations of words that occur in training.

  A checksum of the name chooses one name in four. A chosen name is a test example if each of its
  words occurs in at least one name that was not chosen, as L and CARON do for "LATIN SMALL LETTER L
  WITH CARON". The choice depends on no other font or version of Unicode, unless a word is new.

  Args:
    names: names of characters.

  Returns:
    [n], booleans.
  """
  chosen = one_in(HELD_OUT, names)
  others = (name.split() for name, is_chosen in zip(names, chosen, strict=True) if not is_chosen)
  words = {word for other in others for word in other}
  return chosen & [words.issuperset(name.split()) for name in names]


def next_of_group(group: np.ndarray) -> np.ndarray:
  """Returns the index of the next example of the same group, in a circle.

  Args:
    group: [n], where the examples of a group are adjacent.

  Returns:
    [n] int32.
  """
  _, start, number, size = np.unique(
    group, return_index=True, return_inverse=True, return_counts=True
  )
  place = np.arange(len(group)) - start[number]
  return (start[number] + (place + 1) % size[number]).astype(np.int32)
