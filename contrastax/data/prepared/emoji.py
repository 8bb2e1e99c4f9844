"""The data set `emoji`: emoji of the font Noto Color Emoji, with their names and keywords."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset, divide, encode_texts
from contrastax.data.prepared.files import Preparation
from contrastax.data.prepared.packages import debian
from contrastax.data.splits import frequent_classes, new_in_test, one_in

SIZE = 64
HELD_OUT = 6  # One family in so many is a test family.
STRIKE = 109  # The size of the font's bitmaps, which are 136×128 pixels.
SKIN = "\U0001f3fb-\U0001f3ff"
JOINER, AS_EMOJI = "\u200d", "\ufe0f"


class Listed(NamedTuple):
  """An emoji of Unicode's list.

  Args:
    characters: its code points.
    group: its group, such as "Animals & Nature".
  """

  characters: str
  group: str


def read(folder: pathlib.Path) -> Dataset:
  """Reads and draws the data set from the unpacked packages.

  The fields:

  - `image` [n, 64, 64, 3] uint8: the emoji on white.
  - `text` [n, length] uint8: its English name in CLDR, such as "waving hand: dark skin tone".
  - `keywords` [n, length] uint8: its English keywords in CLDR, separated by commas. Variants with a
    skin tone have none.
  - `label` [n] int32: its group, such as "Animals & Nature".
  - `family` [n] int32: the number of its family. The variants of an emoji by skin tone and by gender
    are one family.

  A checksum of the family chooses one in six, whose emoji are test examples. Of emoji with the same
  image only the first is kept.

  Args:
    folder: the folder with the files of the packages.

  Raises:
    UserError: Pillow cannot draw emoji of several characters.
  """
  share = folder / "usr" / "share"
  names = english_names(share / "unicode" / "cldr" / "common")
  listed = [
    each
    for each in emoji_of((share / "unicode" / "emoji" / "emoji-test.txt").read_text("utf-8"))
    if plain(each.characters) in names
  ]
  images = draw(share / "fonts" / "truetype" / "noto" / "NotoColorEmoji.ttf", listed)
  families = [family(each.characters) for each in listed]
  held_out = one_in(HELD_OUT, families)
  first: dict[bytes, int] = {}
  is_first = [first.setdefault(image.tobytes(), i) == i for i, image in enumerate(images)]
  texts, keywords = zip(*(names[plain(each.characters)] for each in listed), strict=True)
  remaining = new_in_test(held_out, texts) & is_first
  label, classes = frequent_classes([each.group for each in listed], held_out, 1)
  arrays = {
    "image": images,
    "text": encode_texts(texts),
    "keywords": encode_texts(keywords),
    "label": label,
    "family": np.unique(families, return_inverse=True)[1].astype(np.int32),
  }
  kept = {name: rows[remaining] for name, rows in arrays.items()}
  return divide(kept, held_out[remaining], classes)


def emoji_of(listing: str) -> Iterator[Listed]:
  """Yields the fully qualified emoji of Unicode's file emoji-test.txt.

  Args:
    listing: the content of the file.
  """
  group = ""
  for line in listing.splitlines():
    if line.startswith("# group:"):
      group = line.removeprefix("# group:").strip()
    codes, _, status = line.partition(";")
    if status.strip().startswith("fully-qualified"):
      yield Listed("".join(chr(int(code, 16)) for code in codes.split()), group)


def english_names(common: pathlib.Path) -> Mapping[str, tuple[str, str]]:
  """Returns {characters: (name, keywords)} in English.

  Args:
    common: the folder `common` of CLDR.
  """
  names: dict[str, str] = {}
  keywords: dict[str, str] = {}
  for kind in ("annotations", "annotationsDerived"):
    for each in ElementTree.parse(common / kind / "en.xml").iter("annotation"):
      characters, text = plain(each.get("cp", "")), each.text or ""
      if each.get("type") == "tts":
        names[characters] = text.strip()
      else:
        keywords[characters] = ", ".join(word.strip() for word in text.split("|"))
  return {characters: (name, keywords.get(characters, "")) for characters, name in names.items()}


def plain(characters: str) -> str:
  """Returns an emoji without the character that requests its colored form, as CLDR writes it."""
  return characters.replace(AS_EMOJI, "")


def family(characters: str) -> str:
  """Returns the emoji without skin tone and gender."""
  neutral = re.sub(f"[{SKIN}{AS_EMOJI}]|{JOINER}[♀♂]", "", characters)
  return re.sub("[👨👩]", "🧑", neutral)


def draw(font: pathlib.Path, listed: list[Listed]) -> np.ndarray:
  """Draws emoji on white.

  Args:
    font: the file of the font.
    listed: n emoji.

  Returns:
    [n, 64, 64, 3], uint8.
  """
  from PIL import Image, ImageDraw, ImageFont, features

  if not features.check("raqm"):
    raise UserError(
      "Pillow was built without Raqm, which joins the characters of an emoji; run: pip install "
      "--force-reinstall pillow"
    )
  drawer = ImageFont.truetype(str(font), STRIKE, layout_engine=ImageFont.Layout.RAQM)
  images = np.empty((len(listed), SIZE, SIZE, 3), np.uint8)
  for image, each in zip(images, listed, strict=True):
    canvas = Image.new("RGB", (136, 136), "white")
    ImageDraw.Draw(canvas).text((0, 4), each.characters, font=drawer, embedded_color=True)
    image[...] = np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX))
  return images


EMOJI = Preparation(
  debian("fonts-noto-color-emoji", "unicode-cldr-core", "unicode-data"),
  read,
  "SIL Open Font License 1.1 (images), Unicode-DFS-2016 (names)",
)
