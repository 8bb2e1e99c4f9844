"""The global contrastive loss, whose denominator is an average over the negatives of many steps."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from typing_extensions import override

from contrastax import schedules, tables
from contrastax.core import Array, Compare, Criterion, Group, Outcome, Schedule, State, UserError
from contrastax.criteria.softmax_core import Channels, defined_or_nan, softmax_reductions
from contrastax.pairwise import log_sum_exp, sum_


@dataclasses.dataclass(frozen=True)
class sogclr(Criterion):
  """SogCLR: DCL with a moving average over the steps as the denominator of each example.

      g_i = Σ_j w⁻_ij exp(ℓ_ij − p_i) / Σ_j w⁻_ij,  from this batch
      u_i ← (1 − γ) u_i + γ g_i,    u_i ← g_i at the first visit
      L_i = log u_i,    ∇L_i = ∇g_i / u_i

  The gradient of DCL is ∇g_i / g_i. Its mean over batches is the mean of a quotient and has a bias
  that depends on the batch size. u_i estimates the mean over all data at any batch size. With γ = 1
  both losses have the same gradient. With the temperature `individual` this is iSogCLR, whose
  objective is Σ_i τ_i (L_i + ρ).

  With `relative`, u_i averages e^{ℓ_ij − p_i}, as above. This is the objective of iSogCLR and
  FastCLIP. Without `relative`, g_i does not contain p_i, and L_i = log u_i − p_i. This is SogCLR as
  published. The two forms differ because p_i changes from step to step. In the gradient, the
  negatives have the total weight g_i / u_i. The positive has the same weight with `relative`, and
  the weight 1 without.

  The memory has one row per example. The side `row` of an anchor, or `index` if there is no side
  `row`, is the number of its row. A row contains the logarithm of u_i and whether it was visited.
  Several anchors of one example, such as two views, start from the same row. Each anchor computes
  its own average, and the row becomes the mean of these averages. An anchor without a positive or
  without a negative has the value 0 and no gradient, and does not change its row. The stat
  `divergence` is computed with the weights e^ℓ / u_i.

  Args:
    gamma: weight γ of the new value in the average, in (0, 1]; or a schedule of the step.
    relative: whether the average is relative to the positive.

  Raises:
    UserError: γ is out of range, or a call has no memory.

  Example:
    >>> import jax
    >>> from contrastax import criteria, relations
    >>> from contrastax.core import Group
    >>> loss = criteria.sogclr(gamma=0.9)
    >>> memory = loss.init(100)
    >>> side = {"index": jax.numpy.arange(8), "view": jax.numpy.zeros(8, int)}
    >>> weights = {"as_positive": jax.numpy.ones(8), "as_negative": jax.numpy.ones(8)}
    >>> anchors, keys = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> keys = Group(keys, {**side, **weights, "view": jax.numpy.ones(8, int)})
    >>> outcome = criteria.evaluate(
    ...   loss, Group(anchors, {**side, **weights}), (keys,), relation=relations.same_example(),
    ...   temperature=0.1, memory=memory,
    ... )
    >>> outcome.value.shape, int(outcome.memory["step"])
    ((8,), 1)

  References:
    Yuan et al., "Provable Stochastic Optimization for Global Contrastive Learning", 2022, arXiv
    2202.12387, algorithm 1 (γ = 0.9, τ = 0.1).
    Qiu et al., "Not All Semantics are Created Equal", 2023, arXiv 2305.11965 (iSogCLR).

  In other libraries:
    The losses of the papers are τ times this loss, summed over two views. The official code detects
    the first visit for a whole batch. Some code does not treat the first visit separately, so that
    the weights are too large by the factor 1/γ. Other code recognizes the first visit by u = 0.
  """

  gamma: float | Schedule = 0.9
  relative: bool = True

  def __post_init__(self):
    check_gamma(self.gamma, "sogclr")

  @override
  def init(self, size: int) -> State:
    return {
      "step": jnp.int32(0),
      "log_mean": tables.table(size, 0.0, of="sogclr"),
      "visited": tables.table(size, False, of="sogclr"),
    }

  @override
  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: ArrayLike,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    if not memory:
      raise UserError(
        "sogclr needs a memory; pass memory=sogclr().init(size) in the first step, and then the "
        "memory of the previous outcome"
      )
    reductions = {"negative": log_sum_exp, "negative_weight": sum_}
    # The divergence is computed below, with weights relative to u.
    observed = (*stats, "mean_logit") if "divergence" in stats else stats
    reduced = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, reductions, observed
    )
    negative, count = reduced.reductions["negative"], reduced.reductions["negative_weight"]
    defined = reduced.has_positive & ~(count <= 0)
    defined = defined_or_nan(defined, reduced.positive, negative)
    base = reduced.positive if self.relative else jnp.zeros_like(reduced.positive)
    log_g = jnp.where(defined, negative, 0) - jnp.log(jnp.where(defined, count, 1))
    log_g = jnp.where(defined, log_g - base, 0)

    row = tables.row_of(anchors.side)
    value, log_u, memory = moving_average(memory, row, defined, log_g, self.gamma)
    value = jnp.where(defined, value - (0 if self.relative else reduced.positive), 0)

    observations = dict(reduced.stats)
    if "divergence" in stats:
      weight = jax.lax.stop_gradient(jnp.exp(log_g - log_u))  # g / u, at most 1/γ
      mean_logit = observations["mean_logit"] - jax.lax.stop_gradient(base)
      observations["divergence"] = jnp.where(defined, weight * mean_logit - log_u, 0)
    selected = {name: observations[name] for name in stats}
    return Outcome(value, reduced.weight, selected, memory)


def moving_average(
  memory: State, row: Array, defined: Array, log_g: Array, gamma: float | Schedule
) -> tuple[Array, Array, State]:
  """Updates the logarithms of moving averages, one per row of a memory.

      u ← (1 − γ) u + γ g,    u ← g at the first visit;    ∇ log u = ∇g / u

  Args:
    memory: memory that `sogclr.init` or the previous call returned.
    row: row of the memory that each g belongs to, [n].
    defined: whether g is defined, [n]. If it is not, the row does not change.
    log_g: logarithms of the new values, [n].
    gamma: weight γ of the new value; or a schedule of the step.

  Returns:
    log u with its gradient, [n]; log u without gradient, [n]; and the memory for the next step.
  """
  new = jax.lax.stop_gradient(log_g)
  weight = schedules.at(gamma, memory["step"])
  old, visited = memory["log_mean"].read(row), memory["visited"].read(row)
  averaged = jnp.logaddexp(jnp.log1p(-weight) + old, jnp.log(weight) + new)
  log_u = jnp.where(visited, averaged, new)
  value = log_u + jnp.exp(new - log_u) * (log_g - new)
  row = jnp.where(defined & ~jnp.isnan(log_u), row, -1)  # a NaN would remain in the average
  memory = {
    "step": memory["step"] + 1,
    "log_mean": memory["log_mean"].write(row, tables.log_mean_exp(row, log_u)),
    "visited": memory["visited"].write(row, defined),
  }
  return value, log_u, memory


def check_gamma(gamma: float | Schedule, owner: str) -> None:
  """Checks gamma.

  Args:
    gamma: weight of the new value in a moving average.
    owner: name of the loss, for the message.

  Raises:
    UserError: gamma is neither a schedule nor a number in (0, 1].
  """
  if not callable(gamma) and not (isinstance(gamma, int | float) and 0 < gamma <= 1):
    raise UserError(
      f"{owner}: gamma, the weight of the new value, must be in (0, 1], not {gamma!r}"
    )
