"""The global contrastive loss: an anchor's negatives are those of all steps, not of its batch alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from contrastax import schedules, tables
from contrastax.core import Criterion, Outcome, UserError
from contrastax.criteria.softmax_core import Channels, or_nan, softmax_reductions
from contrastax.pairwise import log_sum_exp, sum_


@dataclasses.dataclass(frozen=True)
class sogclr(Criterion):
  """SogCLR on groups: DCL whose denominator is a moving average over the steps, of each example.

    g_i = Σ_j w⁻_ij exp(ℓ_ij − p_i) / Σ_j w⁻_ij          of this batch
    u_i ← (1 − γ) u_i + γ g_i,    u_i ← g_i the first time
    L_i = log u_i,    ∇L_i = ∇g_i / u_i

  DCL's gradient is ∇g_i / g_i, an average over batches of a quotient, which errs by the batch's
  size; u_i follows the mean over the data, whatever the batch. With γ = 1 both are the same. With
  an `individual` temperature this is iSogCLR, whose objective is Σ_i τ_i (L_i + ρ).

  gamma: γ in (0, 1], a number or a schedule of the step.
  relative: of what the average is. True: of similarities less the positive's, as above, which is
    iSogCLR's objective, and FastCLIP. False: of the similarities themselves, SogCLR as published:
    g_i without p_i, and L_i = log u_i − p_i. The two differ by how far p_i has moved since the
    average was taken: of the former the pull weighs g_i / u_i, as much as the push, of the latter 1.

  The memory is a row for each example (side `row`, else `index`), in logarithms, and whether it was
  visited yet. Several anchors of one example, such as two views, begin from one row, go on each
  with its own average, and leave the mean of these. An anchor without a positive, or without a
  negative, has value 0 and no gradient, and leaves its row as it is. The stat `divergence` is of
  the weights e^ℓ / u_i. For the arguments see `contrastax.criteria`.

  Yuan et al. 2022, arXiv 2202.12387, algorithm 1 (γ = 0.9, τ = 0.1); Qiu et al. 2023, arXiv
  2305.11965. Their losses are τ times this, and a sum over two views; public code takes the first
  visit to be that of a whole batch (official), or none (weights 1/γ too large), or tells it by u = 0.
  """

  gamma: float | Callable = 0.9
  relative: bool = True

  def __post_init__(self):
    check_gamma(self.gamma, "sogclr")

  def init(self, size):
    return {
      "step": jnp.int32(0),
      "log_mean": tables.table(size, 0.0, of="sogclr"),
      "visited": tables.table(size, False, of="sogclr"),
    }

  def __call__(self, anchors, groups, compare, *, temperature, memory=(), stats=()):
    if not memory:
      raise UserError(
        "sogclr needs its memory: memory=sogclr().init(size) at first, then that of the outcome before"
      )
    reductions = {"negative": log_sum_exp, "negative_weight": sum_}
    observed = (*stats, *_behind(stats))
    found = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, reductions, observed
    )
    count = found.reductions["negative_weight"]
    some = found.some_positive & ~(count <= 0)
    some = or_nan(some, found.positive, found.reductions["negative"])
    log_g = jnp.where(some, found.reductions["negative"], 0) - jnp.log(jnp.where(some, count, 1))
    base = found.positive if self.relative else jnp.zeros_like(found.positive)
    log_g = jnp.where(some, log_g - base, 0)

    row = tables.row_of(anchors.side)
    value, log_u, memory = moving_average(memory, row, some, log_g, self.gamma)
    pull = 0 if self.relative else found.positive
    value = jnp.where(some, value - pull, 0)

    seen = dict(found.stats)
    if "divergence" in stats:
      weight = jax.lax.stop_gradient(jnp.exp(log_g - log_u))  # g / u, at most 1/γ
      divergence = weight * (seen["mean_logit"] - jax.lax.stop_gradient(base)) - log_u
      seen["divergence"] = jnp.where(some, divergence, 0)
    return Outcome(value, found.weight, {name: seen[name] for name in stats}, memory)


def _behind(stats):
  """What is observed to have those asked for: the divergence is from u's own weights."""
  return ("mean_logit",) if "divergence" in stats else ()


def moving_average(memory, row, some, log_g, gamma):
  """The logarithm of a mean that is followed over the steps: (log u with its gradient, log u, memory).

    u ← (1 − γ) u + γ g,    u ← g the first time;    ∇ log u = ∇g / u

  memory: `sogclr.init`'s. row [n]: whose mean each g is; some [n]: where there is a g, any other leaves
  its row as it is. log_g [n]. gamma: a number or a schedule of the step.
  """
  new = jax.lax.stop_gradient(log_g)
  gamma = schedules.at(gamma, memory["step"])
  old, visited = memory["log_mean"].read(row), memory["visited"].read(row)
  averaged = jnp.logaddexp(jnp.log1p(-gamma) + old, jnp.log(gamma) + new)
  log_u = jnp.where(visited, averaged, new)
  value = log_u + jnp.exp(new - log_u) * (log_g - new)
  row = jnp.where(some & ~jnp.isnan(log_u), row, -1)  # an average never recovers from NaN
  memory = {
    "step": memory["step"] + 1,
    "log_mean": memory["log_mean"].write(row, tables.log_mean_exp(row, log_u)),
    "visited": memory["visited"].write(row, some),
  }
  return value, log_u, memory


def check_gamma(gamma, of):
  if not callable(gamma) and not (isinstance(gamma, int | float) and 0 < gamma <= 1):
    raise UserError(f"{of}: gamma, the weight of the new, is above 0 and at most 1, not {gamma!r}")
