"""The softmax family's pair quantities, and what its losses make of their reductions."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastax.core import (
  Array,
  Compare,
  Criterion,
  Group,
  Outcome,
  Pairs,
  Params,
  Score,
  UserError,
  check_kind,
)
from contrastax.pairwise import Plan, cosine, reduce, softmax_mean, sum_
from contrastax.pairwise.checks import check_relation
from contrastax.pairwise.inputs import check_positive

STATS = ("positive", "count", "log_mean", "mean_logit", "divergence")


@dataclasses.dataclass(frozen=True)
class Channels:
  """Of a pair with weights w⁺, w⁻ and logit ℓ = s/τ: what the losses reduce."""

  relation: object
  beta: float = 0.0

  def __call__(self, similarity, a, c, shared):
    pairs = self.relation(a, c, similarity)
    logit = similarity / a["temperature"]
    negative = _log(pairs.negative, c["log_negative"])
    return {
      "pull": times(pairs.positive, c["as_positive"] * logit),
      "positive_weight": times(pairs.positive, c["as_positive"]),
      "negative_weight": times(pairs.negative, c["as_negative"]),
      "all": logit + _log_of_either(pairs, c),
      "positive": logit + _log(pairs.positive, c["log_positive"]),
      "negative": logit + negative,
      "negatives": (logit + negative, logit),
      "hardened": (1 + self.beta) * logit + negative,
      "hardness": self.beta * logit + negative,
    }


# A relation's weight of a pair is a number, or a mask, which needs no logarithm per pair.


def _is_mask(weight):
  return jnp.issubdtype(jnp.result_type(weight), jnp.bool_)


def times(weight, x):
  return jnp.where(weight, x, 0) if _is_mask(weight) else weight * x


def _log(weight, log_weight):
  """log(weight · e^log_weight)."""
  if _is_mask(weight):
    return jnp.where(weight, log_weight, -jnp.inf)
  return _safe_log(weight) + log_weight


def _log_of_either(pairs, c):
  """log(w⁺ + w⁻)."""
  positive, negative = pairs
  if _is_mask(positive) and _is_mask(negative):  # they exclude each other
    return jnp.where(positive, c["log_positive"], _log(negative, c["log_negative"]))
  return _safe_log(times(positive, c["as_positive"]) + times(negative, c["as_negative"]))


def _safe_log(weight):
  """log, −∞ at 0 and there without a gradient."""
  none = weight <= 0
  return jnp.where(none, -jnp.inf, jnp.log(jnp.where(none, 1, weight)))


def penalty(anchors: Group, groups: tuple[Group, ...], compare: Compare) -> Array:
  """[n], of each anchor the mean over its positives of what a score penalizes: `score.penalized`.

  Σ_j w⁺_ij penalty_ij / Σ_j w⁺_ij,    0 without positives
  """
  reductions = {"penalty": sum_, "weight": sum_}
  r = _reduced(
    _Penalty(compare.relation),
    anchors,
    groups,
    compare._replace(score=compare.score.penalized),
    reductions,
  )
  none = r["weight"] <= 0
  return jnp.where(none, 0, r["penalty"] / jnp.where(none, 1, r["weight"]))


@dataclasses.dataclass(frozen=True)
class _Penalty:
  relation: object

  def __call__(self, scores, a, c, shared):
    similarity, penalty = scores
    pairs = self.relation(a, c, similarity)
    return {
      "penalty": times(pairs.positive, c["as_positive"] * penalty),
      "weight": times(pairs.positive, c["as_positive"]),
    }


def with_log_weights(group):
  """A group with the logarithms of its weights, taken once and not once per pair.

  A candidate that weighs nothing is not there: no loss has a gradient by such a weight.
  """
  sides = {}
  for kind in ("positive", "negative"):
    weight = group.side[f"as_{kind}"]
    sides[f"as_{kind}"] = jnp.where(weight <= 0, 0, weight)
    sides[f"log_{kind}"] = _safe_log(weight)
  return group.attach(**sides)


class SoftmaxReductions(NamedTuple):
  """Reductions, each [n]: `rows` those asked for, the others of use to all losses.

  `weight` is the `Outcome`'s: 1 for an anchor with a positive, else 0.
  """

  reductions: dict
  positive: jax.Array
  positive_weight: jax.Array
  some_positive: jax.Array
  weight: jax.Array
  temperature: jax.Array
  stats: dict


def evaluate(
  criterion: Criterion,
  anchors: Group,
  groups: tuple[Group, ...],
  *,
  relation: Callable[..., Pairs],
  temperature: Array | float,
  score: Score = cosine(),
  score_params: Params = (),
  same_set: bool = False,
  plan: Plan = Plan(),
  **more,
) -> Outcome:
  """The outcome of a criterion, from the parts of a `core.Compare` by name.

  Args:
    criterion: such as `criteria.info_nce()`.
    anchors: vectors [n, d]. groups: candidates, the anchors' keys first.
    relation: `(anchor side, candidate side, similarity) -> Pairs`.
    temperature: τ > 0, scalar or [n].
    score: the similarity, `cosine()` in the papers. score_params: its parameters.
    same_set: the keys are the anchors themselves.
    plan: how all pairs are evaluated.
    more: the criterion's other arguments: `memory`, `stats`, `bias`.
  """
  check_kind("criterion", criterion, Criterion, "criteria.info_nce()")
  compare = Compare(relation, score, score_params, same_set, plan)
  return criterion(anchors, groups, compare, temperature=temperature, **more)


def softmax_reductions(
  channels, anchors, groups, compare, temperature, reductions, stats, shared=()
) -> SoftmaxReductions:
  """The reductions `rows` of the channels, and what the stats need."""
  anchors = attach(anchors, temperature)
  groups = [with_log_weights(group) for group in groups]
  found = _reduced(channels, anchors, groups, compare, needed_reductions(reductions, stats), shared)
  return read(found, reductions, anchors, stats)


def _reduced(channels, anchors, groups, compare, reductions, shared=()):
  check_relation(compare.relation)
  return reduce(
    channels,
    anchors,
    groups,
    score=compare.score,
    reductions=reductions,
    score_params=compare.score_params,
    shared=shared,
    same_set=compare.same_set,
    plan=compare.plan,
  )


def needed_reductions(reductions, stats):
  """The reductions that a loss and its stats need, and nothing else."""
  unknown = set(stats) - set(STATS)
  if unknown:
    raise UserError(f"unknown stats {sorted(unknown)}; known: {', '.join(STATS)}")
  reductions = {"pull": sum_, "positive_weight": sum_, **reductions}
  if {"log_mean", "mean_logit", "divergence"} & set(stats):
    reductions["negatives"] = softmax_mean
  if set(stats) - {"positive"}:
    reductions["negative_weight"] = sum_
  return reductions


def read(r, reductions, anchors, stats) -> SoftmaxReductions:
  weight = r["positive_weight"]
  none = weight <= 0
  positive = jnp.where(none, 0, r["pull"] / jnp.where(none, 1, weight))
  observed = {"positive": positive}
  if "negative_weight" in r:
    observed["count"] = count = r["negative_weight"]
  if "negatives" in r:
    log_sum, observed["mean_logit"] = r["negatives"]
    log_count = jnp.log(jnp.where(count <= 0, 1, count))
    observed["log_mean"] = jnp.where(count <= 0, 0, log_sum - log_count)
    observed["divergence"] = observed["mean_logit"] - observed["log_mean"]
  return SoftmaxReductions(
    reductions={name: r[name] for name in reductions},
    positive=positive,
    positive_weight=jnp.where(none, 1, weight),
    some_positive=~none,
    weight=(~none).astype(positive.dtype),
    temperature=anchors.side["temperature"],
    stats={name: jax.lax.stop_gradient(observed[name]) for name in stats},
  )


def attach(anchors, temperature):
  """The anchors with τ as a side [n]; refuses one that is not above 0, where its value is known."""
  n = anchors.vectors.shape[0]
  check_positive("a temperature", temperature, each=n)
  dtype = jnp.result_type(anchors.vectors, jnp.float32)
  return anchors.attach(temperature=jnp.broadcast_to(jnp.asarray(temperature, dtype), (n,)))


def difference(defined, lse, positive):
  """lse − positive where defined, else 0 without a gradient (lse is −∞ there); NaN stays NaN."""
  defined = or_nan(defined, lse, positive)
  return jnp.where(defined, jnp.where(defined, lse, 0) - jnp.where(defined, positive, 0), 0)


def or_nan(defined, *values):
  """Where a value is defined, or is made of one that is NaN and so has to be NaN itself."""
  return functools.reduce(operator.or_, map(jnp.isnan, values), defined)


def length(x):
  """‖x‖ along the last axis, without a gradient where it is 0."""
  squared = (x**2).sum(-1)
  none = squared == 0
  return jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, squared)))
