"""Data sets by name."""

from __future__ import annotations

import lzma
import os
import re
import struct
import zipfile
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from contrastax.core import UserError
from contrastax.nouns import nearest
from contrastax.views.images import check_images

KINDS = ("npz", "tfds", "made", "words")
"""The kinds of data sets that have a name of the form `KIND:PLACE`."""
MOST_MADE = 2**24  # The largest number of values of a made image; 240 images are then 4 GB.
# The errors, besides those named below, of zipfile and NumPy for a damaged or encrypted file.
DAMAGED = (
  ArithmeticError, LookupError, RuntimeError, SyntaxError, lzma.LZMAError, struct.error, zlib.error,
)  # fmt: skip
PREPARED_BY_US = ("cifar10", "fashion_mnist")


class Dataset(NamedTuple):
  """A data set in memory, divided into training and test examples.

  Attributes:
    train: fields by name: arrays, or trees of arrays, with one example per row. `image` [n, h, w, c]
      is uint8, or float in [0, 1]. `label` [n] contains integers, where −1 means no label. Other
      fields may have any names.
    test: the same fields of the test examples.
    classes: the name of each class; () if there are no labels.

  Example:
    >>> import numpy as np
    >>> from contrastax import data
    >>> x = np.arange(10.0)
    >>> dataset = data.Dataset(train={"x": x[:8]}, test={"x": x[8:]})
    >>> len(dataset.train["x"]), dataset.classes
    (8, ())
  """

  train: dict[str, Any]
  test: dict[str, Any]
  classes: tuple[str, ...] = ()


def load(name: str) -> Dataset:
  """Loads a data set into memory.

  Args:
    name: a name of one of these forms.
      `digits`: the 1,797 handwritten digits of scikit-learn, 8×8 pixels, gray. A fixed set of 500
      images are the test images.
      `npz:PATH`: a NumPy file with the array `image` and, optionally, `label`, `test_image` and
      `test_label`. Without test images a fixed fifth of the images is held out.
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
  if name == "digits":
    return _digits()
  if kind == "words" and place:
    return _with_words(load(place))
  if kind in ("npz", "tfds", "made") and place:
    return {"npz": _npz, "tfds": _tfds, "made": _made}[kind](place)
  fix = ""
  if name.endswith(".npz"):
    fix = f"; did you mean {f'npz:{name}'!r}?"
  elif kind and os.path.isdir(name):
    fix = (
      "; this is a folder: read its images into arrays and save them by np.savez(path, image=…, "
      "label=…) for npz:PATH"
    )
  raise UserError(f"no data set {name!r}; there are: digits, npz:PATH, tfds:NAME, made:HxWxC{fix}")


def hold_out(dataset: Dataset, count: int) -> Dataset:
  """Holds out training examples as test examples, so that the original test set remains unseen.

  Args:
    dataset: the data set, whose test examples are dropped.
    count: number of training examples that become test examples. The choice is fixed.

  Returns:
    A data set of the training examples.

  Raises:
    UserError: `count` is not between 1 and the number of training examples − 1.
  """
  size = _size(dataset.train)
  if not (isinstance(count, int | np.integer) and 0 < count < size):
    raise UserError(
      f"cannot hold out {count} of {size} training examples; give an integer from 1 to {size - 1}"
    )
  return _split(dataset.train, count, dataset.classes)


def _split(arrays: dict[str, Any], count: int, classes: tuple[str, ...]) -> Dataset:
  """Returns a data set whose test examples are a fixed random choice of `count` examples."""
  order = np.random.default_rng(0).permutation(_size(arrays))
  train, test = (
    jax.tree.map(lambda x, rows=rows: x[rows], arrays)
    for rows in (np.sort(order[count:]), np.sort(order[:count]))
  )
  return Dataset(train, test, classes)


def _size(arrays: dict[str, Any]) -> int:
  return len(jax.tree.leaves(arrays)[0])


def _digits() -> Dataset:
  from sklearn.datasets import load_digits

  pixels, label = load_digits(return_X_y=True)
  image = np.round(np.reshape(pixels, (-1, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
  arrays = {"image": image, "label": np.asarray(label, np.int32)}
  return _split(arrays, 500, tuple("0123456789"))


def _with_words(dataset: Dataset) -> Dataset:
  if not dataset.classes:
    raise UserError("words: the data set has no labels; use one that has, such as words:digits")
  words = [name.encode() for name in dataset.classes]
  table = np.zeros((len(words), max(map(len, words))), np.uint8)
  for row, word in zip(table, words, strict=True):
    row[: len(word)] = np.frombuffer(word, np.uint8)
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
  return _split({"image": image, "label": label}, 40, tuple("0123"))


def _npz(path: str) -> Dataset:
  path = os.path.expanduser(path)
  arrays = _read_npz(path)
  train = {"image": _images(path, "image", arrays["image"])}
  test = None
  if "test_image" in arrays:
    test = {"image": _images(path, "test_image", arrays["test_image"])}
    shapes = train["image"].shape[1:], test["image"].shape[1:]
    if shapes[0] != shapes[1]:
      raise UserError(
        f"{path}: images are {shapes[0]}, but test images are {shapes[1]}; give them the same shape"
      )
  classes: tuple[str, ...] = ()
  if "label" in arrays:
    splits = {"label": train} | ({} if test is None else {"test_label": test})
    labels = [
      _labels(path, name, arrays[name], len(split["image"])) for name, split in splits.items()
    ]
    # The classes are renumbered, because a few classes may have labels with large values.
    values, numbers = np.unique(np.concatenate(labels), return_inverse=True)
    classes = tuple(str(value) for value in values)
    if len(values) < 2:
      raise UserError(
        f"{path}: all labels are {values[0]}; leave the labels out, or use two classes or more"
      )
    numbers = np.split(numbers.astype(np.int32), [len(train["image"])])
    for split, part in zip(splits.values(), numbers, strict=False):
      split["label"] = part
  if test is not None:
    return Dataset(train, test, classes)
  count = len(train["image"])
  if count < 5:
    raise UserError(
      f"{path}: {count} images are too few to hold out a fifth; give 5 or more, or 'test_image'"
    )
  return _split(train, count // 5, classes)


def _read_npz(path: str) -> dict[str, np.ndarray]:
  """Reads the arrays of a file and checks their names."""
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = {name: np.asarray(file[name]) for name in file.files}
  except FileNotFoundError:
    raise UserError(
      f"there is no file {path}; a relative path starts in the current folder"
    ) from None
  except MemoryError:
    raise UserError(f"{path} has arrays that do not fit into memory; use a smaller file") from None
  except (AttributeError, EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile):
    raise UserError(f"{path} is not an npz file of plain arrays; write one with np.savez") from None
  except DAMAGED as error:
    fault = " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path} cannot be read: {fault}; write it again with np.savez") from None
  if "image" not in arrays:
    names = ", ".join(sorted(arrays)) or "none"
    raise UserError(
      f"{path} has no array 'image'; it has: {names}; rename the array of the images to 'image'"
    )
  if "test_label" in arrays and "test_image" not in arrays:
    raise UserError(f"{path} has 'test_label' but no 'test_image'; give both or neither")
  if "test_image" in arrays and ("label" in arrays) != ("test_label" in arrays):
    raise UserError(f"{path}: give both 'label' and 'test_label', or neither")
  return arrays


def _labels(path: str, name: str, label: np.ndarray, count: int) -> np.ndarray:
  """Returns the labels as int64 [count], or raises UserError."""
  fix = f"np.unique({name}, return_inverse=True)[1] numbers the classes"
  if label.shape != (count,):
    raise UserError(
      f"{path}: {name} must be one integer for each of {count} images, [{count}], not "
      f"{list(label.shape)}; use {name}[:, 0] for a column, {name}.argmax(1) for one-hot rows"
    )
  if label.dtype.kind not in "iu":
    raise UserError(f"{path}: {name} must be integers, not {label.dtype}; {fix}")
  if label.min() < 0 or label.max() > np.iinfo(np.int64).max:
    wrong = label.min() if label.min() < 0 else label.max()
    raise UserError(f"{path}: {name} must be 0 or more and below 2^63, not {wrong}; {fix}")
  return label.astype(np.int64)


def _images(path: str, name: str, image: np.ndarray) -> np.ndarray:
  if image.ndim == 3:
    image = image[..., None]
  if image.ndim != 4 or not image.size:
    raise UserError(f"{path}: {name} must be [n, h, w] or [n, h, w, c], not {list(image.shape)}")
  check_images(f"{path}: {name}", image)
  return image if image.dtype == np.uint8 else image.astype(np.float32)


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
