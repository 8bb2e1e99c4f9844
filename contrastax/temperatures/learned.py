"""A temperature that is learned together with the encoder."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Params, Side, State, Temperature, UserError
from contrastax.propagate import clip


@dataclasses.dataclass(frozen=True)
class learned(Temperature):
  """One temperature for all anchors, learned as the logarithm s of its inverse: τ = e^−s.

  If the negatives are more similar to the anchor than the positive, the loss decreases as τ
  increases. With all negatives, this increase ends after a few steps. With the hardest negatives
  only (`negatives.hardest_only`) it may not end, and τ then increases to `max_temperature`.

  Args:
    temperature: initial temperature.
    min_temperature: lower bound of τ, above 0.
    max_temperature: upper bound of τ.
    bias: initial value of the bias, a number that is added to each logit and learned together with
      τ; None for no bias. Only the criterion `siglip` takes a bias.

  Raises:
    UserError: the bounds do not satisfy 0 < min_temperature ≤ temperature ≤ max_temperature.

  Example:
    >>> from contrastax import temperatures
    >>> temperature = temperatures.learned(0.07, max_temperature=0.5)
    >>> params, state = temperature.init(0)
    >>> round(float(temperature.value(params, state, {})), 2)
    0.07

  References:
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
    arXiv 2103.00020, §2.5. The paper starts τ at 0.07 and limits e^s to 100.
    Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023, arXiv 2303.15343, §3.2. The
    paper starts τ at 0.1 and the bias at −10.
    Yang et al., "Vision-Language Pre-Training with Triple Contrastive Learning" (TCL), 2022, arXiv
    2202.10401. Its upper bound of τ is 0.5.

  In other libraries:
    CLIP clips s after each step. This class clips s whenever it computes τ. It drops a gradient
    that would move s further out of the bounds, and keeps a gradient that moves s back. The result
    is the same except for the momentum of the optimizer.
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
  @override
  def learns_bias(self) -> bool:
    return self.bias is not None

  @property
  @override
  def bounds(self) -> tuple[float, float]:
    return self.min_temperature, self.max_temperature

  @override
  def init(self, size: int) -> tuple[Params, State]:
    initial = {"log_scale": -math.log(self.temperature)}
    if self.bias is not None:
      initial["bias"] = self.bias
    return {name: jnp.asarray(x, jnp.result_type(float)) for name, x in initial.items()}, ()

  @override
  def value(self, params: Params, state: State, side: Side) -> Array:
    low, high = -math.log(self.max_temperature), -math.log(self.min_temperature)
    return jnp.exp(-_clip_with_return(params["log_scale"], low, high))


@jax.custom_vjp
def _clip_with_return(x: Array, low: float, high: float) -> Array:
  """Clips x. The gradient is dropped only where it would move x further out of the bounds."""
  return clip(x, low, high)


def _forward(x, low, high):
  return _clip_with_return(x, low, high), (x, low, high)


def _backward(residuals, g):
  x, low, high = residuals
  outward = ((x >= high) & (g < 0)) | ((x <= low) & (g > 0))  # an optimizer subtracts the gradient
  return jnp.where(outward, 0, g), None, None


_clip_with_return.defvjp(_forward, _backward)
