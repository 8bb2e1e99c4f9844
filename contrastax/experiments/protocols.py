"""The protocols of `evaluate`: tables {row: {column: value}}, a row per space."""

from __future__ import annotations

import jax
import numpy as np

from contrastax import data, evaluation
from contrastax.core import UserError
from contrastax.evaluation.finetune import labeled
from contrastax.evaluation.transfer import fitted
from contrastax.experiments import judge

NEIGHBORS = (20, 200)
RECALLS = (1, 5, 10)
LIDAR_INPUTS, LIDAR_VIEWS = 1000, 50
EPOCHS = {0.01: 60, 0.1: 30}  # of fine-tuning, by the share of the labels
SEEDS = 5  # of fine-tuning: other labels, another order


def frozen(encoders, train, test) -> dict:
  """`probes` and `retrieval`: what labels read off frozen features.

  train, test: {"inputs", "label"}. `probes` has a row `trained - raw`, draw by draw, where the inputs
  are a space themselves.
  """
  label, theirs = train["label"], test["label"]
  nearest = possible("knn_", NEIGHBORS, len(label), "training")
  depths = possible("recall@", RECALLS, len(theirs) - 1, "other test")
  probes, retrieval = {}, {}
  for row, features in judge.spaces(encoders, train["inputs"], test["inputs"]).items():
    split = features[0], label, features[1], theirs
    probes[row] = {
      **{f"knn_{k}": evaluation.knn(*split, k=k) for k in nearest},
      **judge.few_labels(*split),
      "linear": evaluation.linear(*split),
    }
    retrieval[row] = evaluation.retrieval(features[1], theirs, ks=depths)
  if "raw" in probes:
    probes["trained - raw"] = lead(probes["trained"], probes["raw"])
  return {"probes": probes, "retrieval": retrieval}


def geometry(encoders, recipes, inputs, label) -> dict:
  """The geometry of the inputs' space, and LiDAR where there are views."""
  inputs, label = head(inputs, judge.WATCHED), None if label is None else label[: judge.WATCHED]
  rows = {}
  for row, encode in encoders.items():
    rows[row] = judge.geometry(encode, recipes, inputs, label, encode(inputs))
    views = judge.draw(recipes, head(inputs, LIDAR_INPUTS), "lidar", LIDAR_VIEWS)
    of_views = [encode(view, bounded=False) for view in views]
    if of_views:
      rows[row]["lidar"] = float(evaluation.lidar(np.stack(of_views, 1)))
  return rows


def head(inputs, count: int):
  """The first `count` examples."""
  return jax.tree.map(lambda rows: rows[:count], inputs)


def fine_tuned(networks, train, test) -> dict:
  """Accuracies with 1 % and 10 % of the labels; the row of differences is seed by seed.

  networks: {row: (encoder, params, state)}. train, test: {"inputs", "label"}.
  """
  if not isinstance(train["inputs"], np.ndarray):
    raise UserError("fine-tuning takes inputs of one array, not a mapping of several")
  train, test = ({"image": split["inputs"], "label": split["label"]} for split in (train, test))
  rows = {row: {} for row in networks}
  for fraction, epochs in EPOCHS.items():
    count = len(labeled(train["label"], fraction))
    size = min(64, count)
    recipe = {"fraction": fraction, "steps": epochs * (count // size), "batch_size": size}
    for row, network in networks.items():
      rows[row][f"{fraction:.0%}"] = judge.over(
        [evaluation.fine_tune(*network, train, test, **recipe, seed=seed) for seed in range(SEEDS)]
      )
  return {**rows, "trained - untrained": lead(rows["trained"], rows["untrained"])}


def splits(name: str, validation: int, shape) -> list[dict]:
  """Training and test split of another, labeled data set, its images made the encoder's shape.

  validation: the run's; where images are held out of its training set, so are they of this one.
  """
  dataset = data.load(name)
  if "label" not in dataset.train:
    raise UserError(f"transfer is probed by labels; {name} has none")
  if validation:
    dataset = data.hold_out(dataset, validation)
  have = dataset.train["image"].shape[1:]
  if have != shape:
    print(f"{name}: images {have} are made {shape}")
  return [
    {"inputs": fitted(split["image"], shape), "label": split["label"]}
    for split in (dataset.train, dataset.test)
  ]


def lead(row, other) -> dict:
  """One row less another, where both have values of the same draws or seeds."""
  return {
    name: judge.over(np.subtract(found["values"], other[name]["values"]))
    for name, found in row.items()
    if isinstance(found, dict)
  }


def possible(name: str, ks, most: int, kind: str) -> tuple[int, ...]:
  """Those of `ks` that `most` images allow; says which are left out."""
  for k in ks:
    if k > most:
      print(f"{name}{k} is left out: there are {most} {kind} images")
  return tuple(k for k in ks if k <= most)
