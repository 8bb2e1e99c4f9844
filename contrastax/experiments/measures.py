"""Measurements of encoders, which `report` and `evaluate` share.

In these functions an encoder is a function `encode(inputs, bounded=True)` that returns features
[n, d]. Its arguments are those of `evaluation.embed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from contrastax import evaluation, views
from contrastax.compilation import quick_jit
from contrastax.core import Array, Recipe, View, key_for
from contrastax.data import Column
from contrastax.evaluation.embed import count_rows, in_batches
from contrastax.evaluation.transfer import fitted

Encode = Callable[..., np.ndarray]

MEASURED = 2000
"""The largest number of examples whose geometry is measured."""
RAW_SIDE = 32
"""The largest side in pixels of the images whose pixels are evaluated as a space."""


def first_rows(inputs: Any, count: int) -> Any:
  """Returns the first `count` examples of a tree of arrays."""
  return jax.tree.map(lambda rows: rows[:count], inputs)


def spaces(
  encoders: Mapping[str, Encode], train: Any, test: Any
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns the features of both splits in each space.

  Args:
    encoders: {row: encoder}.
    train: inputs of the training examples.
    test: inputs of the test examples.

  Returns:
    {row: (training features [n, d], test features [m, d])}. The first row is `raw`, the inputs
    themselves, if the inputs are images or vectors. Images of more than 32 pixels a side are resized
    to 32.
  """
  is_array = isinstance(train, np.ndarray | Column)
  is_plain = is_array and (train.dtype.kind == "f" or (train.dtype == np.uint8 and train.ndim == 4))
  raw = {"raw": _pixels}
  all_encoders = (raw if is_plain else {}) | dict(encoders)
  features = {row: (encode(train), encode(test)) for row, encode in all_encoders.items()}
  return {
    row: (first.reshape(len(first), -1), second.reshape(len(second), -1))
    for row, (first, second) in features.items()
  }


def _pixels(inputs: Any) -> np.ndarray:
  """Returns images or vectors as float32. Images above `RAW_SIDE` are resized to it."""
  if inputs.ndim != 4:
    return np.asarray(inputs, np.float32)
  _, height, width, channels = inputs.shape
  shape = (min(height, RAW_SIDE), min(width, RAW_SIDE), channels)
  pixels = in_batches(lambda batch: views.to_float(fitted(batch, shape)), inputs)
  return np.asarray(pixels, np.float32)


def few_labels(
  features: np.ndarray, label: np.ndarray, test_features: np.ndarray, test_label: np.ndarray
) -> dict[str, dict[str, Any]]:
  """Returns `linear_1` and `linear_5`: linear probes with 1 and 5 labels per class.

  Args:
    features: [n, d], training features.
    label: [n].
    test_features: [m, d].
    test_label: [m].

  Returns:
    {"linear_1": …, "linear_5": …}, each the `summarized` accuracies of 20 draws of the labels.
  """
  split = features, label, test_features, test_label
  return {f"linear_{n}": summarized(evaluation.few_label(*split, per_class=n)) for n in (1, 5)}


def summarized(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
  """Returns `mean`, `half_interval` (half of the 95 % interval) and `values` of draws or seeds."""
  mean, half = evaluation.mean_and_interval(values)
  return {"mean": mean, "half_interval": half, "values": [float(value) for value in values]}


def geometry(
  encode: Encode,
  recipes: Recipe | tuple[Recipe, ...],
  inputs: Any,
  label: np.ndarray | None,
  features: np.ndarray,
) -> dict[str, float]:
  """Returns the geometry of a space.

  Args:
    encode: the encoder.
    recipes: the views of a method, of which the first is used; () for a method without views.
    inputs: n inputs.
    label: [n], or None.
    features: [n, d], the features of the inputs.

  Returns:
    The measures of `features` by name, and `alignment` of the features of two random views of each
    input. Without views the alignment is that of `features` with themselves.
  """
  two_views = [encode(view, bounded=False) for view in draw_views(recipes, inputs, "alignment", 2)]
  x, y = two_views or (features, features)
  measured = _measure(x, y, features, label)
  return {name: float(measured[name]) for name in measured}


def draw_views(
  recipes: Recipe | tuple[Recipe, ...], inputs: Any, purpose: str, count: int
) -> Iterator[Any]:
  """Draws random views of the inputs.

  Args:
    recipes: the views of a method, of which the first is used; () for a method without views.
    inputs: n inputs.
    purpose: a name that determines the random key.
    count: the number of views.

  Yields:
    One view of all inputs, `count` times; nothing for a method without views.
  """
  if not callable(recipes) and not recipes:
    return
  recipe = recipes if callable(recipes) else recipes[0]
  index = np.arange(count_rows(inputs), dtype=np.int32)
  for key in jax.random.split(key_for(0, purpose), count):
    # A view depends on the key and the example's index only, so it can be drawn in batches.
    yield in_batches(lambda batch, key=key: _view(recipe, key, *batch), (inputs, index))


@quick_jit(static_argnums=0)
def _view(recipe: Recipe, key: Array, inputs: Any, index: Array) -> Any:
  view = recipe(key, inputs, index)
  return view.x if isinstance(view, View) else view


@quick_jit()
def _measure(x: Array, y: Array, z: Array, label: Array | None) -> dict[str, Array]:
  """Measures the alignment of x and y, and the geometry of z."""
  measures = {
    "alignment": evaluation.alignment(x, y),
    "uniformity": evaluation.uniformity(z),
    "effective_rank": evaluation.effective_rank(z),
    "embedding_std": evaluation.embedding_std(z),
  }
  return measures if label is None else {**measures, "tolerance": evaluation.tolerance(z, label)}
