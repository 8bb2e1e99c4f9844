"""Weights of a network that are not trained."""

from __future__ import annotations

from typing import Any

from flax import nnx

from contrastax.core import UserError
from contrastax.encoders.batch_norm import BatchNorm


class Frozen(nnx.Variable):
  """A weight that is not trained. It is state, so weight decay does not change it either."""


def freeze(module: nnx.Module, *names: str) -> None:
  """Turns parameters of a module into state, in place.

  BatchNorm in a frozen module uses its running averages in training too, and does not change them.

  Args:
    module: the module.
    names: the names of the attributes that are frozen: parameters or modules, of which all
      parameters are frozen. Without names the whole module is frozen.
  """
  names = names or tuple(vars(module))
  for name in names:
    value: Any = getattr(module, name)
    if isinstance(value, nnx.Param):
      setattr(module, name, Frozen(value[...]))
    elif isinstance(value, nnx.Module):
      freeze(value)
  if isinstance(module, BatchNorm):
    module.frozen = True


def check_frozen_layers(encoder: str, count: Any, layers: int) -> None:
  """Checks the number of frozen layers of an encoder.

  Args:
    encoder: the name of the encoder, for the message.
    count: the number of frozen layers.
    layers: the number of all layers.

  Raises:
    UserError: the number is not an integer from 0 to `layers`.
  """
  if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= layers:
    raise UserError(
      f"{encoder}: frozen_layers must be an integer from 0 to {layers}, the number of layers of this "
      f"encoder, not {count!r}"
    )
