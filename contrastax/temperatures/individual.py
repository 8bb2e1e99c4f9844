"""A temperature for each example, as hard as its negatives allow."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from contrastax import tables
from contrastax.core import Temperature, UserError
from contrastax.propagate import clip


@dataclasses.dataclass(frozen=True)
class individual(Temperature):
  """iSogCLR's: each anchor's τ_i is what makes its negatives' weights as uneven as ρ allows.

    F = mean_i τ_i (L_i + ρ),    min_temperature ≤ τ_i ≤ max_temperature
    G_i = ρ − KL_i                                      the derivative of F's i-th term by τ_i
    v_i ← (1 − β) v_i + β G_i,    τ_i ← clip(τ_i − η v_i, min_temperature, max_temperature)

  with KL_i the divergence of the negatives' softmax weights from uniform ones (the loss's stat
  `divergence`). F is the dual of a robust objective: the worst mean similarity under weights of the
  negatives within KL ≤ ρ of uniform ones. So at rest KL_i = ρ, unless τ_i is at a bound; an example
  with many similar negatives, of a frequent class, gets a large τ_i. With the loss `sogclr` this is
  iSogCLR; with any other softmax loss KL_i is of the batch's negatives alone.

  temperature: where all begin. rho: ρ > 0, in nats; weights of m negatives cannot be further than
    log m from uniform, so above that all τ_i fall to `min_temperature`. min_temperature, max_temperature: bounds of τ_i.
  learning_rate: η. beta: β in (0, 1], the weight of the new. clip: if given, G_i is cut at ± this.

  A row for each example (side `row`, else `index`). A step uses the τ_i of the step before; of several
  anchors of one example G_i is the mean, before it is cut; an anchor without negatives says nothing.

  Qiu et al. 2023, arXiv 2305.11965, algorithm 1. Defaults are the authors' of CIFAR-100, but for
  ρ, LibAUC's (theirs is 0.4). Their code cuts G_i at 3, at 5 with two modalities, which the paper
  does not say.
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
        "individual temperatures need 0 < min_temperature <= temperature <= max_temperature, and min_temperature < max_temperature, "
        f"not {self.min_temperature}, {self.temperature} and {self.max_temperature}"
      )
    for name in ("rho", "learning_rate"):
      if not getattr(self, name) > 0:
        raise UserError(f"individual: {name} is above 0, not {getattr(self, name)!r}")
    if not 0 < self.beta <= 1:
      raise UserError(
        f"individual: beta, the weight of the new, is above 0 and at most 1, not {self.beta!r}"
      )
    if self.clip is not None and not self.clip > 0:
      raise UserError(f"individual: clip is above 0, or None, not {self.clip!r}")

  @property
  def bounds(self):
    return self.min_temperature, self.max_temperature

  def init(self, size):
    values = {"temperature": float(self.temperature), "gradient": 0.0}
    return (), {
      name: tables.table(size, value, of="a temperature of each example")
      for name, value in values.items()
    }

  def value(self, params, state, side):
    return state["temperature"].read(tables.row_of(side))

  def weigh(self, value, temperature):
    return temperature * (value + self.rho)

  def each(self, state):
    """[size], the temperature of every example."""
    return state["temperature"].values[: state["temperature"].size]

  def advance(self, state, side, temperature, stats):
    row = jnp.where(stats["count"] > 0, tables.row_of(side), -1)
    gradient = tables.mean(row, self.rho - stats["divergence"])
    if self.clip is not None:
      gradient = clip(gradient, -self.clip, self.clip)
    held = {name: table.values[row] for name, table in state.items()}
    gradient = (1 - self.beta) * held["gradient"] + self.beta * gradient
    moved = clip(
      held["temperature"] - self.learning_rate * gradient,
      self.min_temperature,
      self.max_temperature,
    )
    return {
      "temperature": state["temperature"].write(row, moved),
      "gradient": state["gradient"].write(row, gradient),
    }
