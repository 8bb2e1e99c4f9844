"""A temperature that follows a schedule of the step."""

import dataclasses

import jax.numpy as jnp

from contrastax import schedules
from contrastax.core import Schedule, Temperature


@dataclasses.dataclass(frozen=True)
class scheduled(Temperature):
  """τ = schedule(step), for all anchors; `schedule` as of optax or `contrastax.schedules`, above 0.

  Its state is the number of steps made, so a resumed run goes on where it was.
  """

  schedule: Schedule

  def init(self, size):
    return (), jnp.int32(0)

  def value(self, params, state, side):
    return schedules.at(self.schedule, state)

  def advance(self, state, side, temperature, stats):
    return state + 1
