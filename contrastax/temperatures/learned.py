"""A temperature that is learned with the encoder."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from contrastax.core import Temperature, UserError
from contrastax.propagate import clip


@dataclasses.dataclass(frozen=True)
class learned(Temperature):
  """One temperature for all anchors, learned as the logarithm of its inverse: τ = e^−s.

  CLIP's (Radford et al. 2021, arXiv 2103.00020, §2.5), which begins at 0.07 and keeps e^s at
  most 100. CLIP cuts s after every step. Here s is cut where it is read, and a gradient that
  would push it further out is dropped while one that leads back passes: the same but for what
  an optimizer's momentum adds.

  Where the negatives are more similar than the positive, the loss falls as τ rises. With all of
  them that passes in a few steps; with the hardest alone (`negatives.hardest_only`) it need not,
  and τ runs away unless `max_temperature` holds it, 0.5 in TCL (Yang et al. 2022, arXiv 2202.10401).

  temperature: where it begins. min_temperature, max_temperature: bounds of τ. bias: where the number begins that is
  added to every logit and learned beside τ, for the loss `siglip` alone; SigLIP's (Zhai et al. 2023,
  arXiv 2303.15343, §3.2) is −10, its τ begins at 0.1.
  """

  temperature: float = 0.07
  min_temperature: float = 0.01
  max_temperature: float = math.inf
  bias: float | None = None

  def __post_init__(self):
    if not 0 < self.min_temperature <= self.temperature <= self.max_temperature:
      raise UserError(
        "a learned temperature needs 0 < min_temperature <= temperature <= max_temperature, not "
        f"{self.min_temperature}, {self.temperature} and {self.max_temperature}"
      )

  @property
  def learns_bias(self):
    return self.bias is not None

  @property
  def bounds(self):
    return self.min_temperature, self.max_temperature

  def init(self, size):
    begin = {"log_scale": -math.log(self.temperature)}
    begin |= {} if self.bias is None else {"bias": self.bias}
    return {name: jnp.asarray(x, jnp.result_type(float)) for name, x in begin.items()}, ()

  def value(self, params, state, side):
    return jnp.exp(
      -_within(
        params["log_scale"], -math.log(self.max_temperature), -math.log(self.min_temperature)
      )
    )


@jax.custom_vjp
def _within(x, low, high):
  return clip(x, low, high)


def _forward(x, low, high):
  return _within(x, low, high), (x, low, high)


def _backward(bounds, g):
  x, low, high = bounds
  outwards = ((x >= high) & (g < 0)) | ((x <= low) & (g > 0))  # a step is against the gradient
  return jnp.where(outwards, 0, g), None, None


_within.defvjp(_forward, _backward)
