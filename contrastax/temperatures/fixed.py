"""A constant temperature."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Params, Side, State, Temperature, UserError


@dataclasses.dataclass(frozen=True)
class fixed(Temperature):
  """The same temperature for all anchors and steps.

  Args:
    temperature: temperature τ > 0, in units of the similarity.

  Raises:
    UserError: the temperature is not a number above 0.

  Example:
    >>> from contrastax import temperatures
    >>> temperatures.fixed(0.1)
    fixed(temperature=0.1)
  """

  temperature: float

  def __post_init__(self):
    if not (isinstance(self.temperature, int | float) and self.temperature > 0):
      raise UserError(
        f"a temperature must be a number above 0, not {self.temperature!r}; "
        "usual values are 0.05 to 0.5"
      )

  @override
  def value(self, params: Params, state: State, side: Side) -> Array:
    return jnp.asarray(self.temperature, jnp.result_type(float))
