"""From a config to parts."""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

# isort: off
from contrastax import core, data, encoders, losses, methods, negatives, pairwise, parts, positives
from contrastax import temperatures, training, views
from contrastax.training import optimizers
# isort: on

PACKAGES = {
  "encoder": encoders,
  "projection": encoders,
  "views": views,
  "temperature": temperatures,
  "score": pairwise.scores,
}


class Parts(NamedTuple):
  dataset: data.Dataset
  source: core.Source
  method: core.Method
  optimizer: object


def build(config, mesh) -> Parts:
  """The parts that a config names; raises UserError where one is wrong."""
  config = config.to_dict()
  found = data.load(config["data"])
  if config["validation"]:
    found = data.hold_out(found, config["validation"])
  if len(found.test["image"]) < 4:
    raise core.UserError(f"{len(found.test['image'])} test images are too few to judge a space by")
  layout, size, seed = training.sharded(mesh), config["batch_size"], config["seed"]
  source = data.Resident(found.train, batch_size=size, seed=seed, sharding=layout)
  method = parts.build(
    methods,
    config["method"],
    **{field: parts.build(package, config[field]) for field, package in PACKAGES.items()},
    loss=parts.bind(losses.groups, config["loss"], later=losses.groups.GIVEN),
    negatives=_join(operator.add, negatives, config, "negatives"),
    relation=_join(operator.and_, positives, config, "relation"),
    examples=source.size,
    plan=pairwise.Plan(mesh=mesh),
  )
  optimizer = parts.build(optimizers, config["optimizer"], steps=config["steps"])
  return Parts(found, source, method, optimizer)


def _join(operation, package, config, key):
  if not isinstance(config[key], tuple | list) or not config[key]:
    raise core.UserError(f"{key} is a tuple of parts, not {config[key]!r}")
  return functools.reduce(operation, (parts.build(package, spec) for spec in config[key]))
