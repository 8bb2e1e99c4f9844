"""Pairs made by a gradient: a key that is just lost is a negative, one far off but known a positive."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from contrastax.core import Group, Score, UserError
from contrastax.negatives.sources import NegativeSource, synthetic_candidates
from contrastax.pairwise import log_sum_exp, reduce, reductions, softmax_mean, unit
from contrastax.pairwise.scores.precision import wide


@dataclasses.dataclass(frozen=True, kw_only=True)
class adversarial_negatives(NegativeSource):
  """For each anchor one more negative: its key, moved just so far that it is taken for another's.

    p(j | k) = softmax_j( s(a_j, k)/τ ),   j over the batch's anchors, without k itself
    k'_i = k_i + radius ‖k_i‖ g/‖g‖,   g = −∇_k log Σ_{j of example i} p(j | k) at k_i

  s is the method's score; with the cosine, radius is the tangent of the angle. k_i is the anchor's
  positive of the greatest weight among the keys, the first of equal ones; an anchor without one
  gets a negative of weight 0. The made vectors, [n, 1, d], are of no example and have no gradient.

  radius: > 0, in lengths of the key, small (0.1, say). temperature: τ > 0, of p.

  Lee et al. 2021, arXiv 2012.07280, eqs. 5 and 6, for the hidden states of a text generator and the
  likelihood of its target text; their public code detaches the states, too. There radius is not in
  lengths: 1 in their code.

  Raises UserError for numbers outside these ranges.
  """

  radius: float
  temperature: float

  def __post_init__(self):
    _check(self, "radius", "temperature")

  def candidates(self, state, anchors, groups, rng, compare):
    own, there = _keys_of(anchors, groups[0], compare)
    lost = _lost(self, anchors, own, compare).astype(anchors.vectors.dtype)
    made = synthetic_candidates(lost[:, None], groups[0])
    return anchors, (*groups, made.attach(as_negative=made.side["as_negative"] * there[:, None]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class adversarial_positives(NegativeSource):
  """For each anchor one more positive: its key moved far, then back to where it is still known.

    k'_i as of `adversarial_negatives`, then `steps` times
    k'_i ← k'_i − size ‖k_i‖ f/‖f‖,   f = ∇_{k'} KL( p(· | k_i) ‖ p(· | k'_i) )

  See there for p and k_i. The made vectors, [n, 1, d], carry what their keys carry, but the
  anchor's index and no view (−1), so that `same_example` and `same_label` call them positives;
  they have no gradient. An anchor without a key gets one of weight 0.

  radius, size: > 0, in lengths of the key. steps: at least 0. temperature: τ > 0, of p. A step is
  of that length wherever it leads, so `size` beyond what is left to go overshoots.

  Lee et al. 2021, arXiv 2012.07280, eqs. 7 to 9: one step, and size = radius (in their public code
  3, not in lengths of anything), moved first by the contrastive loss, which here is −log p.

  Raises UserError for numbers outside these ranges.
  """

  radius: float
  size: float
  temperature: float
  steps: int = 1

  def __post_init__(self):
    _check(self, "radius", "size", "temperature")
    if not isinstance(self.steps, int) or self.steps < 0:
      raise UserError(
        f"adversarial_positives: steps is a whole number, at least 0, not {self.steps!r}"
      )

  def candidates(self, state, anchors, groups, rng, compare):
    own, there = _keys_of(anchors, groups[0], compare)

    def divergence(moved):
      """Σ_i KL, but for what does not depend on k'."""
      found = _known(
        self, anchors, own, moved, compare, {"all": log_sum_exp, "known": softmax_mean}
      )
      _, known = found["known"]
      return jnp.sum(found["all"] - known)

    def step(_, moved):
      return moved - self.size * _length(own.vectors) * unit(jax.grad(divergence)(moved))

    moved = jax.lax.fori_loop(0, self.steps, step, _lost(self, anchors, own, compare))
    index, view = anchors.side["index"], jnp.full_like(own.side["view"], -1)
    made = Group(moved.astype(anchors.vectors.dtype), own.side).attach(
      index=index.astype(own.side["index"].dtype),
      view=view,
      as_positive=own.side["as_positive"] * there,
      as_negative=jnp.zeros_like(own.side["as_negative"]),
    )
    return anchors, (*groups, jax.tree.map(lambda x: x[:, None], made))


def _check(source, *names):
  for name in names:
    value = getattr(source, name)
    if not (isinstance(value, int | float) and 0 < value < math.inf):
      raise UserError(f"{type(source).__name__}: {name} is a number above 0, not {value!r}")


def _keys_of(anchors, keys, compare):
  """(Each anchor's key, in float32 at least and without gradient; whether it has one, [n])."""
  anchors, keys, params = jax.lax.stop_gradient((anchors, keys, compare.score_params))
  _, place = reduce(
    _Positive(compare.relation), anchors, (keys,), reductions={"weight": reductions.top_k(1)},
    score=compare.score, score_params=params, same_set=compare.same_set, plan=compare.plan,
  )["weight"]  # fmt: skip
  place = place[:, 0]
  own = jax.tree.map(lambda x: x[jnp.maximum(place, 0)], keys)
  return Group(wide(own.vectors), own.side), place >= 0


@dataclasses.dataclass(frozen=True)
class _Positive:
  relation: object

  def __call__(self, similarity, a, c, shared):
    weight = self.relation(a, c, similarity).positive * c["as_positive"]
    return {"weight": jnp.where(weight <= 0, -jnp.inf, weight)}


def _lost(source, anchors, own, compare):
  """k', where the likelihood of the own example is lower."""

  def log_odds(moved):
    # Of the same direction as −log p, and not lost in rounding where p is nearly 1.
    rows = {"others": log_sum_exp, "mine": log_sum_exp}
    found = _known(source, anchors, own, moved, compare, rows)
    return jnp.sum(found["others"] - found["mine"])

  direction = unit(jax.grad(log_odds)(own.vectors))
  return own.vectors + source.radius * _length(own.vectors) * direction


def _known(source, anchors, own, moved, compare, rows):
  """Reductions over anchors of their logits with a moved key, and with it before it moved."""
  anchors, params = jax.lax.stop_gradient((anchors, compare.score_params))
  of_key = {name: own.side[name] for name in ("index", "view")}
  both = jnp.concatenate([moved, own.vectors], axis=-1)
  seen = {name: anchors.side[name] for name in ("index", "view")}
  return reduce(
    _Likelihood(source.temperature),
    Group(both, {**of_key, "of": anchors.side["index"]}),
    (Group(wide(anchors.vectors), seen),),
    reductions=rows, score=_NowAndBefore(compare.score), score_params=params, plan=compare.plan,
  )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _NowAndBefore(Score):
  """The score of anchors with keys that are two in a row, [n, 2d], as keys by anchors."""

  score: Score

  def __call__(self, params, keys, anchors):
    return tuple(self.score(params, anchors, x).T for x in jnp.split(keys, 2, axis=-1))


@dataclasses.dataclass(frozen=True)
class _Likelihood:
  temperature: float

  def __call__(self, similarity, key, anchor, shared):
    now, before = (s / self.temperature for s in similarity)
    itself = (key["index"] == anchor["index"]) & (key["view"] == anchor["view"])
    mine = key["of"] == anchor["index"]
    return {
      "all": jnp.where(itself, -jnp.inf, now),
      "mine": jnp.where(mine & ~itself, now, -jnp.inf),
      "others": jnp.where(mine | itself, -jnp.inf, now),
      "known": (jnp.where(itself, -jnp.inf, before), now),
    }


def _length(vectors):
  return jnp.linalg.norm(vectors, axis=-1, keepdims=True)
