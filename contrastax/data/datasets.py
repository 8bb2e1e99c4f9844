"""Data sets by name: `digits`, `npz:PATH`, `tfds:NAME`, `made:HxWxC`, `words:` before any."""

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

KINDS = ("npz", "tfds", "made", "words")  # of names KIND:PLACE
MOST_MADE = 2**24  # values of a made image; 240 of them are 4 GB
# What zipfile and NumPy raise besides for a file that is damaged or encrypted.
DAMAGED = (
  ArithmeticError, LookupError, RuntimeError, SyntaxError, lzma.LZMAError, struct.error, zlib.error,
)  # fmt: skip
PREPARED_BY_US = ("cifar10", "fashion_mnist")


class Dataset(NamedTuple):
  """Arrays in memory, by split.

  `train` and `test` map names to arrays, or to trees of arrays, with one example per row. "image"
  [n, h, w, c] is uint8, or float in [0, 1]. "label" [n] holds integers; −1 is no label. Other names
  are free. Both splits have the same names. `classes`: the name of each label, () without labels.

  Example:
    data.Dataset(train={"x": x[:800]}, test={"x": x[800:]})
  """

  train: dict[str, Any]
  test: dict[str, Any]
  classes: tuple[str, ...] = ()


def load(name: str) -> Dataset:
  """The data set of that name.

  `digits`: scikit-learn's 1,797 handwritten digits, 8×8, gray; 500 of them, fixed, are
    the test images.
  `npz:PATH`: arrays `image` and, where known, `label`; and `test_image`, `test_label`.
    Without test images a fixed fifth of the images is held out as such.
  `tfds:NAME`: a prepared set of TensorFlow Datasets with the splits `train` and `test`,
    read without TensorFlow.
  `made:HxWxC`: 240 images of that shape, made in memory, to see a config work: four classes,
    each bright in a quarter of its own, in noise.
  `words:NAME`: the data set of that name with `text`, [n, length] uint8: the name of each
    example's class in UTF-8, 0 after its end.

  Raises UserError for a name or a file that is not one of these.
  """
  kind, _, place = name.partition(":")
  if name == "digits":
    return _digits()
  if kind == "words" and place:
    return _with_words(load(place))
  if kind in ("npz", "tfds", "made") and place:
    return {"npz": _npz, "tfds": _tfds, "made": _made}[kind](place)
  raise UserError(f"no data set {name!r}; there are: digits, npz:PATH, tfds:NAME, made:HxWxC")


def hold_out(dataset: Dataset, count: int) -> Dataset:
  """The training examples alone: `count` of them, fixed, become the test examples."""
  size = _size(dataset.train)
  if not (isinstance(count, int | np.integer) and 0 < count < size):
    raise UserError(f"cannot hold out {count} of {size} training examples")
  return _split(dataset.train, count, dataset.classes)


def _split(arrays, count, classes):
  order = np.random.default_rng(0).permutation(_size(arrays))
  parts = np.sort(order[count:]), np.sort(order[:count])
  return Dataset(*(jax.tree.map(lambda x, rows=rows: x[rows], arrays) for rows in parts), classes)


def _size(arrays):
  return len(jax.tree.leaves(arrays)[0])


def _digits():
  from sklearn.datasets import load_digits

  digits = load_digits()
  image = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
  arrays = {"image": image, "label": digits.target.astype(np.int32)}
  return _split(arrays, 500, tuple("0123456789"))


def _with_words(dataset):
  if not dataset.classes:
    raise UserError("words: the data have no labels, so no class words")
  words = [name.encode() for name in dataset.classes]
  table = np.zeros((len(words), max(map(len, words))), np.uint8)
  for row, word in zip(table, words, strict=True):
    row[: len(word)] = np.frombuffer(word, np.uint8)
  train, test = ({**part, "text": table[part["label"]]} for part in dataset[:2])
  return Dataset(train, test, dataset.classes)


def _made(shape):
  sides = re.fullmatch("x".join([r"([1-9][0-9]{0,9})"] * 3), shape, re.ASCII)
  if sides is None:
    raise UserError(f"made:{shape} is no shape of images; made:32x32x3 is one")
  h, w, c = map(int, sides.groups())
  if h * w * c > MOST_MADE:
    raise UserError(f"made:{shape} is too large; an image has at most {MOST_MADE:,} values")
  rng = np.random.default_rng(0)
  label = np.arange(240, dtype=np.int32) % 4
  image = rng.integers(0, 128, (240, h, w, c), np.uint8)
  upper, left = np.arange(h)[:, None] < h / 2, np.arange(w) < w / 2
  quarters = np.stack([(upper == top) & (left == near) for top in (1, 0) for near in (1, 0)])
  image += (np.uint8(127) * quarters[label])[..., None]
  return _split({"image": image, "label": label}, 40, tuple("0123"))


def _npz(path):
  path = os.path.expanduser(path)
  try:
    with np.load(path, allow_pickle=False) as file:
      found = {name: np.asarray(file[name]) for name in file.files}
  except FileNotFoundError:
    raise UserError(f"no such file: {path} (a relative path starts where you are)") from None
  except MemoryError:
    raise UserError(f"{path} declares arrays that do not fit into memory") from None
  except (AttributeError, EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile):
    raise UserError(f"{path} is not an npz file of plain arrays; np.savez writes one") from None
  except DAMAGED as error:
    fault = " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path} cannot be read: {fault}; write it again by np.savez") from None
  if "image" not in found:
    raise UserError(f"{path} has no array 'image'; it has: {', '.join(sorted(found)) or 'none'}")
  if "test_label" in found and "test_image" not in found:
    raise UserError(f"{path} has 'test_label' but no 'test_image'")
  if "test_image" in found and ("label" in found) != ("test_label" in found):
    raise UserError(f"{path}: give both 'label' and 'test_label', or neither")
  arrays = {"image": _images(path, "image", found["image"])}
  own = (
    {"image": _images(path, "test_image", found["test_image"])} if "test_image" in found else None
  )
  if own and own["image"].shape[1:] != arrays["image"].shape[1:]:
    raise UserError(
      f"{path}: images are {arrays['image'].shape[1:]} and test images {own['image'].shape[1:]}"
    )
  classes = ()
  if "label" in found:
    given = [
      _labels(path, name, found[name], len(images["image"]))
      for name, images in (("label", arrays), ("test_label", own))
      if images
    ]
    # Numbered anew, so that a few labels of large value do not stand for as many classes.
    values, numbers = np.unique(np.concatenate(given), return_inverse=True)
    classes = tuple(str(value) for value in values)
    if len(classes) < 2:
      raise UserError(f"{path}: all labels are {classes[0]}; leave them out, or give two classes")
    numbers = numbers.astype(np.int32)
    arrays["label"] = numbers[: len(arrays["image"])]
    if own:
      own["label"] = numbers[len(arrays["image"]) :]
  if own:
    return Dataset(arrays, own, classes)
  count = len(arrays["image"])
  if count < 5:
    raise UserError(f"{path}: {count} images are too few to hold out a fifth")
  return _split(arrays, count // 5, classes)


def _labels(path, name, label, count):
  """The labels as int64, [count]; raises UserError for all but integers ≥ 0."""
  fix = f"np.unique({name}, return_inverse=True)[1] numbers the classes"
  if label.shape != (count,):
    raise UserError(
      f"{path}: {name} must be one integer for each of {count} images, [{count}], not "
      f"{list(label.shape)}; of a column take {name}[:, 0], of one-hot rows {name}.argmax(1)"
    )
  if label.dtype.kind not in "iu":
    raise UserError(f"{path}: {name} must be integers, not {label.dtype}; {fix}")
  if label.min() < 0 or label.max() > np.iinfo(np.int64).max:
    wrong = label.min() if label.min() < 0 else label.max()
    raise UserError(f"{path}: {name} must be 0 or more and below 2^63, not {wrong}; {fix}")
  return label.astype(np.int64)


def _images(path, name, image):
  if image.ndim == 3:
    image = image[..., None]
  if image.ndim != 4 or not image.size:
    raise UserError(f"{path}: {name} must be [n, h, w] or [n, h, w, c], not {list(image.shape)}")
  check_images(f"{path}: {name}", image)
  return image if image.dtype == np.uint8 else image.astype(np.float32)


def _tfds(name):
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder(name)
  except tfds.core.registered.DatasetNotFoundError:
    known = [*tfds.list_builders(with_community_datasets=False)]
    raise UserError(f"TFDS has no data set {name!r}{_close(name, known)}") from None
  except Exception as error:  # it raises many kinds for a name, a version or a config it lacks
    raise UserError(f"TFDS cannot open {name!r}: {str(error).splitlines()[0]}") from None
  if not builder.is_prepared():
    how = (
      f"contrastax prepare {builder.name}"
      if builder.name in PREPARED_BY_US
      else f"tfds build {name} --file_format=array_record (this needs TensorFlow)"
    )
    raise UserError(
      f"the data set tfds:{name} is not prepared below {builder.data_dir}; run: {how}"
    )
  features = builder.info.features
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
    train, test = (_read(builder, split) for split in ("train", "test"))
  except NotImplementedError:
    raise UserError(
      f"tfds:{name} is prepared as {builder.info.file_format.value}; "
      "reading without TensorFlow needs --file_format=array_record"
    ) from None
  except (OSError, RuntimeError) as error:  # array_record's hash, or an image that is none
    text = str(error).splitlines()[0]
    raise UserError(f"{builder.data_path} is damaged ({text}); prepare it again") from None
  return Dataset(train, test, tuple(label.names))


def _close(name, known):
  text = nearest(name, known)
  return text if "mean" in text else "; `tfds.list_builders()` lists what it has"


def _read(builder, split):
  source = builder.as_data_source(split=split)
  expected = builder.info.splits[split].num_examples
  if len(source) != expected:  # array_record opens a truncated file as an empty one
    raise UserError(
      f"{builder.data_path}: {split} has {len(source)} of {expected} examples; prepare it again"
    )
  image = np.empty((expected, *builder.info.features["image"].shape), np.uint8)
  label = np.empty(expected, np.int32)
  for i in range(expected):
    example = source[i]
    image[i], label[i] = example["image"], example["label"]
  return {"image": image, "label": label}
