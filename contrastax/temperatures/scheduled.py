"""A temperature that follows a schedule of the step."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from typing_extensions import override

from contrastax import schedules
from contrastax.core import Array, Params, Schedule, Side, State, Temperature


@dataclasses.dataclass(frozen=True)
class scheduled(Temperature):
  """A temperature that follows a schedule of the step and is the same for all anchors.

  The state is the number of past steps, so that a resumed run continues the schedule.

  Args:
    schedule: schedule of optax or `contrastax.schedules` with values above 0.

  Example:
    >>> from contrastax import schedules, temperatures
    >>> schedule = schedules.linear(start=0.5, end=0.1, steps=4)
    >>> temperature = temperatures.scheduled(schedule)
    >>> params, step = temperature.init(0)
    >>> round(float(temperature.value(params, step + 2, {})), 2)
    0.3
  """

  schedule: Schedule

  @override
  def init(self, size: int) -> tuple[Params, State]:
    return (), jnp.int32(0)

  @override
  def value(self, params: Params, state: State, side: Side) -> Array:
    return schedules.at(self.schedule, state)

  @override
  def advance(self, state: State, side: Side, temperature: Array, stats: Side) -> State:
    return state + 1
