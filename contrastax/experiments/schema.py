"""The schema of a config: its keys with their types, ranges and defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal

import optax

from contrastax import core, data, training
from contrastax.annotations import PLACE
from contrastax.core import UserError
from contrastax.nouns import nearest
from contrastax.parts import UnknownKey, complete

FORMER_KEYS = (
  "encoder", "projection", "predictor", "prototypes", "other_encoder", "other_projection", "views",
  "mix", "loss", "temperature", "score", "negatives", "relation",
)  # fmt: skip
"""Keys of former configs, which are now keys of `method`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """The keys of a config, which describes one experiment.

  Args:
    data: the data set: a name such as digits or folder:PATH, or {"name": …, **options} (see
      `contrastax.data.load`); or "package.module:function" with a function of your own that returns
      a `data.Dataset`.
    batch_size: the number of examples of one step, on all devices together.
    steps: the number of steps of the run.
    method: the method with all its parts, {"name": …, **fields}.
    optimizer: the optimizer, {"name": …, **arguments}. It receives `steps`.
    validation: the number of training examples that are held out. If it is not 0, the run is
      evaluated on these instead of the test examples.
    seed: the seed of all random numbers.
    stream: whether batches are read from disk while the run trains. The batches are the same. None:
      whether the images of the data, once decoded, take more than 1 GiB.
    order: the order of the examples, {"name": …, **arguments}. An argument that is an array, such as
      `by`, is the name of an array of the data. None: a shuffle in which each example comes once per
      epoch.
    related: {name: array of the data}. The array, [size] or [size, k], has the indices of further
      examples. Each batch then has the fields of these examples, such as `name_image`.
    refresh: what is computed between segments of the run, {"name": …, "every": …}, or None.
    average: the decay of the moving average of the encoder's weights that is evaluated and loaded,
      above 0 and below 1. None: the weights themselves.
    online_probe: whether a linear probe is trained beside the encoder, to monitor the run.
    loggers: where metrics are logged beside metrics.jsonl and TensorBoard: any of wandb, trackio and
      mlflow.
    stop_on_collapse: whether the run stops if the embeddings have collapsed.
    log_every: the number of steps between two records of metrics.
    eval_every: the number of steps between two evaluations on training examples.
    checkpoint_every: the number of steps between two checkpoints.
  """

  data: str | Mapping[str, Any]
  batch_size: int
  steps: int = dataclasses.field(metadata={"least": 1})
  method: core.Method
  optimizer: optax.GradientTransformation
  validation: int = dataclasses.field(default=0, metadata={"least": 0})
  seed: int = dataclasses.field(default=0, metadata={"least": 0, "most": 2**32 - 1})
  stream: bool | None = None
  order: data.Order | None = None
  related: Mapping[str, str] | None = None
  refresh: training.Refresh | None = None
  average: float | None = None
  online_probe: bool = False
  loggers: tuple[Literal["wandb", "trackio", "mlflow"], ...] = ()
  stop_on_collapse: bool = False
  log_every: int = dataclasses.field(default=20, metadata={"least": 1})
  eval_every: int = dataclasses.field(default=100, metadata={"least": 1})
  checkpoint_every: int = dataclasses.field(default=100, metadata={"least": 1})


FIELDS = {field.name: field for field in dataclasses.fields(Experiment)}


def completed(values: Mapping[str, Any], *, allow: Collection[str] | None = None) -> dict[str, Any]:
  """Returns the config with the defaults of all its parts. It checks the config and builds nothing.

  Args:
    values: the config.
    allow: the modules of the user that the config may name; None: all modules.

  Raises:
    UserError: a key is unknown or missing, or a value is of a wrong type or out of range.
  """
  for key in values:
    if key in FORMER_KEYS:
      raise UserError(
        f"config.{key} is an argument of the method; move the key to config.method.{key}"
      )
    if key not in FIELDS:
      raise UnknownKey(
        f"config.{key}", f"config.{key}: the config has no {key!r}{nearest(key, FIELDS)}"
      )
  for key, field in FIELDS.items():
    if key not in values and field.default is dataclasses.MISSING:
      raise UserError(f"the config has no {key!r}; every config needs it")
  config = complete(Experiment, values, "config", allow=allow)
  config["data"] = _completed_data(config["data"])
  for key, field in FIELDS.items():
    if field.metadata:
      core.check_integer(f"config.{key}", config[key], **field.metadata)
  average = config["average"]
  if average is not None and not 0 < average < 1:
    raise UserError(f"config.average must be above 0 and below 1, such as 0.999, not {average!r}")
  return config


def data_name(config: Mapping[str, Any]) -> str:
  """Returns the name of the data set of a config."""
  return config["data"] if isinstance(config["data"], str) else config["data"]["name"]


def _completed_data(value: str | Mapping[str, Any]) -> str | dict[str, Any]:
  """Returns the data set of a config with the defaults of its options.

  A data set without options is written as its name.
  """
  options = {} if isinstance(value, str) else dict(value)
  name = options.pop("name", None) if isinstance(value, Mapping) else value
  where = "config.data" if isinstance(value, str) else "config.data.name"
  if isinstance(value, Mapping) and "name" not in value:
    raise UserError("config.data needs 'name', such as {'name': 'folder:photos', 'size': 64}")
  if not isinstance(name, str):
    raise UserError(
      f"{where} must be the name of a data set, such as 'folder:photos', not {name!r}"
    )
  if name.partition(":")[0] in data.KINDS or not PLACE.fullmatch(name):
    try:
      options = data.complete(name, options, "config.data")
    except UserError as error:
      if str(error).startswith("config.data"):
        raise
      raise UserError(f"{where}: {error}") from None
  elif options:
    raise UserError(
      f"config.data: the function {name} takes no options; leave out {next(iter(options))!r}"
    )
  return {"name": name, **options} if options else name


def modules_of(config: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the modules of the user that a config names."""
  texts = [value for value in flat(config).values() if isinstance(value, str)]
  modules = {text.partition(":")[0] for text in texts if PLACE.fullmatch(text)}
  return tuple(sorted(modules - {*data.KINDS}))


def is_former(values: Mapping[str, Any]) -> bool:
  """Returns whether a run's config is of a version whose configs had the method's parts on top."""
  return any(key in values for key in FORMER_KEYS)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Flattens a config to {path: value}.

  Args:
    values: the config.
    prefix: the start of each path.

  Example:
    >>> from contrastax.experiments.schema import flat
    >>> flat({"steps": 9, "method": {"negatives": ({"name": "in_batch"},)}})
    {'steps': 9, 'method.negatives.0.name': 'in_batch'}
  """
  leaves = {}
  for key, value in values.items():
    inner: Any = value
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
      inner = {str(i): each for i, each in enumerate(value)}
    if isinstance(inner, Mapping):
      leaves.update(flat(inner, f"{prefix}{key}."))
    else:
      leaves[f"{prefix}{key}"] = inner
  return leaves
