"""From a config to parts."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

# isort: off
from contrastax import core, criteria, data, encoders, methods, negatives, pairwise, parts
from contrastax import positives, schedules, temperatures, training, views
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
# The least value of each; the data and the optimizer bound batch_size and warmup themselves.
INTEGERS = {
  "validation": 0,
  "batch_size": None,
  "steps": 1,
  "log_every": 1,
  "eval_every": 1,
  "checkpoint_every": 1,
}
BOOLS = ("online_probe", "stop_on_collapse")
JOINED = {"negatives": (operator.add, negatives), "relation": (operator.and_, positives)}


class Parts(NamedTuple):
  dataset: data.Dataset
  source: core.Source
  method: core.Method
  optimizer: object


def check(config: Mapping) -> None:
  """Raises UserError where a key is missing, or a value that is no part of a wrong type or range."""
  for key in (*INTEGERS, *BOOLS, "data", "seed", "method", "encoder", "optimizer"):
    if key not in config:
      raise core.UserError(f"the config has no {key!r}; every config needs it")
  if not isinstance(config["data"], str):
    raise core.UserError(f"data must be the name of a data set, not {config['data']!r}")
  core.check_seed(config["seed"])
  for key, least in INTEGERS.items():
    core.check_integer(key, config[key], least)
  for key in BOOLS:
    if not isinstance(config[key], bool):
      raise core.UserError(f"{key} must be True or False, not {config[key]!r}")
  if isinstance(config["optimizer"], Mapping):
    core.check_integer("warmup", config["optimizer"].get("warmup", 0))


def build(config: ConfigDict, mesh: Mesh) -> Parts:
  """The parts that a config names; raises UserError where one is wrong."""
  values: dict[str, Any] = config.to_dict()
  check(values)
  found = data.load(values["data"])
  if values["validation"]:
    found = data.hold_out(found, values["validation"])
  if len(found.test["image"]) < 4:
    raise core.UserError(f"{len(found.test['image'])} test images are too few to judge a space by")
  layout, size, seed = training.sharded(mesh), values["batch_size"], values["seed"]
  source = data.Resident(found.train, batch_size=size, seed=seed, sharding=layout)
  kind = parts.find(methods, values["method"])
  fields = [field.name for field in dataclasses.fields(kind)]
  given = {"examples": source.size, "plan": pairwise.Plan(mesh=mesh)}
  given = {name: value for name, value in given.items() if name in fields}
  for key in {*PACKAGES, *JOINED, "loss"} & {*values}:
    if key not in fields:
      raise core.UserError(f"{kind.__name__} takes no {key!r}; leave it out of the config")
    with _named(key):
      given[key] = _part(kind, key, values)
  with _named("method"):
    method = parts.build(methods, _scheduled(values["method"], values), **given)
  with _named("optimizer"):
    optimizer = parts.build(optimizers, values["optimizer"], steps=values["steps"])
  return Parts(found, source, method, optimizer)


@contextlib.contextmanager
def _named(key):
  """A value that a part cannot take, such as a text for a number, as one line with the part's key."""
  try:
    yield
  except core.UserError:
    raise
  except (TypeError, ValueError) as error:
    raise core.UserError(f"{key}: {' '.join(str(error).split())}") from error


def _part(kind, key, config):
  spec = config[key]
  if key == "loss":
    if hasattr(kind, "losses"):  # a method of losses on arrays
      given = ("views", "temperature", "plan")
      return parts.bind(kind.losses, _scheduled(spec, config), later=given)
    return parts.build(criteria, _scheduled(spec, config))
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
