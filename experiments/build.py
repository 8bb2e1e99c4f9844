"""From a config to parts."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from contrastax import core, data, pairwise, training
from contrastax.parts import assemble
from experiments.schema import completed


class Parts(NamedTuple):
  dataset: data.Dataset
  source: core.Source
  method: core.Method
  optimizer: optax.GradientTransformation


def build(config: ConfigDict, mesh: Mesh, *, allow: Collection[str] | None = None) -> Parts:
  """The parts that a config names.

  Args:
    config: see `experiments.schema`; defaults may be left out.
    mesh: the devices.
    allow: modules of the user that the config may name; None: all.

  Raises:
    UserError: the config is wrong, or a part cannot take its arguments.
  """
  values = completed(config.to_dict(), allow=allow)
  found = data.load(values["data"])
  if values["validation"]:
    found = data.hold_out(found, values["validation"])
  if len(found.test["image"]) < 4:
    raise core.UserError(f"{len(found.test['image'])} test images are too few to judge a space by")
  source = _source(values, found.train, mesh)
  given = {
    "plan": pairwise.Plan(mesh=mesh),
    "examples": source.size,
    "steps": values["steps"],
  }
  return Parts(
    found,
    source,
    assemble(core.Method, values["method"], "config.method", given=given, allow=allow),
    assemble(
      optax.GradientTransformation,
      values["optimizer"],
      "config.optimizer",
      given=given,
      allow=allow,
    ),
  )


def _source(values, train, mesh):
  """The training examples in batches. `values["order"]` is None or shuffled."""
  size, seed, layout = values["batch_size"], values["seed"], training.sharded(mesh)
  return data.Resident(train, batch_size=size, seed=seed, sharding=layout)
