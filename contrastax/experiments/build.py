"""From a config to parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from contrastax import core, data, pairwise, training
from contrastax.annotations import PLACE, imported
from contrastax.evaluation.embed import count_rows
from contrastax.experiments.schema import completed
from contrastax.nouns import nearest
from contrastax.parts import assemble
from contrastax.paths import fields


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
    config: see `contrastax.experiments.schema`; defaults may be left out.
    mesh: the devices.
    allow: modules of the user that the config may name; None: all.

  Raises:
    UserError: the config is wrong, or a part cannot take its arguments.
  """
  values = completed(config.to_dict(), allow=allow)
  if values["validation"] and values["related"]:
    raise core.UserError(
      "config.validation renumbers the training examples, and config.related holds their numbers; "
      "set validation to 0"
    )
  found = _dataset(values["data"], allow)
  if values["validation"]:
    found = data.hold_out(found, values["validation"])
  if count_rows(found.test) < 4:
    raise core.UserError(f"{count_rows(found.test)} test examples are too few to judge a space by")
  source = _source(values, found.train, mesh, allow)
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
  if "towers" not in method:
    return method[network]
  tag, _, field = network.rpartition("_")
  (tower,) = (tower for tower in method["towers"] if tower["tag"] == tag)
  return tower[field]


def _dataset(name, allow):
  """The data set of a name, or what a function of the user returns."""
  kind = name.partition(":")[0]
  if kind in data.KINDS or not PLACE.fullmatch(name):
    return data.load(name)
  make = imported(name, "config.data", allow)
  try:
    found = make() if callable(make) else make
  except Exception as error:
    fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
    raise core.UserError(f"config.data: {name} raises {fault}") from error
  if not isinstance(found, data.Dataset):
    raise core.UserError(f"config.data: {name} gives {type(found).__name__}, not a data.Dataset")
  if "label" in found.train and not found.classes:
    raise core.UserError(
      f"config.data: {name} has labels, but no names of them; give classes=('a', 'b', …)"
    )
  return found


def _source(values, train, mesh, allow):
  """The training examples in batches."""
  size, seed, layout = values["batch_size"], values["seed"], training.sharded(mesh)
  related = {name: _array(train, field, name) for name, field in (values["related"] or {}).items()}
  if values["order"] is None:
    return data.Resident(train, batch_size=size, seed=seed, related=related, sharding=layout)
  given = {"size": count_rows(train), "batch_size": size, "seed": seed, "arrays": train}
  order = assemble(data.Order, values["order"], "config.order", given=given, allow=allow)
  if order.batch_size != size:
    raise core.UserError(
      f"config.order makes batches of {order.batch_size}, and batch_size is {size}; "
      f"set config.batch_size to {order.batch_size}"
    )
  return data.Resident(train, order=order, related=related, sharding=layout)


def _array(arrays, field, name):
  if field not in arrays:
    raise core.UserError(
      f"config.related.{name}: the data have no array {field!r}{nearest(field, arrays)}"
    )
  return arrays[field]
