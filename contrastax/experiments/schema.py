"""The schema of a config: its keys, their types and ranges, and their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import optax

from contrastax import core, data, training
from contrastax.core import UserError
from contrastax.nouns import nearest
from contrastax.parts import UnknownKey, complete

MOVED = (
  "encoder", "projection", "predictor", "prototypes", "other_encoder", "other_projection", "views",
  "mix", "loss", "temperature", "score", "negatives", "relation",
)  # fmt: skip
"""Keys of the former flat configs, which are now keys of `method`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """One experiment: data, a method with its parts, an optimizer, and how the run is watched.

  data: digits, npz:PATH, tfds:NAME or made:HxWxC (see `contrastax.data.load`), or the
    "package.module:function" of your own, which returns a `data.Dataset`.
  batch_size: examples of one step, on all devices together.
  steps: how many steps the run has.
  method: the method, {"name": …, **fields}, with all its parts.
  optimizer: the optimizer, {"name": …, **arguments}; it gets `steps`.
  validation: how many training examples are held out, to judge on instead of the test examples.
  seed: of everything random.
  order: which examples make a batch, {"name": …, **arguments}; None: shuffled, each once an epoch.
    Its arrays, such as `by`, are names of arrays of the data.
  related: {name: array of the data} with the places of further examples, [size] or [size, k]; each
    batch then has their fields, as `name_image`.
  refresh: what is mined or clustered between segments of the run, {"name": …, "every": …}; or None.
  online_probe: whether a linear probe is trained beside the encoder, to watch the run by.
  stop_on_collapse: whether a run whose space has collapsed stops.
  log_every, eval_every, checkpoint_every: after so many steps metrics are logged, the training
    examples are judged, and a checkpoint is saved.
  """

  data: str
  batch_size: int
  steps: int = dataclasses.field(metadata={"least": 1})
  method: core.Method
  optimizer: optax.GradientTransformation
  validation: int = dataclasses.field(default=0, metadata={"least": 0})
  seed: int = dataclasses.field(default=0, metadata={"least": 0, "most": 2**32 - 1})
  order: data.Order | None = None
  related: Mapping[str, str] | None = None
  refresh: training.Refresh | None = None
  online_probe: bool = False
  stop_on_collapse: bool = False
  log_every: int = dataclasses.field(default=20, metadata={"least": 1})
  eval_every: int = dataclasses.field(default=100, metadata={"least": 1})
  checkpoint_every: int = dataclasses.field(default=100, metadata={"least": 1})


FIELDS = {field.name: field for field in dataclasses.fields(Experiment)}


def completed(values: Mapping[str, Any], *, allow: Collection[str] | None = None) -> dict[str, Any]:
  """The config with the defaults of all its parts. It is checked, and nothing is built.

  Args:
    values: the config.
    allow: modules of the user that it may name; None: all.

  Raises:
    UserError: a key is unknown or missing, or a value is of a wrong type or out of range.
  """
  for key in values:
    if key in MOVED:
      raise UserError(
        f"config.{key}: the parts of a method are stated in it; move the key to config.method.{key}"
      )
    if key not in FIELDS:
      raise UnknownKey(
        f"config.{key}", f"config.{key}: the config has no {key!r}{nearest(key, FIELDS)}"
      )
  for key, field in FIELDS.items():
    if key not in values and field.default is dataclasses.MISSING:
      raise UserError(f"the config has no {key!r}; every config needs it")
  found = complete(Experiment, values, "config", allow=allow)
  for key, field in FIELDS.items():
    if field.metadata:
      core.check_integer(f"config.{key}", found[key], **field.metadata)
  return found


def is_flat(values: Mapping[str, Any]) -> bool:
  """Whether a run's config is of a version whose configs had the method's parts at the top."""
  return any(key in values for key in MOVED)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """{"optimizer.name": "adamw", "method.negatives.0.name": "in_batch", …}"""
  found = {}
  for key, value in values.items():
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
      value = {str(i): each for i, each in enumerate(value)}
    nested = isinstance(value, Mapping)
    found.update(flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
  return found
