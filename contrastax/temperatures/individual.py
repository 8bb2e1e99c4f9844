"""A temperature for each example, which adapts to the similarity of its negatives."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from typing_extensions import override

from contrastax import tables
from contrastax.core import Array, Params, Side, State, Temperature, UserError
from contrastax.propagate import clip


@dataclasses.dataclass(frozen=True)
class individual(Temperature):
  """Individual temperatures of iSogCLR: τ_i is learned so that a KL divergence of the weights is ρ.

      F = mean_i τ_i (L_i + ρ),    min_temperature ≤ τ_i ≤ max_temperature
      G_i = ρ − KL_i,    the derivative of summand i of F with respect to τ_i
      v_i ← (1 − β) v_i + β G_i,    τ_i ← clip(τ_i − η v_i, min_temperature, max_temperature)

  KL_i is the divergence of the softmax weights of the negatives from uniform weights. It is the
  stat `divergence` of the criterion. F is the dual of a distributionally robust objective. That
  objective takes the largest mean similarity over all weights of the negatives whose divergence
  from uniform weights is at most ρ. At convergence, KL_i = ρ unless τ_i is at a bound. An example
  with many similar negatives, such as one of a frequent class, gets a large τ_i. With the criterion
  `sogclr` this is iSogCLR. With another softmax loss, KL_i is computed from the negatives in the
  batch only.

  The table has one row per example. The side `row` of an anchor, or `index` if there is no side
  `row`, is the number of its row. A step uses the τ_i of the previous step. If an example has
  several anchors, G_i is their mean, which is then clipped. An anchor without negatives does not
  change its τ_i.

  Args:
    temperature: initial temperature of all examples.
    rho: target divergence ρ > 0, in nats. The weights of m negatives have a divergence of at most
      log m. With a larger ρ all τ_i decrease to `min_temperature`.
    min_temperature: lower bound of τ_i, above 0.
    max_temperature: upper bound of τ_i.
    learning_rate: learning rate η > 0.
    beta: weight β of the new gradient in its average, in (0, 1].
    clip: largest |G_i|; G_i is clipped to it. None for no clipping.

  Raises:
    UserError: a number is out of range.

  Example:
    >>> import jax
    >>> from contrastax import temperatures
    >>> temperature = temperatures.individual(0.1)
    >>> params, state = temperature.init(100)
    >>> temperature.value(params, state, {"index": jax.numpy.arange(3)})
    Array([0.1, 0.1, 0.1], dtype=float32)

  References:
    Qiu et al., "Not All Semantics are Created Equal", 2023, arXiv 2305.11965, algorithm 1.

  In other libraries:
    The defaults are the authors' values for CIFAR-100, except that ρ is the default of LibAUC; the
    authors use 0.4. Their code clips G_i at 3, and at 5 with two modalities, which the paper does
    not mention.
  """

  per_anchor: ClassVar[bool] = True

  temperature: float = 0.1
  rho: float = 0.3
  min_temperature: float = 0.05
  max_temperature: float = 1.0
  learning_rate: float = 0.03
  beta: float = 0.5
  clip: float | None = None

  def __post_init__(self):
    if (
      not 0 < self.min_temperature <= self.temperature <= self.max_temperature
      or self.min_temperature == self.max_temperature
    ):
      raise UserError(
        "individual temperatures need 0 < min_temperature <= temperature <= max_temperature and "
        f"min_temperature < max_temperature, not {self.min_temperature}, {self.temperature} and "
        f"{self.max_temperature}"
      )
    for name, value in {"rho": self.rho, "learning_rate": self.learning_rate}.items():
      if not value > 0:
        raise UserError(f"individual: {name} must be above 0, not {value!r}")
    if not 0 < self.beta <= 1:
      raise UserError(
        f"individual: beta, the weight of the new gradient, must be in (0, 1], not {self.beta!r}"
      )
    if self.clip is not None and not self.clip > 0:
      raise UserError(f"individual: clip must be above 0, or None, not {self.clip!r}")

  @property
  @override
  def bounds(self) -> tuple[float, float]:
    return self.min_temperature, self.max_temperature

  @override
  def init(self, size: int) -> tuple[Params, State]:
    initial = {"temperature": float(self.temperature), "gradient": 0.0}
    return (), {
      name: tables.table(size, value, of="a temperature of each example")
      for name, value in initial.items()
    }

  @override
  def value(self, params: Params, state: State, side: Side) -> Array:
    return state["temperature"].read(tables.row_of(side))

  @override
  def weigh(self, value: Array, temperature: Array) -> Array:
    return temperature * (value + self.rho)

  def each(self, state: State) -> Array:
    """Returns the temperatures of all examples, [size]."""
    return state["temperature"].values[: state["temperature"].size]

  @override
  def advance(self, state: State, side: Side, temperature: Array, stats: Side) -> State:
    row = jnp.where(stats["count"] > 0, tables.row_of(side), -1)
    gradient = tables.mean(row, self.rho - stats["divergence"])
    if self.clip is not None:
      gradient = clip(gradient, -self.clip, self.clip)
    old = {name: table.values[row] for name, table in state.items()}
    gradient = (1 - self.beta) * old["gradient"] + self.beta * gradient
    moved = clip(
      old["temperature"] - self.learning_rate * gradient,
      self.min_temperature,
      self.max_temperature,
    )
    return {
      "temperature": state["temperature"].write(row, moved),
      "gradient": state["gradient"].write(row, gradient),
    }
