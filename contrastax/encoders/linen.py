"""Converts a Flax Linen module to an `Encoder`."""

from __future__ import annotations

import inspect
from typing import Any

from flax import linen

from contrastax.core import Encoder

IN_TRAINING = {
  "train": True,
  "training": True,
  "deterministic": False,
  "use_running_average": False,
}


def from_linen(module: linen.Module, *, together: bool = True) -> Encoder:
  """Converts a Flax Linen module to an encoder.

  The parameters are the collection `params`. The state consists of all other collections, such as
  `batch_stats`, without `intermediates`. Dropout and other random streams use the `key` of `apply`.
  Without it Flax raises InvalidRngError in training.

  Args:
    module: the module. It is called with a batch x, an array or a tree of arrays. Its arguments
      `train` and `training` become `train` of `apply`, and its arguments `deterministic` and
      `use_running_average` become `not train`. Other arguments keep their defaults.
    together: see `core.Encoder`.

  Returns:
    The encoder.

  Example:
    >>> from flax import linen
    >>> from contrastax import encoders
    >>> encoder = encoders.from_linen(linen.Dense(64))
  """
  parameters = inspect.signature(type(module).__call__).parameters

  def flags(train: bool) -> dict[str, Any]:
    return {name: train == value for name, value in IN_TRAINING.items() if name in parameters}

  def init(key, x):
    state = dict(module.init(key, x, **flags(False)))
    return state.pop("params", {}), state

  def apply(params, state, x, *, key=None, train):
    variables, mutable = {"params": params, **state}, list(state) if train else False
    y = module.apply(variables, x, rngs=key, mutable=mutable, **flags(train))
    return y if train else (y, state)

  return Encoder(init, apply, together)
