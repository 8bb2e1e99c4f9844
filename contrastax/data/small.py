"""Small data sets that need no file: digits, generated images, and the names of classes as texts."""

from __future__ import annotations

import re

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset, encode_texts, split

MOST_MADE = 2**24  # The largest number of values of a made image; 240 images are then 4 GB.


def digits() -> Dataset:
  """Returns the handwritten digits of scikit-learn, 8×8 pixels."""
  from sklearn.datasets import load_digits

  pixels, label = load_digits(return_X_y=True)
  image = np.round(np.reshape(pixels, (-1, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
  arrays = {"image": image, "label": np.asarray(label, np.int32)}
  return split(arrays, 500, tuple("0123456789"))


def with_words(dataset: Dataset) -> Dataset:
  """Returns the data set with the field `text`: the name of each example's class."""
  if not dataset.classes:
    raise UserError("words: the data set has no labels; use one that has, such as words:digits")
  table = encode_texts((*dataset.classes, ""))  # The label −1, no label, is the empty text.
  train, test = (
    {**part, "text": table[part["label"]]} if part else {} for part in (dataset.train, dataset.test)
  )
  return Dataset(train, test, dataset.classes)


def read_made(shape: str) -> Dataset:
  """Returns 240 generated images of a shape such as `32x32x3`."""
  sides = re.fullmatch("x".join([r"([1-9][0-9]{0,9})"] * 3), shape, re.ASCII)
  if sides is None:
    raise UserError(
      f"made:{shape} is not a shape of images; give height, width and channels as in made:32x32x3"
    )
  h, w, c = map(int, sides.groups())
  if h * w * c > MOST_MADE:
    raise UserError(f"made:{shape} is too large; an image may have at most {MOST_MADE:,} values")
  rng = np.random.default_rng(0)
  label = np.arange(240, dtype=np.int32) % 4
  image = rng.integers(0, 128, (240, h, w, c), np.uint8)
  upper, left = np.arange(h)[:, None] < h / 2, np.arange(w) < w / 2
  quadrants = np.stack([(upper == top) & (left == near) for top in (1, 0) for near in (1, 0)])
  image += (np.uint8(127) * quadrants[label])[..., None]
  return split({"image": image, "label": label}, 40, tuple("0123"))
