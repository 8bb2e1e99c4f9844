"""Schedules: functions from the step to a number, as in optax.

An argument that takes a schedule also takes a plain number.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from contrastax.core import Array, Schedule, UserError


def cosine(*, start: float, end: float, steps: int) -> Schedule:
  """Changes from `start` to `end` along half a cosine, then remains at `end`.

  Args:
    start: the value at step 0.
    end: the value from step `steps` on.
    steps: the number of steps from `start` to `end`.

  Returns:
    The schedule.

  Raises:
    UserError: `steps` is below 1.

  Example:
    >>> from contrastax import schedules
    >>> momentum = schedules.cosine(start=0.996, end=1.0, steps=100)
    >>> round(float(momentum(50)), 3)
    0.998

  References:
    Grill et al., "Bootstrap your own latent" (BYOL), 2020, arXiv 2006.07733, §3.2. The momentum of
    BYOL is this schedule from 0.996 to 1.
  """
  _check(steps)
  decay = optax.cosine_decay_schedule(1.0, steps)

  def value(step: Any) -> Any:
    return end + (start - end) * decay(step)

  return value


def linear(*, start: float, end: float, steps: int, over: float = 1.0) -> Schedule:
  """Changes linearly from `start` to `end`, then remains at `end`.

  Args:
    start: the value at step 0.
    end: the value after the change.
    steps: the number of steps of the run.
    over: the share of the steps that the change takes, above 0 and at most 1.

  Returns:
    The schedule.

  Raises:
    UserError: `steps` is below 1, or `over` is out of range.

  Example:
    >>> from contrastax import schedules
    >>> temperature = schedules.linear(start=0.04, end=0.08, steps=100, over=0.5)
    >>> [round(float(temperature(step)), 3) for step in (0, 25, 50, 100)]
    [0.04, 0.06, 0.08, 0.08]

  References:
    Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), 2021, arXiv
    2104.14294, §3.1. The teacher temperature of DINO changes from 0.04 to 0.07.
  """
  _check(steps)
  if not 0 < over <= 1:
    raise UserError(f"over must be a share of the steps, above 0 and at most 1, not {over!r}")
  return optax.linear_schedule(start, end, max(1, round(over * steps)))


def cycle(*, high: float, low: float, period: int) -> Schedule:
  """Oscillates between `high` and `low` along a cosine.

      low + (high − low)(1 + cos(2π step / period)) / 2

  Args:
    high: the value at steps 0, `period`, 2 · `period`, …
    low: the value in the middle of a period.
    period: the number of steps from `high` to `low` and back.

  Returns:
    The schedule.

  Raises:
    UserError: `period` is below 1.

  Example:
    >>> from contrastax import schedules
    >>> temperature = schedules.cycle(high=1.0, low=0.1, period=400)
    >>> [round(float(temperature(step)), 3) for step in (0, 200, 400)]
    [1.0, 0.1, 1.0]

  References:
    Kukleva et al., "Temperature schedules for self-supervised contrastive methods on long-tail
    data", 2023, arXiv 2303.13664, eq. 5. The paper changes the temperature from 1 to 0.1 and back
    in 400 epochs. Small temperatures separate instances; large ones form groups of classes.

  In other libraries:
    One public implementation uses cos(π step / T), so its T is half a period.
  """
  _check(period)

  def value(step: Any) -> Array:
    return low + (high - low) * (1 + jnp.cos(2 * jnp.pi * (step % period) / period)) / 2

  return value


def at(schedule: float | Schedule, step: ArrayLike) -> Array:
  """Returns the value of a schedule, or of a plain number, at a step.

  Example:
    >>> from contrastax import schedules
    >>> print(schedules.at(0.5, 3), schedules.at(lambda step: 2.0 * step, 3))
    0.5 6.0
  """
  return jnp.asarray(schedule(step) if callable(schedule) else schedule, jnp.result_type(float))


def _check(steps: int) -> None:
  if steps < 1:
    raise UserError(f"a schedule needs at least 1 step, not {steps}")
