"""The protocols of `evaluate`. Each returns tables {row: {column: value}} with one row per space."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from contrastax import data, evaluation
from contrastax.core import Encoder, Params, Recipe, State, UserError
from contrastax.data.dataset import labeled_only
from contrastax.evaluation.finetune import labeled
from contrastax.evaluation.transfer import fitted
from contrastax.experiments import measures
from contrastax.experiments.rows import image_options, input_fields
from contrastax.training.load import FrozenEncoder

NEIGHBORS = (20, 200)
RECALLS = (1, 5, 10)
LIDAR_INPUTS, LIDAR_VIEWS = 1000, 50
EPOCHS = {0.01: 60, 0.1: 30}
"""{fraction of the labels: epochs of fine-tuning}."""
SEEDS = 5
"""The number of seeds of fine-tuning. A seed determines the labels and the order of the examples."""


def frozen(
  encoders: Mapping[str, measures.Encode], train: Mapping[str, Any], test: Mapping[str, Any]
) -> dict[str, dict[str, dict[str, Any]]]:
  """Returns the tables `probes` and `retrieval` of frozen features.

  Args:
    encoders: {row: encoder}.
    train: `inputs` and `label` of the training examples.
    test: `inputs` and `label` of the test examples.

  Returns:
    {"probes": table, "retrieval": table}. If the inputs are a space, `probes` has a row
    `trained - raw` with the differences draw by draw; for an encoder that starts from known weights
    it has a row `trained - start`.
  """
  label, test_label = train["label"], test["label"]
  neighbors = up_to(len(label), NEIGHBORS, "knn_", "training")
  depths = up_to(len(test_label) - 1, RECALLS, "recall@", "other test")
  probes, retrieval = {}, {}
  for row, features in measures.spaces(encoders, train["inputs"], test["inputs"]).items():
    split = features[0], label, features[1], test_label
    probes[row] = {
      **{f"knn_{k}": evaluation.knn(*split, k=k) for k in neighbors},
      **measures.few_labels(*split),
      "linear": evaluation.linear(*split),
    }
    retrieval[row] = evaluation.retrieval(features[1], test_label, ks=depths)
  if "raw" in probes:
    probes["trained - raw"] = difference(probes["trained"], probes["raw"])
  if "start" in probes:
    probes["trained - start"] = difference(probes["trained"], probes["start"])
  return {"probes": probes, "retrieval": retrieval}


def geometry(
  encoders: Mapping[str, measures.Encode],
  recipes: Recipe | tuple[Recipe, ...],
  inputs: Any,
  label: np.ndarray | None,
) -> dict[str, dict[str, float]]:
  """Returns the geometry of each encoder's space, with `lidar` if the method has views.

  Args:
    encoders: {row: encoder}.
    recipes: the views of the method, see `measures.draw_views`.
    inputs: n inputs, of which the first `measures.MEASURED` are used.
    label: [n], or None.
  """
  lidar_inputs = measures.first_rows(inputs, LIDAR_INPUTS)
  inputs = measures.first_rows(inputs, measures.MEASURED)
  label = None if label is None else label[: measures.MEASURED]
  rows = {}
  for row, encode in encoders.items():
    rows[row] = measures.geometry(encode, recipes, inputs, label, encode(inputs))
    views = measures.draw_views(recipes, lidar_inputs, "lidar", LIDAR_VIEWS)
    of_views = [encode(view, bounded=False) for view in views]
    if of_views:
      rows[row]["lidar"] = float(evaluation.lidar(np.stack(of_views, 1)))
  return rows


def fine_tuned(
  networks: Mapping[str, tuple[Encoder, Params, State]],
  train: Mapping[str, Any],
  test: Mapping[str, Any],
) -> dict[str, dict[str, dict[str, Any]]]:
  """Returns the accuracies of fine-tuning with 1 % and 10 % of the labels.

  Args:
    networks: {row: (encoder, params, state)}.
    train: `inputs` and `label` of the training examples.
    test: `inputs` and `label` of the test examples.

  Returns:
    A row per network, and rows with the differences of `trained` to the others, seed by seed.

  Raises:
    UserError: the inputs are a mapping of several arrays.
  """
  if not isinstance(train["inputs"], np.ndarray):
    raise UserError("fine-tuning takes inputs of one array, not a mapping of several")
  train, test = ({"image": split["inputs"], "label": split["label"]} for split in (train, test))
  rows: dict[str, dict[str, dict[str, Any]]] = {row: {} for row in networks}
  for fraction, epochs in EPOCHS.items():
    count = len(labeled(train["label"], fraction))
    size = min(64, count)
    steps = epochs * (count // size)
    for row, network in networks.items():
      accuracies = [
        evaluation.fine_tune(
          *network, train, test, fraction=fraction, steps=steps, batch_size=size, seed=seed
        )
        for seed in range(SEEDS)
      ]
      rows[row][f"{fraction:.0%}"] = measures.summarized(accuracies)
  differences = {
    f"trained - {row}": difference(rows["trained"], rows[row]) for row in rows if row != "trained"
  }
  return {**rows, **differences}


def splits(run: FrozenEncoder, name: str, validation: int) -> list[dict[str, Any]]:
  """Returns the splits of another, labeled data set, with images of the encoder's shape.

  Args:
    run: an encoder of images.
    name: the name of the data set.
    validation: the number of training examples that the run holds out. If it is not 0, as many
      examples of this data set are held out too.

  Returns:
    `inputs` and `label` of the training examples and of the test examples.

  Raises:
    UserError: the data set does not exist, has no labels, or has images that do not fit.
  """
  shape = run.inputs.shape
  dataset = data.load(name, **image_options(name, shape))
  if "label" not in dataset.train:
    raise UserError(f"transfer is probed by labels; {name} has none")
  field = input_fields(run, name, dataset.train, fix="give data with one of them only")
  assert isinstance(field, str)  # The encoder has one input.
  if validation:
    dataset = data.hold_out(dataset, validation)
  dataset = labeled_only(dataset)
  image_shape = dataset.train[field].shape[1:]
  if image_shape != shape:
    print(f"{name}: images {image_shape} are converted to {shape}")
  return [
    {"inputs": _fitted(split[field], shape), "label": split["label"]}
    for split in (dataset.train, dataset.test)
  ]


def _fitted(images: Any, shape: tuple[int, ...]) -> Any:
  """Returns images of a shape. Images in files were decoded to it."""
  height, width, channels = shape
  if isinstance(images, data.Column) and images.shape[1:] == shape:
    return images
  return fitted(np.asarray(images), (height, width, channels))


def difference(
  row: Mapping[str, Any], other: Mapping[str, Any]
) -> dict[str, dict[str, float | list[float]]]:
  """Returns one row minus another, in the columns with values of the same draws or seeds."""
  return {
    name: measures.summarized(np.subtract(entry["values"], other[name]["values"]))
    for name, entry in row.items()
    if isinstance(entry, dict)
  }


def up_to(limit: int, values: Collection[int], prefix: str, kind: str) -> tuple[int, ...]:
  """Returns the values that are not above a limit, and prints which columns are left out.

  Args:
    limit: the number of images.
    values: numbers of neighbors, or depths.
    prefix: the name of the column before the value.
    kind: which images are counted.
  """
  for value in values:
    if value > limit:
      print(f"{prefix}{value} is left out: there are {limit} {kind} images")
  return tuple(value for value in values if value <= limit)
