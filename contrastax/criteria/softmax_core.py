"""The quantities of pairs that the softmax losses reduce, and the computation of their results."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

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
from contrastax.pairwise.reductions import Reduction

STATS = ("positive", "count", "log_mean", "mean_logit", "divergence")


@dataclasses.dataclass(frozen=True)
class Channels:
  """The quantities of a pair with weights w⁺ and w⁻ and logit ℓ = s/τ that the losses reduce.

  Args:
    relation: relation that returns the weights.
    beta: concentration β of `hard_negative`.
  """

  relation: Callable[..., Pairs]
  beta: float = 0.0

  def __call__(
    self, similarity: Array, a: Mapping[str, Array], c: Mapping[str, Array], shared: Any
  ) -> dict[str, Any]:
    """Returns the channels of pairs by name.

    Args:
      similarity: similarities s.
      a: sides of the anchors, with shapes that broadcast to that of the similarities.
      c: sides of the candidates, with shapes that broadcast in the same way.
      shared: arrays that are the same for all pairs. This class uses none.

    Returns:
      The quantities, each with the shape of the similarities. `negatives` is a pair of quantities.
    """
    pairs = self.relation(a, c, similarity)
    logit = similarity / a["temperature"]
    negative = _log_weight(pairs.negative, c["log_negative"])
    return {
      "positive_logit": times(pairs.positive, c["as_positive"] * logit),
      "positive_weight": times(pairs.positive, c["as_positive"]),
      "negative_weight": times(pairs.negative, c["as_negative"]),
      "all": logit + _log_total_weight(pairs, c),
      "positive": logit + _log_weight(pairs.positive, c["log_positive"]),
      "negative": logit + negative,
      "negatives": (logit + negative, logit),
      "hardened": (1 + self.beta) * logit + negative,
      "hardness": self.beta * logit + negative,
    }


# The weights of a relation are numbers or masks. A mask is faster: it needs no logarithm per pair.


def _is_mask(weight: Array | int) -> bool:
  return jnp.issubdtype(jnp.result_type(weight), jnp.bool_)


def times(weight: Array | int, x: Array) -> Array:
  """Returns weight · x, where the weight is a number or a mask."""
  return jnp.where(weight, x, 0) if _is_mask(weight) else weight * x


def _log_weight(weight: Array | int, log_candidate_weight: Array) -> Array:
  """Returns the logarithm of the weight of a pair times that of its candidate."""
  if _is_mask(weight):
    return jnp.where(weight, log_candidate_weight, -jnp.inf)
  return _log_or_minus_infinity(weight) + log_candidate_weight


def _log_total_weight(pairs: Pairs, c: Mapping[str, Array]) -> Array:
  """Returns log(w⁺ + w⁻)."""
  positive, negative = pairs
  if _is_mask(positive) and _is_mask(negative):  # two masks are disjoint
    return jnp.where(positive, c["log_positive"], _log_weight(negative, c["log_negative"]))
  return _log_or_minus_infinity(
    times(positive, c["as_positive"]) + times(negative, c["as_negative"])
  )


def _log_or_minus_infinity(weight: Array | int) -> Array:
  """Returns log(weight), and −∞ without a gradient where the weight is 0."""
  none = weight <= 0
  return jnp.where(none, -jnp.inf, jnp.log(jnp.where(none, 1, weight)))


def penalty(anchors: Group, groups: tuple[Group, ...], compare: Compare) -> Array:
  """Returns the mean penalty of the positives of each anchor, for scores that have a penalty.

      Σ_j w⁺_ij penalty_ij / Σ_j w⁺_ij,    0 for an anchor without positives

  Args:
    anchors: vectors [n, d].
    groups: candidates.
    compare: how anchors and candidates are compared. `compare.score.penalized` computes the
      penalties.

  Returns:
    The penalties, [n].
  """
  reduced = _reduce(
    _Penalty(compare.relation),
    anchors,
    groups,
    compare._replace(score=compare.score.penalized),
    {"penalty": sum_, "weight": sum_},
  )
  none = reduced["weight"] <= 0
  return jnp.where(none, 0, reduced["penalty"] / jnp.where(none, 1, reduced["weight"]))


@dataclasses.dataclass(frozen=True)
class _Penalty:
  relation: Callable[..., Pairs]

  def __call__(self, scores, a, c, shared):
    similarity, penalties = scores
    pairs = self.relation(a, c, similarity)
    return {
      "penalty": times(pairs.positive, c["as_positive"] * penalties),
      "weight": times(pairs.positive, c["as_positive"]),
    }


def with_log_weights(group: Group) -> Group:
  """Returns the group with the logarithms of its weights, so that they are not computed per pair.

  A candidate of weight 0 or less is ignored, and losses have no gradient with respect to such a
  weight.
  """
  sides = {}
  for kind in ("positive", "negative"):
    weight = group.side[f"as_{kind}"]
    sides[f"as_{kind}"] = jnp.where(weight <= 0, 0, weight)
    sides[f"log_{kind}"] = _log_or_minus_infinity(weight)
  return group.attach(**sides)


class SoftmaxReductions(NamedTuple):
  """The reductions of a loss, and quantities that all losses use, each [n].

  Args:
    reductions: the loss's own reductions by the names of their channels.
    positive: mean logit p of the positives; 0 without positives.
    positive_weight: sum of the weights of the positives; 1 without positives.
    has_positive: whether the anchor has a positive.
    weight: weight of the outcome: 1 for an anchor with a positive, else 0.
    temperature: temperature of each anchor.
    stats: the stats of the outcome.
  """

  reductions: Mapping[str, Array]
  positive: Array
  positive_weight: Array
  has_positive: Array
  weight: Array
  temperature: Array
  stats: Mapping[str, Array]


def evaluate(
  criterion: Criterion,
  anchors: Group,
  groups: tuple[Group, ...],
  *,
  relation: Callable[..., Pairs],
  temperature: ArrayLike,
  score: Score = cosine(),
  score_params: Params = (),
  same_set: bool = False,
  plan: Plan = Plan(),
  **more: Any,
) -> Outcome:
  """Evaluates a criterion. The fields of `core.Compare` are separate arguments.

  Args:
    criterion: criterion, such as `criteria.info_nce()`.
    anchors: vectors [n, d] and their sides.
    groups: groups of candidates. The first group contains the keys of the anchors.
    relation: function `(anchor side, candidate side, similarity) -> Pairs`.
    temperature: temperature τ > 0, scalar or [n].
    score: similarity of two vectors; `cosine()` in most papers.
    score_params: parameters of the score.
    same_set: whether the keys are the anchors themselves.
    plan: how the pairs are evaluated. It does not change the result.
    **more: other arguments of the criterion: `memory`, `stats` and `bias`.

  Returns:
    The outcome, with one value per anchor.

  Raises:
    UserError: an argument is not of the expected kind, or shapes and sides do not agree.

  Example:
    >>> import jax
    >>> from contrastax import criteria, relations
    >>> from contrastax.core import Group
    >>> one, index = jax.numpy.ones(8), jax.numpy.arange(8)
    >>> side = {"index": index, "as_positive": one, "as_negative": one}
    >>> anchors, keys = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> outcome = criteria.evaluate(
    ...   criteria.dcl(), Group(anchors, {**side, "view": 0 * index}),
    ...   (Group(keys, {**side, "view": 0 * index + 1}),), relation=relations.same_example(),
    ...   temperature=0.1,
    ... )
    >>> outcome.value.shape
    (8,)
  """
  check_kind("criterion", criterion, Criterion, "criteria.info_nce()")
  compare = Compare(relation, score, score_params, same_set, plan)
  return criterion(anchors, groups, compare, temperature=temperature, **more)


def softmax_reductions(
  channels: Callable[..., Mapping[str, Any]],
  anchors: Group,
  groups: tuple[Group, ...],
  compare: Compare,
  temperature: ArrayLike,
  reductions: Mapping[str, Reduction],
  stats: tuple[str, ...],
  shared: Any = (),
) -> SoftmaxReductions:
  """Computes the reductions that a softmax loss and its stats need.

  Args:
    channels: `Channels`, or a subclass with further channels.
    anchors: vectors [n, d] and their sides.
    groups: groups of candidates.
    compare: how anchors and candidates are compared.
    temperature: temperature τ > 0, scalar or [n].
    reductions: the loss's own reductions by the names of their channels.
    stats: names of the stats to observe.
    shared: arrays that the channels read for all pairs.

  Returns:
    The reductions.

  Raises:
    UserError: a stat is unknown, the temperature is not above 0, or `compare.relation` is not a
      function.
  """
  anchors = attach_temperature(anchors, temperature)
  weighted = tuple(with_log_weights(group) for group in groups)
  needed = needed_reductions(reductions, stats)
  reduced = _reduce(channels, anchors, weighted, compare, needed, shared)
  return _collect(reduced, reductions, anchors.side["temperature"], stats)


def _reduce(
  channels: Callable[..., Mapping[str, Any]],
  anchors: Group,
  groups: Sequence[Group],
  compare: Compare,
  reductions: Mapping[str, Reduction],
  shared: Any = (),
) -> dict[str, Any]:
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


def needed_reductions(
  reductions: Mapping[str, Reduction], stats: tuple[str, ...]
) -> dict[str, Reduction]:
  """Returns the reductions that a loss and its stats need, and no others."""
  unknown = set(stats) - set(STATS)
  if unknown:
    raise UserError(f"unknown stats {sorted(unknown)}; the stats are {', '.join(STATS)}")
  needed = {"positive_logit": sum_, "positive_weight": sum_, **reductions}
  if {"log_mean", "mean_logit", "divergence"} & set(stats):
    needed["negatives"] = softmax_mean
  if set(stats) - {"positive"}:
    needed["negative_weight"] = sum_
  return needed


def _collect(
  reduced: Mapping[str, Any],
  names: Mapping[str, Reduction],
  temperature: Array,
  stats: tuple[str, ...],
) -> SoftmaxReductions:
  weight = reduced["positive_weight"]
  none = weight <= 0
  positive = jnp.where(none, 0, reduced["positive_logit"] / jnp.where(none, 1, weight))
  observed = {"positive": positive}
  if "negative_weight" in reduced:
    observed["count"] = reduced["negative_weight"]
  if "negatives" in reduced:
    count = observed["count"]
    log_sum, observed["mean_logit"] = reduced["negatives"]
    log_count = jnp.log(jnp.where(count <= 0, 1, count))
    observed["log_mean"] = jnp.where(count <= 0, 0, log_sum - log_count)
    observed["divergence"] = observed["mean_logit"] - observed["log_mean"]
  return SoftmaxReductions(
    reductions={name: reduced[name] for name in names},
    positive=positive,
    positive_weight=jnp.where(none, 1, weight),
    has_positive=~none,
    weight=(~none).astype(positive.dtype),
    temperature=temperature,
    stats={name: jax.lax.stop_gradient(observed[name]) for name in stats},
  )


def attach_temperature(anchors: Group, temperature: ArrayLike) -> Group:
  """Returns the anchors with the side `temperature`, [n].

  Raises:
    UserError: the temperature is neither a scalar nor [n], or is not above 0. The value of a traced
      temperature is not checked.
  """
  n = anchors.vectors.shape[0]
  check_positive("a temperature", temperature, each=n)
  dtype = jnp.result_type(anchors.vectors, jnp.float32)
  return anchors.attach(temperature=jnp.broadcast_to(jnp.asarray(temperature, dtype), (n,)))


def difference(defined: Array, log_sum: Array, positive: Array) -> Array:
  """Returns log_sum − positive where defined, else 0 without a gradient. NaN remains NaN.

  log_sum may be −∞ where the difference is not defined.
  """
  defined = defined_or_nan(defined, log_sum, positive)
  return jnp.where(defined, jnp.where(defined, log_sum, 0) - jnp.where(defined, positive, 0), 0)


def defined_or_nan(defined: Array, *values: Array) -> Array:
  """Returns the mask, with True where a value is NaN, so that a NaN is not replaced by 0."""
  return functools.reduce(operator.or_, map(jnp.isnan, values), defined)


def norm(x: Array) -> Array:
  """Returns ‖x‖ along the last axis, without a gradient where it is 0."""
  squared = (x**2).sum(-1)
  none = squared == 0
  return jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, squared)))
