"""Data sets by name."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset, encode_texts, split
from contrastax.data.docstrings import load_docstrings
from contrastax.data.glyphs import load_glyphs
from contrastax.data.npz import load_npz
from contrastax.data.prepared import PREPARED, load_prepared
from contrastax.nouns import nearest

KINDS = ("npz", "tfds", "made", "words", "glyphs")
"""The kinds of data sets that have a name of the form `KIND:PLACE`."""
MOST_MADE = 2**24  # The largest number of values of a made image; 240 images are then 4 GB.
PREPARED_BY_US = ("cifar10", "fashion_mnist")


def load(name: str) -> Dataset:
  """Loads a data set into memory.

  Args:
    name: a name of one of these forms.
      `digits`: the 1,797 handwritten digits of scikit-learn, 8×8 pixels, gray. A fixed set of 500
      images are the test images.
      `glyphs` or `glyphs:SIZE`: 24,767 images of characters in six fonts of matplotlib, with their
      Unicode names; see `data.glyphs.load_glyphs`.
      `docstrings`: the functions and classes of Python's standard library with their docstrings; see
      `data.docstrings.load_docstrings`.
      `debian_packages`, `wordnet`, `emoji` or `tuxpaint`: a data set that `contrastax prepare NAME`
      has written; see `data.prepared`.
      `npz:PATH`: a NumPy file. Each of its arrays is a field, with one row per example. `image` is
      [n, h, w] or [n, h, w, c]. `label` [n] contains classes: integers, booleans or texts. The
      integer −1 means no label. A field of texts [n] becomes bytes [n, length] uint8, in UTF-8
      and followed by zeros. The arrays `test_image`, `test_label` and so on contain the test
      examples. Without them a fixed fifth of the examples is held out.
      `tfds:NAME`: a prepared data set of TensorFlow Datasets that has the splits `train` and
      `test`. TensorFlow is not needed to read it.
      `made:HxWxC`: 240 generated images of that shape, to try a config. They contain noise and
      have four classes; the images of each class are brighter in one quadrant.
      `words:NAME`: the data set NAME with the additional field `text`, [n, length] uint8: the name
      of each example's class in UTF-8, followed by zeros.

  Returns:
    The data set.

  Raises:
    UserError: there is no such data set, or its files are missing, damaged or unsuitable.

  Example:
    >>> from contrastax import data
    >>> dataset = data.load("made:8x8x1")
    >>> dataset.train["image"].shape, dataset.test["image"].shape
    ((200, 8, 8, 1), (40, 8, 8, 1))
  """
  kind, _, place = name.partition(":")
  if name in NAMED:
    return NAMED[name]()
  if name in PREPARED:
    return load_prepared(name)
  if kind == "words" and place:
    return _with_words(load(place))
  if kind in ("npz", "tfds", "made", "glyphs") and place:
    loaders = {"npz": load_npz, "tfds": _tfds, "made": _made, "glyphs": load_glyphs}
    return loaders[kind](place)
  fix = ""
  if name.endswith(".npz"):
    fix = f"; did you mean {f'npz:{name}'!r}?"
  elif kind and os.path.isdir(name):
    fix = (
      "; this is a folder: read its images into arrays and save them by np.savez(path, image=…, "
      "label=…) for npz:PATH"
    )
  named = ", ".join([*NAMED, *PREPARED])
  raise UserError(f"no data set {name!r}; there are: {named}, npz:PATH, tfds:NAME, made:HxWxC{fix}")


def _digits() -> Dataset:
  from sklearn.datasets import load_digits

  pixels, label = load_digits(return_X_y=True)
  image = np.round(np.reshape(pixels, (-1, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
  arrays = {"image": image, "label": np.asarray(label, np.int32)}
  return split(arrays, 500, tuple("0123456789"))


NAMED = {"digits": _digits, "glyphs": load_glyphs, "docstrings": load_docstrings}
"""{name of a data set that needs no download: function that loads it}."""


def _with_words(dataset: Dataset) -> Dataset:
  if not dataset.classes:
    raise UserError("words: the data set has no labels; use one that has, such as words:digits")
  table = encode_texts(dataset.classes)
  train, test = ({**part, "text": table[part["label"]]} for part in (dataset.train, dataset.test))
  return Dataset(train, test, dataset.classes)


def _made(shape: str) -> Dataset:
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


def _tfds(name: str) -> Dataset:
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.registered import DatasetNotFoundError

  try:
    builder = tfds.builder(name)
  except DatasetNotFoundError:
    known = [*tfds.list_builders(with_community_datasets=False)]
    raise UserError(f"TFDS has no data set {name!r}{_suggest(name, known)}") from None
  except Exception as error:  # TFDS has many error classes for a wrong name, version or config.
    raise UserError(f"TFDS cannot open {name!r}: {str(error).splitlines()[0]}") from None
  if not builder.is_prepared():
    command = (
      f"contrastax prepare {builder.name}"
      if builder.name in PREPARED_BY_US
      else f"tfds build {name} --file_format=array_record (this needs TensorFlow)"
    )
    raise UserError(
      f"the data set tfds:{name} is not prepared in {builder.data_dir}; run: {command}"
    )
  features: Any = builder.info.features
  if not {"image", "label"} <= set(features) or not {"train", "test"} <= set(builder.info.splits):
    raise UserError(
      f"tfds:{name} must have the features image and label, and the splits train and test"
    )
  image, label = features["image"], features["label"]
  if None in image.shape or image.np_dtype != np.uint8:
    raise UserError(f"tfds:{name}: images must be uint8 and of one size, not {image}")
  if not isinstance(label, tfds.features.ClassLabel):
    raise UserError(f"tfds:{name}: label must be a ClassLabel, not {label}")
  try:
    train, test = (_read_tfds(builder, split) for split in ("train", "test"))
  except NotImplementedError:
    found: Any = builder.info.file_format
    raise UserError(
      f"tfds:{name} is prepared as {found.value}, which needs TensorFlow; prepare it with "
      "--file_format=array_record"
    ) from None
  except (OSError, RuntimeError) as error:  # a wrong checksum in array_record, or a damaged image
    text = str(error).splitlines()[0]
    raise UserError(f"{builder.data_path} is damaged ({text}); prepare it again") from None
  return Dataset(train, test, tuple(label.names))


def _suggest(name: str, known: list[str]) -> str:
  text = nearest(name, known)
  return text if "mean" in text else "; `tfds.list_builders()` lists the data sets of TFDS"


def _read_tfds(builder: Any, split: str) -> dict[str, np.ndarray]:
  source = builder.as_data_source(split=split)
  expected = builder.info.splits[split].num_examples
  if len(source) != expected:  # array_record reads a truncated file as an empty file.
    raise UserError(
      f"{builder.data_path}: {split} has {len(source)} of {expected} examples; prepare it again"
    )
  image = np.empty((expected, *builder.info.features["image"].shape), np.uint8)
  label = np.empty(expected, np.int32)
  for i in range(expected):
    example = source[i]
    image[i], label[i] = example["image"], example["label"]
  return {"image": image, "label": label}
