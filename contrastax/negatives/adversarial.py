"""Adversarial hard negatives and hard positives, computed by gradient steps on the keys (CLAPS)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Compare, Group, Pairs, Score, State, UserError
from contrastax.negatives.sources import NegativeSource, synthetic_candidates
from contrastax.pairwise import log_sum_exp, reduce, reductions, softmax_mean, unit
from contrastax.pairwise.reduction import Reduction
from contrastax.pairwise.scores.precision import wide


@dataclasses.dataclass(frozen=True, kw_only=True)
class adversarial_negatives(NegativeSource):
  """Adds a negative to each anchor: its key, moved so that its own example becomes less likely.

      p(j | k) = softmax_j( s(a_j, k)/τ ),   j over the batch's anchors, without k itself
      k'_i = k_i + radius ‖k_i‖ g/‖g‖,   g = −∇_k log Σ_{j of example i} p(j | k) at k_i

  p is the likelihood that anchor j belongs to key k, and s is the method's score. With the cosine,
  `radius` is the tangent of the angle between k_i and k'_i. k_i is the key with the largest weight
  as a positive of the anchor, and the first such key if several are equal. An anchor without a
  positive gets a negative with the weight 0. The negatives are a group [n, 1, d]. They belong to no
  example and have no gradient.

  Args:
    radius: the length of the step, above 0, relative to the length of the key. Use a small number,
      such as 0.1.
    temperature: the temperature τ > 0 of p.

  Raises:
    UserError: an argument is outside its range.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 4, 3))
    >>> source = negatives.adversarial_negatives(radius=0.1, temperature=0.5)
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> [group.vectors.shape for group in groups]
    [(4, 3), (4, 1, 3)]

  References:
    Lee et al., Contrastive Learning with Adversarial Perturbations for Conditional Text Generation
    (CLAPS), 2021, arXiv 2012.07280, eqs. 5 and 6.

  In other libraries:
    The paper moves hidden states of a text generator, and p is the likelihood of its target text.
    Its public code has no gradient through the moved states either. In that code, the radius is an
    absolute length, 1.
  """

  radius: float
  temperature: float

  def __post_init__(self):
    _check(self, "radius", "temperature")

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    own, has_key = _own_keys(anchors, groups[0], compare)
    moved = _moved_away(self, anchors, own, compare).astype(anchors.vectors.dtype)
    made = synthetic_candidates(moved[:, None], groups[0])
    weight = made.side["as_negative"] * has_key[:, None]
    return anchors, (*groups, made.attach(as_negative=weight))


@dataclasses.dataclass(frozen=True, kw_only=True)
class adversarial_positives(NegativeSource):
  """Adds a positive to each anchor: its key, moved far away and then back toward its old p.

      k'_i as in `adversarial_negatives`, then `steps` times
      k'_i ← k'_i − size ‖k_i‖ f/‖f‖,   f = ∇_{k'} KL( p(· | k_i) ‖ p(· | k'_i) )

  p and k_i are defined as in `adversarial_negatives`. The positives are a group [n, 1, d] without a
  gradient. They have the sides of their keys, except that the index is that of the anchor and the
  view is −1. So they are positives under `same_example` and `same_label`. An anchor without a key
  gets a positive with the weight 0.

  Args:
    radius: the length of the step away, above 0, relative to the length of the key.
    size: the length of each step back, above 0, relative to the length of the key. It does not
      depend on the remaining distance, so a large size overshoots.
    temperature: the temperature τ > 0 of p.
    steps: the number of steps back, at least 0.

  Raises:
    UserError: an argument is outside its range.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 4, 3))
    >>> source = negatives.adversarial_positives(radius=0.5, size=0.2, temperature=0.5)
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> print(groups[1].side["as_positive"].ravel())
    [1. 1. 1. 1.]

  References:
    Lee et al., Contrastive Learning with Adversarial Perturbations for Conditional Text Generation
    (CLAPS), 2021, arXiv 2012.07280, eqs. 7 to 9.

  In other libraries:
    The paper takes one step back, with size = radius. In its public code both are 3, as absolute
    lengths. That code takes the first step by the gradient of the contrastive loss; this class uses
    the gradient of −log p.
  """

  radius: float
  size: float
  temperature: float
  steps: int = 1

  def __post_init__(self):
    _check(self, "radius", "size", "temperature")
    if not isinstance(self.steps, int) or self.steps < 0:
      raise UserError(
        f"adversarial_positives: steps must be an integer of at least 0, not {self.steps!r}"
      )

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    own, has_key = _own_keys(anchors, groups[0], compare)

    def divergence(moved):
      """Returns Σ_i KL, without the terms that do not depend on k'."""
      wanted = {"all": log_sum_exp, "before": softmax_mean}
      results = _likelihood(self, anchors, own, moved, compare, wanted)
      _, mean_logit = results["before"]
      return jnp.sum(results["all"] - mean_logit)

    def step(_, moved):
      return moved - self.size * _length(own.vectors) * unit(jax.grad(divergence)(moved))

    moved = jax.lax.fori_loop(0, self.steps, step, _moved_away(self, anchors, own, compare))
    index, view = anchors.side["index"], jnp.full_like(own.side["view"], -1)
    made = Group(moved.astype(anchors.vectors.dtype), own.side).attach(
      index=index.astype(own.side["index"].dtype),
      view=view,
      as_positive=own.side["as_positive"] * has_key,
      as_negative=jnp.zeros_like(own.side["as_negative"]),
    )
    return anchors, (*groups, jax.tree.map(lambda x: x[:, None], made))


def _check(source: NegativeSource, *names: str) -> None:
  for name in names:
    value = getattr(source, name)
    if not (isinstance(value, int | float) and 0 < value < math.inf):
      raise UserError(f"{type(source).__name__}: {name} must be a number above 0, not {value!r}")


def _own_keys(anchors: Group, keys: Group, compare: Compare) -> tuple[Group, Array]:
  """Finds the key of each anchor.

  Returns:
    The keys [n, d], in at least float32 and without a gradient; and whether each anchor has one,
    [n].
  """
  anchors, keys, params = jax.lax.stop_gradient((anchors, keys, compare.score_params))
  _, position = reduce(
    _PositiveWeight(compare.relation), anchors, (keys,),
    reductions={"weight": reductions.top_k(1)},
    score=compare.score, score_params=params, same_set=compare.same_set, plan=compare.plan,
  )["weight"]  # fmt: skip
  position = position[:, 0]
  own = jax.tree.map(lambda x: x[jnp.maximum(position, 0)], keys)
  return Group(wide(own.vectors), own.side), position >= 0


@dataclasses.dataclass(frozen=True)
class _PositiveWeight:
  """The weight of a pair as a positive, as a channel; −∞ for other pairs."""

  relation: Callable[..., Pairs]

  def __call__(self, similarity, a, c, shared):
    weight = self.relation(a, c, similarity).positive * c["as_positive"]
    return {"weight": jnp.where(weight <= 0, -jnp.inf, weight)}


def _moved_away(
  source: adversarial_negatives | adversarial_positives,
  anchors: Group,
  own: Group,
  compare: Compare,
) -> Array:
  """Returns k', at which the likelihood of the key's own example is lower than at k."""

  def log_odds(moved):
    # This gradient has the direction of ∇(−log p), without cancellation if p is close to 1.
    wanted = {"others": log_sum_exp, "own": log_sum_exp}
    results = _likelihood(source, anchors, own, moved, compare, wanted)
    return jnp.sum(results["others"] - results["own"])

  direction = unit(jax.grad(log_odds)(own.vectors))
  return own.vectors + source.radius * _length(own.vectors) * direction


def _likelihood(
  source: adversarial_negatives | adversarial_positives,
  anchors: Group,
  own: Group,
  moved: Array,
  compare: Compare,
  wanted: Mapping[str, Reduction],
) -> dict[str, Any]:
  """Reduces the logits of each key, after and before its move, over the anchors."""
  anchors, params = jax.lax.stop_gradient((anchors, compare.score_params))
  key_side = {name: own.side[name] for name in ("index", "view")}
  both = jnp.concatenate([moved, own.vectors], axis=-1)
  anchor_side = {name: anchors.side[name] for name in ("index", "view")}
  return reduce(
    _Logits(source.temperature),
    Group(both, {**key_side, "anchor_index": anchors.side["index"]}),
    (Group(wide(anchors.vectors), anchor_side),),
    reductions=wanted, score=_NowAndBefore(compare.score), score_params=params, plan=compare.plan,
  )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _NowAndBefore(Score):
  """The scores of anchors with keys after and before the move, a tuple of arrays [keys, anchors].

  A vector [2d] of `keys` is the concatenation of the key after and before the move.
  """

  score: Score

  @override
  def __call__(self, params, keys, anchors):
    return tuple(self.score(params, anchors, x).T for x in jnp.split(keys, 2, axis=-1))


@dataclasses.dataclass(frozen=True)
class _Logits:
  """Channels of a key and an anchor.

  all: the logits over which p is normalized. own: the logits of the key's own example. others: the
  logits of the other examples. before: the logits before the move, whose softmax weights the logits
  after it.
  """

  temperature: float

  def __call__(self, similarity, key, anchor, shared):
    now, before = (s / self.temperature for s in similarity)
    itself = (key["index"] == anchor["index"]) & (key["view"] == anchor["view"])
    own = key["anchor_index"] == anchor["index"]
    return {
      "all": jnp.where(itself, -jnp.inf, now),
      "own": jnp.where(own & ~itself, now, -jnp.inf),
      "others": jnp.where(own | itself, -jnp.inf, now),
      "before": (jnp.where(itself, -jnp.inf, before), now),
    }


def _length(vectors: Array) -> Array:
  return jnp.linalg.norm(vectors, axis=-1, keepdims=True)
