"""Prepared data sets of TensorFlow Datasets."""

from __future__ import annotations

from typing import Any

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset
from contrastax.nouns import nearest

PREPARED_BY_US = ("cifar10", "fashion_mnist")


def read_tfds(name: str) -> Dataset:
  """Reads the splits `train` and `test` of a prepared data set into memory.

  Args:
    name: the name in TensorFlow Datasets.

  Raises:
    UserError: there is no such data set, it is not prepared, or its features are unsuitable.
  """
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
