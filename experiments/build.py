"""From a config to parts."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from typing import NamedTuple

# isort: off
from contrastax import core, data, encoders, losses, methods, negatives, pairwise, parts, positives
from contrastax import schedules, temperatures, training, views
from contrastax.training import optimizers
# isort: on

PACKAGES = {
  "encoder": encoders,
  "projection": encoders,
  "predictor": encoders,
  "prototypes": encoders,
  "other_encoder": encoders,
  "other_projection": encoders,
  "views": views,
  "mix": views,
  "temperature": temperatures,
  "score": pairwise.scores,
}
JOINED = {"negatives": (operator.add, negatives), "relation": (operator.and_, positives)}


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
  kind = parts.find(methods, config["method"])
  fields = [field.name for field in dataclasses.fields(kind)]
  given = {"examples": source.size, "plan": pairwise.Plan(mesh=mesh)}
  given = {name: value for name, value in given.items() if name in fields}
  for key in {*PACKAGES, *JOINED, "loss"} & {*config}:
    if key not in fields:
      raise core.UserError(f"{kind.__name__} takes no {key!r}; leave it out of the config")
    given[key] = _part(kind, key, config)
  method = parts.build(methods, _scheduled(config["method"], config), **given)
  optimizer = parts.build(optimizers, config["optimizer"], steps=config["steps"])
  return Parts(found, source, method, optimizer)


def _part(kind, key, config):
  spec = config[key]
  if key == "loss":
    package = getattr(kind, "losses", losses.groups)  # of groups, but where a method says other
    return parts.bind(package, _scheduled(spec, config), later=(*losses.groups.GIVEN, "views"))
  if key == "views" and isinstance(spec, tuple | list):  # a recipe per view
    return tuple(parts.build(views, each) for each in spec)
  if key in PACKAGES:
    return parts.build(PACKAGES[key], _scheduled(spec, config))
  if not isinstance(spec, tuple | list) or not spec:
    raise core.UserError(f"{key} is a tuple of parts, not {spec!r}")
  operation, package = JOINED[key]
  return functools.reduce(operation, (parts.build(package, each) for each in spec))


def _scheduled(spec, config):
  """The part with each of its arguments that names a schedule built: over the run's steps, if it ends."""

  def built(value):
    if not (isinstance(value, dict) and "name" in value):
      return value
    ends = "steps" in inspect.signature(parts.find(schedules, value)).parameters
    return parts.build(schedules, value, **({"steps": config["steps"]} if ends else {}))

  return {k: built(v) for k, v in spec.items()} if isinstance(spec, dict) else spec
