"""What `report` asks of an encoder at the end of a run, and `evaluate` afterwards.

An encoder is here a function `encode(images, bounded=True)` that gives features [n, d]; its
arguments are those of `evaluation.embed`.
"""

from __future__ import annotations

import jax
import numpy as np

from contrastax import evaluation, views
from contrastax.core import key_for

WATCHED = 2000  # images whose geometry is measured: of the training set, in the end of the test set


def spaces(encoders, train, test) -> dict:
  """{row: (features of the images `train`, of `test`)}: of pixels, `raw`, and of each encoder."""
  pixels = {"raw": lambda x: np.asarray(views.to_float(x), np.float32).reshape(len(x), -1)}
  return {row: (encode(train), encode(test)) for row, encode in (pixels | encoders).items()}


def few_labels(features, label, test_features, test_label) -> dict:
  """`linear_1` and `linear_5`: the linear probe with so many labels per class, `over` 20 draws."""
  split = features, label, test_features, test_label
  return {f"linear_{n}": over(evaluation.few_label(*split, per_class=n)) for n in (1, 5)}


def over(values) -> dict:
  """Values over draws or seeds: `mean`, `half_interval` (half of the 95 % interval), `values`."""
  mean, half = evaluation.mean_and_interval(values)
  return {"mean": mean, "half_interval": half, "values": [float(value) for value in values]}


def geometry(encode, recipes, images, label, features) -> dict[str, float]:
  """Of `features`, the images'; alignment: of the features of two random views of each.

  recipes: a method's views; of one recipe per view the first is taken. label: [n] or None.
  """
  x, y = (encode(view, bounded=False) for view in draw(recipes, images, "alignment", 2))
  measured = _measure(x, y, features, label)
  return {name: float(measured[name]) for name in measured}


def draw(recipes, images, purpose: str, count: int):
  """`count` random views of the images, one at a time; for each purpose other ones."""
  recipe = recipes if callable(recipes) else recipes[0]
  index = np.arange(len(images), dtype=np.int32)
  for key in jax.random.split(key_for(0, purpose), count):
    yield np.asarray(_view(recipe, key, images, index))


_view = jax.jit(lambda recipe, key, images, index: recipe(key, images, index), static_argnums=0)


@jax.jit
def _measure(x, y, z, label):
  measures = {
    "alignment": evaluation.alignment(x, y),
    "uniformity": evaluation.uniformity(z),
    "effective_rank": evaluation.effective_rank(z),
    "embedding_std": evaluation.embedding_std(z),
  }
  return measures if label is None else {**measures, "tolerance": evaluation.tolerance(z, label)}
