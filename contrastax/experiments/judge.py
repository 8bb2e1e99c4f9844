"""What `report` asks of an encoder at the end of a run, and `evaluate` afterwards.

An encoder is here a function `encode(images, bounded=True)` that gives features [n, d]; its
arguments are those of `evaluation.embed`.
"""

from __future__ import annotations

import jax
import numpy as np

from contrastax import evaluation, views
from contrastax.compilation import quick_jit
from contrastax.core import View, key_for
from contrastax.evaluation.embed import count_rows, in_batches

# Examples whose geometry is measured: of the training set, and at the end of the test set.
WATCHED = 2000


def spaces(encoders, train, test) -> dict:
  """{row: (features of the inputs `train`, of `test`)}, of each encoder.

  `raw`, the inputs themselves, is the first row, where they are images or vectors.
  """
  array = isinstance(train, np.ndarray)
  plain = array and (train.dtype.kind == "f" or (train.dtype == np.uint8 and train.ndim == 4))
  raw = {"raw": lambda x: np.asarray(views.to_float(x) if x.ndim == 4 else x, np.float32)}
  spaces = (raw if plain else {}) | encoders
  found = {row: (encode(train), encode(test)) for row, encode in spaces.items()}
  return {row: tuple(x.reshape(len(x), -1) for x in pair) for row, pair in found.items()}


def few_labels(features, label, test_features, test_label) -> dict:
  """`linear_1` and `linear_5`: the linear probe with so many labels per class, `over` 20 draws."""
  split = features, label, test_features, test_label
  return {f"linear_{n}": over(evaluation.few_label(*split, per_class=n)) for n in (1, 5)}


def over(values) -> dict:
  """Values over draws or seeds: `mean`, `half_interval` (half of the 95 % interval), `values`."""
  mean, half = evaluation.mean_and_interval(values)
  return {"mean": mean, "half_interval": half, "values": [float(value) for value in values]}


def geometry(encode, recipes, inputs, label, features) -> dict[str, float]:
  """Of `features`, the inputs'; alignment: of the features of two random views of each.

  recipes: a method's views, of which the first is taken; () where it has none. label: [n] or None.
  """
  views = [encode(view, bounded=False) for view in draw(recipes, inputs, "alignment", 2)]
  x, y = views or (features, features)
  measured = _measure(x, y, features, label)
  return {name: float(measured[name]) for name in measured}


def draw(recipes, inputs, purpose: str, count: int):
  """`count` random views of the inputs, one at a time; for each purpose other ones."""
  if not callable(recipes) and not recipes:
    return
  recipe = recipes if callable(recipes) else recipes[0]
  index = np.arange(count_rows(inputs), dtype=np.int32)
  for key in jax.random.split(key_for(0, purpose), count):
    # In batches, because the key and an example's index alone determine its view.
    yield in_batches(lambda part, key=key: _view(recipe, key, *part), (inputs, index))


@quick_jit(static_argnums=0)
def _view(recipe, key, inputs, index):
  view = recipe(key, inputs, index)
  return view.x if isinstance(view, View) else view


@quick_jit()
def _measure(x, y, z, label):
  measures = {
    "alignment": evaluation.alignment(x, y),
    "uniformity": evaluation.uniformity(z),
    "effective_rank": evaluation.effective_rank(z),
    "embedding_std": evaluation.embedding_std(z),
  }
  return measures if label is None else {**measures, "tolerance": evaluation.tolerance(z, label)}
