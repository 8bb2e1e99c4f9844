"""Builds the parts of an experiment from its config."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from contrastax import core, data, pairwise, training
from contrastax.annotations import PLACE, imported
from contrastax.data import columns
from contrastax.data.dataset import labeled_only
from contrastax.evaluation.embed import count_rows
from contrastax.experiments.schema import completed, data_name
from contrastax.methods.base import MAIN, BaseMethod, all_terms
from contrastax.nouns import nearest
from contrastax.parts import assemble
from contrastax.paths import fields
from contrastax.terms import Contrast
from contrastax.training.description import without_files

MIN_TEST_EXAMPLES = 4
MOST_JUDGED = 100_000
"""The largest number of training examples on which probes are fitted."""
MOST_RESIDENT = 2**30
"""The largest size in bytes of decoded images that are kept in memory unless the config demands it."""


class Parts(NamedTuple):
  """The parts of an experiment.

  Args:
    dataset: the data set.
    source: the training examples in batches.
    method: the method.
    optimizer: the optimizer.
    refresh: arrays that are computed between segments of the run, or None.
    judged: the examples of the data set that are evaluated: without those whose label is −1, and at
      most `MOST_JUDGED` training examples.
    from_scratch: the method with random weights in place of those of files. It is `method` itself if
      no network starts from a file.
  """

  dataset: data.Dataset
  source: core.Source
  method: core.HasEvaluated
  optimizer: optax.GradientTransformation
  refresh: training.Refresh | None
  judged: data.Dataset
  from_scratch: core.HasEvaluated

  def first_batch(self) -> core.Batch:
    """Returns the batch of the first step."""
    source = self.source
    if self.refresh is not None:
      source = self.refresh.apply(source, self.refresh.begun(source))
    return source.batch(0)

  def source_at(self, state: core.TrainState) -> core.Source:
    """Returns the source with the refreshed arrays of a state, if the experiment has a refresh."""
    if self.refresh is None:
      return self.source
    return self.refresh.apply(self.source, self.refresh.arrays(self.method, state, self.source))


def build(
  config: ConfigDict,
  mesh: Mesh,
  *,
  allow: Collection[str] | None = None,
  dataset: data.Dataset | None = None,
) -> Parts:
  """Builds the parts that a config names.

  Args:
    config: the config, see `contrastax.experiments.schema`. Keys with a default may be missing.
    mesh: the devices.
    allow: the modules of the user that the config may name; None: all modules.
    dataset: the data set of the config, if it is already open.

  Raises:
    UserError: the config is invalid, or a part cannot take its arguments.
  """
  values = completed(config.to_dict(), allow=allow)
  if values["validation"] and values["related"]:
    raise core.UserError(
      "config.validation renumbers the training examples, but config.related contains their numbers; "
      "set validation to 0"
    )
  examples: data.Dataset = open_dataset(values, allow) if dataset is None else dataset
  if values["validation"]:
    examples = data.hold_out(examples, values["validation"])
  stream = _streams(values["stream"], examples)
  if not stream:
    examples = columns.keep(examples)
  judged = _fewer_training_examples(labeled_only(examples))
  if (count := count_rows(judged.test)) < MIN_TEST_EXAMPLES:
    kind = "test examples" if judged.test is examples.test else "test examples with a label"
    raise core.UserError(
      f"the data have {count} {kind}, which are too few to evaluate a space; give "
      f"{MIN_TEST_EXAMPLES} or more"
    )
  if values["online_probe"] and not examples.classes:
    raise core.UserError(
      "config.online_probe trains a linear probe, and the data have no labels; set "
      "config.online_probe to False"
    )
  source = _source(values, examples.train, data.Stream if stream else data.Resident, mesh, allow)
  given = {
    "plan": pairwise.Plan(mesh=mesh),
    "examples": source.size,
    "steps": values["steps"],
  }
  method = assemble(core.Method, values["method"], "config.method", given=given, allow=allow)
  from_scratch, random = method, without_files(values["method"])
  if random != values["method"]:
    from_scratch = assemble(core.Method, random, "config.method", given=given, allow=allow)
  return Parts(
    examples,
    source,
    method,
    assemble(
      optax.GradientTransformation,
      values["optimizer"],
      "config.optimizer",
      given=given,
      allow=allow,
    ),
    values["refresh"]
    and assemble(training.Refresh, values["refresh"], "config.refresh", allow=allow),
    judged,
    from_scratch,
  )


def inputs_of(method: core.HasEvaluated, arrays: Mapping[str, Any]) -> Any:
  """Returns the inputs of the evaluated network.

  Args:
    method: the method.
    arrays: the fields of a split of the data.
  """
  return fields(arrays, method.evaluated.input, "the data")


def contrast_of(method: core.Method) -> Contrast | None:
  """Returns the method's own term if it is a `Contrast`, else None."""
  main = all_terms(method).get(MAIN) if isinstance(method, BaseMethod) else None
  return main if isinstance(main, Contrast) else None


def encoder_spec(config: ConfigDict, network: str) -> Any:
  """Returns the spec of a network in a config, by the name that the method gives to the network."""
  method = config.to_dict()["method"]
  if "towers" not in method:
    return method[network]
  tag, _, field = network.rpartition("_")
  (tower,) = (tower for tower in method["towers"] if tower["tag"] == tag)
  return tower[field]


def network_specs(config: ConfigDict, method: core.HasEvaluated) -> dict[str, dict[str, Any]]:
  """Returns the entries of a config's encoders and projections for `training.train`.

  Args:
    config: the completed config.
    method: its method.
  """
  spec = config.to_dict()["method"]
  encoder, fields = method.evaluated.network, method.evaluated.input
  towers = [(encoder, spec.get("encoder"), fields, "projection", spec.get("projection"))]
  # With several positives of an example, the field has one more axis than the network's inputs.
  if spec.get("other_encoder") is not None and not spec.get("positives"):
    other = "other_projection"
    towers.append(("other_encoder", spec["other_encoder"], spec["inputs"][1], other, spec[other]))
  if "towers" in spec:
    towers = [
      (f"{tag}_encoder", tower["encoder"], tower["input"], f"{tag}_projection", tower["projection"])
      for tower in spec["towers"]
      for tag in (tower["tag"],)
    ]
  entries = {}
  for name, own, names, projection, of_projection in towers:
    entries[name] = {"encoder": own, "fields": names}
    if of_projection is not None:
      entries[projection] = {"encoder": of_projection, "of": name}
  return entries


def open_dataset(values: Mapping[str, Any], allow: Collection[str] | None) -> data.Dataset:
  """Loads the data set of a config, or calls the function of the user that its name refers to.

  Args:
    values: the completed config.
    allow: see `build`.
  """
  name = data_name(values)
  kind = name.partition(":")[0]
  if kind in data.KINDS or not PLACE.fullmatch(name):
    options = {} if isinstance(values["data"], str) else values["data"]
    return data.load(**{"name": name, **options})
  make = imported(name, "config.data", allow)
  try:
    dataset = make() if callable(make) else make
  except Exception as error:
    fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
    raise core.UserError(f"config.data: {name} raises {fault}") from error
  if not isinstance(dataset, data.Dataset):
    raise core.UserError(
      f"config.data: {name} must return a data.Dataset, not {type(dataset).__name__}"
    )
  if "label" in dataset.train and not dataset.classes:
    raise core.UserError(
      f"config.data: {name} has labels but no class names; give classes=('a', 'b', …)"
    )
  return dataset


def _fewer_training_examples(dataset: data.Dataset) -> data.Dataset:
  """Returns a data set of at most `MOST_JUDGED` training examples, a fixed random choice."""
  count = count_rows(dataset.train)
  if count <= MOST_JUDGED:
    return dataset
  rows = np.sort(np.random.default_rng(0).permutation(count)[:MOST_JUDGED])
  return dataset._replace(train=jax.tree.map(lambda x: x[rows], dataset.train))


def power_of_two(count: int) -> int:
  """Returns the largest power of two that is at most `count`."""
  return 1 << (count.bit_length() - 1)


def _streams(stream: bool | None, dataset: data.Dataset) -> bool:
  """Returns whether batches are read from disk while the run trains."""
  leaves = jax.tree.leaves(dataset[:2])
  size = sum(leaf.nbytes for leaf in leaves if isinstance(leaf, data.Column))
  return size > MOST_RESIDENT if stream is None else stream


def _source(
  values: Mapping[str, Any],
  train: Mapping[str, Any],
  kind: type[data.Resident] | type[data.Stream],
  mesh: Mesh,
  allow: Collection[str] | None,
) -> core.Source:
  size, seed, layout = values["batch_size"], values["seed"], training.sharded(mesh)
  count = count_rows(train)
  if values["order"] is None and size > count:
    raise core.UserError(
      f"batch_size must be between 1 and the data's {count}, not {size}; set config.batch_size to "
      f"{power_of_two(count)}"
    )
  related = {name: _array(train, field, name) for name, field in (values["related"] or {}).items()}
  if values["order"] is None:
    return kind(train, batch_size=size, seed=seed, related=related, sharding=layout)
  given = {"size": count, "batch_size": size, "seed": seed, "arrays": train}
  order = assemble(data.Order, values["order"], "config.order", given=given, allow=allow)
  if order.batch_size != size:
    raise core.UserError(
      f"config.order makes batches of {order.batch_size}, but batch_size is {size}; "
      f"set config.batch_size to {order.batch_size}"
    )
  return kind(train, order=order, related=related, sharding=layout)


def _array(arrays: Mapping[str, Any], field: str, name: str) -> Any:
  if field not in arrays:
    raise core.UserError(
      f"config.related.{name}: the data have no array {field!r}{nearest(field, arrays)}"
    )
  return arrays[field]
