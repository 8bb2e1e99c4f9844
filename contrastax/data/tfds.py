"""Prepared data sets of TensorFlow Datasets."""

from __future__ import annotations

from typing import Any

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset
from contrastax.data.encoded import image_column, image_shape
from contrastax.data.index import File, checksum
from contrastax.labels import NONE
from contrastax.nouns import nearest

PREPARED_BY_US = ("cifar10", "fashion_mnist")


def read_tfds(
  name: str, *, size: int | tuple[int, int] | None = None, unlabeled: str | None = None
) -> Dataset:
  """Opens a prepared data set of TensorFlow Datasets.

  Args:
    name: the name in TensorFlow Datasets.
    size: the side of the decoded images in pixels, or (height, width). The images are then a
      `Column`. None means the size in the data set, and images in memory. They must then be of one
      size.
    unlabeled: a further split, such as "unlabelled" of STL-10, whose examples become training
      examples without a label.

  Returns:
    The data set. The test examples are those of the split `test`, or of `validation` if there is no
    `test`.

  Raises:
    UserError: there is no such data set, it is not prepared, or its features are unsuitable.
  """
  import tensorflow_datasets as tfds

  builder = _builder(name)
  features: Any = builder.info.features
  splits = {*builder.info.splits}
  test = "validation" if "validation" in splits and "test" not in splits else "test"
  if not {"image", "label"} <= set(features) or not {"train", test} <= splits:
    raise UserError(
      f"tfds:{name} must have the features image and label, and the splits train and test"
    )
  if unlabeled is not None and unlabeled not in splits:
    raise UserError(f"tfds:{name} has no split {unlabeled!r}{nearest(unlabeled, splits)}")
  image, label = features["image"], features["label"]
  if image.np_dtype != np.uint8 or (None in image.shape and size is None):
    raise UserError(
      f"tfds:{name}: images must be uint8 and of one size, not {image}; set the option size to convert "
      "images to one size"
    )
  if not isinstance(label, tfds.features.ClassLabel):
    raise UserError(f"tfds:{name}: label must be a ClassLabel, not {label}")
  shape = image.shape if size is None else image_shape(size, image.shape[-1])
  try:
    train, held_out = (
      _read_split(builder, split, shape, unlabeled if split == "train" else None)
      for split in ("train", test)
    )
  except NotImplementedError:
    found: Any = builder.info.file_format
    raise UserError(
      f"tfds:{name} is prepared as {found.value}, which needs TensorFlow; prepare it with "
      "--file_format=array_record"
    ) from None
  except (OSError, RuntimeError) as error:  # a wrong checksum in array_record
    text = str(error).splitlines()[0]
    raise UserError(f"{builder.data_path} is damaged ({text}); prepare it again") from None
  dataset = Dataset(train, held_out, tuple(label.names))
  if size is None:
    for part in dataset[:2]:
      part["image"] = np.asarray(part["image"])
  return dataset


def _builder(name: str) -> Any:
  """Returns the builder of a prepared data set."""
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
  return builder


def _suggest(name: str, known: list[str]) -> str:
  text = nearest(name, known)
  return text if "mean" in text else "; `tfds.list_builders()` lists the data sets of TFDS"


def _read_split(
  builder: Any, split: str, shape: tuple[int, int, int], unlabeled: str | None
) -> dict[str, Any]:
  """Reads the labels and the checksums of a split, and returns its fields."""
  import tensorflow_datasets as tfds

  encoded = {"image": tfds.decode.SkipDecoding()}
  names = (split,) if unlabeled is None else (split, unlabeled)
  sources = [builder.as_data_source(split=name, decoders=encoded) for name in names]
  for name, source in zip(names, sources, strict=True):
    expected = builder.info.splits[name].num_examples
    if len(source) != expected:  # array_record reads a truncated file as an empty file.
      raise UserError(
        f"{builder.data_path}: {name} has {len(source)} of {expected} examples; prepare it again"
      )
  places = [(source, i) for source in sources for i in range(len(source))]
  files, labels = [], np.full(len(places), NONE, np.int32)
  for row, (source, i) in enumerate(places):
    example = source[i]
    if source is sources[0]:
      labels[row] = example["label"]
    files.append(File(f"{split}/{row}", len(example["image"]), 0, checksum(example["image"])))

  def content(row: int) -> bytes:
    source, i = places[row]
    return source[i]["image"]

  return {"image": image_column(content, files, shape), "label": labels}
