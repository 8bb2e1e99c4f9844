"""The moving average of an encoder's weights over the steps of a run, for its evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from contrastax.core import (
  Array,
  Batch,
  Encoder,
  Evaluated,
  HasEvaluated,
  Metrics,
  Params,
  State,
  TrainState,
  UserError,
)

ENTRY = "weight_average"
"""The name of the average in the state of a method."""


@dataclasses.dataclass(frozen=True)
class with_average:
  """A method with a moving average of the weights of its evaluated encoder.

      average ← m_t average + (1 − m_t) weights,   m_t = min(decay, (1 + t) / (10 + t))

  The average is updated after step t = 0, 1, … and starts as the first weights. The smaller m_t of the
  first steps reduces their share quickly. It consists of the parameters and of the running statistics of
  BatchNorm. The training is exactly that without the average. `train` writes into the run that the
  average is evaluated, so `contrastax.load` returns it.

  Args:
    method: a method that has `evaluated` and `network`, such as a `methods.BaseMethod`.
    decay: above 0 and below 1, such as 0.999.

  Raises:
    UserError: `decay` is out of range.

  Example:
    >>> import optax
    >>> import numpy as np
    >>> from contrastax import encoders, methods, training, views
    >>> method = methods.SimCLR(
    ...   encoder=encoders.mlp((8,)),
    ...   projection=encoders.projection((8,), out=4),
    ...   views=views.affine_jitter(),
    ... )
    >>> method = training.with_average(method, 0.99)
    >>> batch = {"image": np.zeros((4, 6, 6, 1), np.uint8), "index": np.arange(4)}
    >>> state = training.init(method, optax.sgd(0.1), batch)
    >>> params, _ = training.evaluated_weights(method, state)

  References:
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

  In other libraries:
    m_t is that of TensorFlow's ExponentialMovingAverage with `num_updates`. timm's ModelEmaV2 has a
    constant m.
  """

  method: HasEvaluated
  decay: float

  def __post_init__(self):
    if not 0 < self.decay < 1:
      raise UserError(f"the decay of the average must be above 0 and below 1, not {self.decay!r}")

  @property
  def evaluated(self) -> Evaluated:
    """The evaluated network of the method, its input and its views."""
    return self.method.evaluated

  @property
  def examples(self) -> int:
    """The number of examples of the method."""
    return getattr(self.method, "examples", 0)

  @property
  def step(self) -> Callable[..., Any] | None:
    """The method's own train step, or None."""
    return getattr(self.method, "step", None)

  def network(self, name: str) -> Encoder:
    """Returns a network of the method."""
    return self.method.network(name)

  def init(self, key: Array, batch: Batch) -> tuple[Params, State]:
    """Returns the parameters of the method, and its state with the average."""
    params, state = self.method.init(key, batch)
    # The arrays are copied, because a step cannot donate one buffer twice.
    average = jax.tree.map(jnp.copy, self._weights(params, state))
    return params, {**state, ENTRY: average}

  def objective(
    self, params: Params, state: State, batch: Batch, key: Array
  ) -> tuple[Array, tuple[State, Metrics]]:
    """Returns the value of the method, and its next state and metrics."""
    value, (own, metrics) = self.method.objective(params, _without(state), batch, key)
    return value, ({**own, ENTRY: state[ENTRY]}, metrics)

  def advance(self, params: Params, state: State, step: Array) -> State:
    """Returns the state after the optimizer's step, with the new average."""
    own = self.method.advance(params, _without(state), step)
    momentum = jnp.minimum(self.decay, (1 + step) / (10 + step))

    def moved(average: Array, new: Array) -> Array:
      if not jnp.issubdtype(average.dtype, jnp.floating):
        return new
      return (average + (1 - momentum) * (new - average)).astype(average.dtype)

    return {**own, ENTRY: jax.tree.map(moved, state[ENTRY], self._weights(params, own))}

  def _weights(self, params: Params, state: State) -> dict[str, Any]:
    name = self.evaluated.network
    return {"params": params[name], "state": state[name]}


def evaluated_weights(method: HasEvaluated, state: TrainState) -> tuple[Params, State]:
  """Returns the weights of the evaluated network: their average if the state has one.

  Args:
    method: the method, with or without `with_average`.
    state: the state of a run.

  Returns:
    (params, state) of the network.
  """
  if has_average(state):
    return state.state[ENTRY]["params"], state.state[ENTRY]["state"]
  name = method.evaluated.network
  return state.params[name], state.state[name]


def has_average(state: TrainState) -> bool:
  """Returns whether a state has an average of the evaluated network."""
  return isinstance(state.state, Mapping) and ENTRY in state.state


def _without(state: State) -> State:
  return {name: part for name, part in state.items() if name != ENTRY}
