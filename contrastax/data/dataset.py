"""A data set in memory, and how examples of it are held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from contrastax.core import UserError
from contrastax.data.columns import Column
from contrastax.labels import has_label


class Dataset(NamedTuple):
  """A data set in memory, divided into training and test examples.

  Attributes:
    train: fields by name: arrays, or trees of arrays, with one example per row. A field may also be
      a `Column`, whose rows are read from files when they are needed. `image` [n, h, w, c]
      is uint8, or float in [0, 1]. `label` [n] contains integers, where −1 means no label. Other
      fields may have any names.
    test: the same fields of the test examples; {} if no examples are held out.
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
  return split(dataset.train, count, dataset.classes)


def with_test(dataset: Dataset, name: str) -> Dataset:
  """Holds out a fixed fifth of the examples, if the data set has no test examples.

  Args:
    dataset: the data set.
    name: its name, for messages.

  Raises:
    UserError: there are fewer than five examples.
  """
  if dataset.test:
    return dataset
  size = _size(dataset.train)
  if size < 5:
    kind = "images" if "image" in dataset.train else "examples"
    raise UserError(
      f"{name}: {size} {kind} are too few to hold out a fifth; give 5 or more, or test examples"
    )
  return split(dataset.train, size // 5, dataset.classes)


def split(arrays: dict[str, Any], count: int, classes: tuple[str, ...]) -> Dataset:
  """Returns a data set whose test examples are a fixed random choice of `count` examples.

  A test example whose file has the same content as that of a training example becomes a training
  example.
  """
  is_test = np.zeros(_size(arrays), bool)
  is_test[np.random.default_rng(0).permutation(len(is_test))[:count]] = True
  columns = [leaf for leaf in jax.tree.leaves(arrays) if isinstance(leaf, Column)]
  before = -1
  while is_test.sum() != before:  # An example that is moved may have a copy in another column.
    before = is_test.sum()
    for column in columns:
      is_test &= ~np.isin(column.codes, column.codes[~is_test])
  return divide(arrays, is_test, classes)


def divide(arrays: Mapping[str, Any], is_test: np.ndarray, classes: tuple[str, ...]) -> Dataset:
  """Returns the data set of these fields.

  Args:
    arrays: fields by name, with n examples.
    is_test: [n], which examples are test examples.
    classes: the names of the classes.
  """
  train, test = (_take(arrays, np.flatnonzero(rows)) for rows in (~is_test, is_test))
  return Dataset(train, test, classes)


def _take(arrays: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
  return jax.tree.map(lambda x: x[rows], dict(arrays))


def _size(arrays: dict[str, Any]) -> int:
  return len(jax.tree.leaves(arrays)[0])


def labeled_only(dataset: Dataset) -> Dataset:
  """Returns a data set without the examples whose label is −1, which means no label.

  The same data set is returned if all examples have a label, or if none has one.
  """
  train, test = _labeled(dataset.train), _labeled(dataset.test)
  if train is dataset.train and test is dataset.test:
    return dataset
  return dataset._replace(train=train, test=test)


def _labeled(arrays: dict[str, Any]) -> dict[str, Any]:
  if "label" not in arrays:
    return arrays
  known = np.asarray(has_label(arrays["label"]))
  return arrays if known.all() else _take(arrays, known)


def encode_texts(texts: Sequence[str], most: int | None = None) -> np.ndarray:
  """Returns texts as bytes [n, length], uint8: each in UTF-8, followed by zeros.

  Args:
    texts: n texts.
    most: the largest number of bytes. A longer text is cut between two characters. None means no
      limit.

  Returns:
    The bytes. The length is that of the longest text, at least 1.
  """
  encoded = [text.encode("utf-8", "replace") for text in texts]
  if most is not None:
    encoded = [text[:most].decode("utf-8", "ignore").encode() for text in encoded]
  table = np.zeros((len(encoded), max(1, *map(len, encoded))), np.uint8)
  for row, text in zip(table, encoded, strict=True):
    row[: len(text)] = np.frombuffer(text, np.uint8)
  return table


def cut(text: str, length: int) -> str:
  """Returns the longest beginning of a text that has at most `length` bytes in UTF-8."""
  return text.encode(errors="replace")[:length].decode(errors="ignore")
