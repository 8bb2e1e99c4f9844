"""From a config to parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from contrastax import core, data, pairwise, training
from contrastax.networks import fields
from contrastax.parts import assemble
from experiments.schema import completed


class Parts(NamedTuple):
  dataset: data.Dataset
  source: core.Source
  method: core.Method
  optimizer: optax.GradientTransformation
  refresh: training.Refresh | None

  def first_batch(self) -> core.Batch:
    """The batch of the first step."""
    source = self.source
    if self.refresh is not None:
      source = self.refresh.apply(source, self.refresh.begun(source))
    return source.batch(0)

  def source_at(self, state: core.TrainState) -> core.Source:
    """The source whose refreshed arrays, where there are any, are of this state."""
    if self.refresh is None:
      return self.source
    return self.refresh.apply(self.source, self.refresh.arrays(self.method, state, self.source))


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
  if len(count := next(iter(found.test.values()))) < 4:
    raise core.UserError(f"{len(count)} test examples are too few to judge a space by")
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
    values["refresh"]
    and assemble(training.Refresh, values["refresh"], "config.refresh", allow=allow),
  )


def inputs_of(method: core.Method, arrays: Mapping[str, Any]) -> Any:
  """What the method's evaluated network encodes of a split of the data."""
  return fields(arrays, method.evaluated.input, "the data")


def encoder_spec(config: ConfigDict, network: str) -> Any:
  """What a config states of a network of its method, by the network's name."""
  method = config.to_dict()["method"]
  tag, _, field = network.rpartition(".")
  if tag:
    (method,) = (tower for tower in method["towers"] if tower["tag"] == tag)
  return method[field]


def _source(values, train, mesh):
  """The training examples in batches. `values["order"]` is None or shuffled."""
  size, seed, layout = values["batch_size"], values["seed"], training.sharded(mesh)
  return data.Resident(train, batch_size=size, seed=seed, sharding=layout)
