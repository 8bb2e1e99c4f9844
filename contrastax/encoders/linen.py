"""A Flax Linen module as a pure `Encoder`."""

from __future__ import annotations

import inspect

from flax import linen

from contrastax.core import Encoder

IN_TRAINING = {
  "train": True,
  "training": True,
  "deterministic": False,
  "use_running_average": False,
}


def from_linen(module: linen.Module, *, together: bool = True) -> Encoder:
  """The encoder whose network is `module`, called with a batch x, an array or a tree of arrays.

  Linen has no mode of its own: an argument of the module's `__call__` named `train` or `training`
  is given `train`, one named `deterministic` or `use_running_average` its opposite; other
  arguments keep their defaults. Parameters are the collection `params`, state all other
  collections (`batch_stats`), but for `intermediates`. Dropout and other random streams draw from
  the `key` given to `apply`; without one Flax raises InvalidRngError in training. together: see
  `core.Encoder`.
  """
  known = inspect.signature(type(module).__call__).parameters

  def flags(train):
    return {name: train == value for name, value in IN_TRAINING.items() if name in known}

  def init(key, x):
    state = dict(module.init(key, x, **flags(False)))
    return state.pop("params", {}), state

  def apply(params, state, x, *, key=None, train):
    variables, mutable = {"params": params, **state}, list(state) if train else False
    y = module.apply(variables, x, rngs=key, mutable=mutable, **flags(train))
    return y if train else (y, state)

  return Encoder(init, apply, together)
