"""A temperature that stays as it is."""

import dataclasses

import jax.numpy as jnp

from contrastax.core import Temperature, UserError


@dataclasses.dataclass(frozen=True)
class fixed(Temperature):
  """The same temperature τ > 0, in units of the similarity, for all anchors and steps."""

  temperature: float

  def __post_init__(self):
    if not (isinstance(self.temperature, int | float) and self.temperature > 0):
      raise UserError(
        f"a temperature must be a number above 0, not {self.temperature!r}; 0.05 to 0.5 is usual"
      )

  def value(self, params, state, side):
    return jnp.asarray(self.temperature, jnp.result_type(float))
