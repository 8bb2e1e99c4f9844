"""Schedules: optax's, of a number that changes with the step, named by where they begin and end.

Where a part takes a schedule it takes a plain number too: `at` reads either.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax

from contrastax.core import Array, Schedule, UserError


def cosine(*, start: float, end: float, steps: int) -> Schedule:
  """From `start` to `end` along half a cosine over `steps` steps, then `end`.

  BYOL's momentum (Grill et al. 2020, arXiv 2006.07733, §3.2) is that from 0.996 to 1.
  """
  _check(steps)
  fall = optax.cosine_decay_schedule(1.0, steps)
  return lambda step: end + (start - end) * fall(step)


def linear(*, start: float, end: float, steps: int, over: float = 1.0) -> Schedule:
  """From `start` to `end` in a straight line over the first `over` of `steps` steps, then `end`.

  DINO's teacher temperature (Caron et al. 2021, arXiv 2104.14294, §3.1) is that from 0.04 to 0.07.
  """
  _check(steps)
  if not 0 < over <= 1:
    raise UserError(f"over is a share of the steps, above 0 and at most 1, not {over!r}")
  return optax.linear_schedule(start, end, max(1, round(over * steps)))


def cycle(*, high: float, low: float, period: int) -> Schedule:
  """low + (high − low)(1 + cos(2π step / period)) / 2: from `high` to `low` and back every `period` steps.

  A temperature for long-tailed data (Kukleva et al. 2023, arXiv 2303.13664, eq. 5): from 1 to 0.1 and
  back within 400 epochs, where small ones set instances apart and large ones gather classes. A public
  port has cos(π step / T), so that its T is half a period.
  """
  _check(period)
  return lambda step: low + (high - low) * (1 + jnp.cos(2 * jnp.pi * (step % period) / period)) / 2


def at(schedule: float | Schedule, step: Array) -> Array:
  """The value of a schedule, or of a number, at a step."""
  return jnp.asarray(schedule(step) if callable(schedule) else schedule, jnp.result_type(float))


def _check(steps):
  if steps < 1:
    raise UserError(f"a schedule takes at least 1 step, not {steps}")
