"""The softmax losses on groups of candidates: what methods call.

All take `(anchors, groups)` and return `Contrast`, one value per anchor. With
w⁺_ij and w⁻_ij the weights of pair (i, j) as positive and as negative (the relation's,
times the candidate's `as_positive` and `as_negative`), ℓ_ij = score_ij / τ_i, and

  p_i = Σ_j w⁺_ij ℓ_ij / Σ_j w⁺_ij,

they differ only in what stands under the logarithm. Arguments common to all:

  anchors: vectors [n, d]. groups: candidates, the anchors' keys first; their sides have
    `as_positive` and `as_negative` besides what the relation reads.
  relation: `(anchor side, candidate side, similarity) -> Pairs`.
  temperature: τ > 0, scalar or [n], may be traced and differentiated.
  score: similarity, `cosine()` in the papers; score_params: its parameters.
  same_set: the keys are the anchors themselves.
  memory: (), these losses have none.
  stats: names of what to observe, each [n], without gradient:
    `positive`   p_i;
    `count`      Σ_j w⁻_ij;
    `log_mean`   log-mean-exp of the negatives' logits, log Σ_j w⁻_ij e^ℓ_ij − log count;
    `mean_logit` mean of the negatives' logits under their own softmax.
    For an anchor without positives `positive` is 0, without negatives the others are 0.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastax.core import Contrast
from contrastax.pairwise import cosine, log_sum_exp, reduce, softmax_mean, sum_

GIVEN = (
  "anchors", "groups", "relation", "temperature", "score", "score_params", "same_set", "memory",
  "stats",
)  # fmt: skip
"""What a method gives a loss when it calls it; the rest are a loss's own arguments."""

STATS = ("positive", "count", "log_mean", "mean_logit")


def info_nce(
  anchors, groups, *, relation, temperature, score=cosine(), score_params=(), same_set=False,
  memory=(), stats=(),
):  # fmt: skip
  """InfoNCE on groups; with `same_set`, NT-Xent; with several positives, SupCon's L_out.

    L_i = −p_i + log Σ_j (w⁺_ij + w⁻_ij) exp ℓ_ij

  An anchor without a positive has value 0 and no gradient; with one positive, of weight 1,
  and no negative, 0 as well. See the module for the arguments.

  Oord et al. 2018, arXiv 1807.03748, eq. 4; Chen et al. 2020, arXiv 2002.05709, eq. 1;
  Khosla et al. 2020, arXiv 2004.11362, eq. 2.
  """
  found = _reduce(
    anchors, groups, relation, temperature, score, score_params, same_set, stats, "all"
  )
  return Contrast(_difference(found.some_positive, found.lse, found.positive), found.stats, memory)


def dcl(
  anchors, groups, *, relation, temperature, score=cosine(), score_params=(), same_set=False,
  memory=(), stats=(),
):  # fmt: skip
  """Decoupled contrastive loss on groups: InfoNCE without the positive in the denominator.

    L_i = −p_i + log Σ_j w⁻_ij exp ℓ_ij

  An anchor without a positive, or without a negative, has value 0 and no gradient. See
  the module for the arguments.

  Yeh et al. 2022, arXiv 2110.06848, eq. 5.
  """
  found = _reduce(
    anchors, groups, relation, temperature, score, score_params, same_set, stats, "negative"
  )
  defined = found.some_positive & found.some_negative
  return Contrast(_difference(defined, found.lse, found.positive), found.stats, memory)


@dataclasses.dataclass(frozen=True)
class _Channels:
  """The pair quantities of the softmax family, under a relation."""

  relation: object

  def __call__(self, similarity, a, c, shared):
    pairs = self.relation(a, c, similarity)
    positive = pairs.positive * c["as_positive"]
    negative = pairs.negative * c["as_negative"]
    logit = similarity / a["temperature"]
    return {
      "pull": jnp.where(positive > 0, positive * logit, 0),
      "positive_weight": positive,
      "negative_weight": negative,
      "all": _weighted(logit, positive + negative),
      "negative": _weighted(logit, negative),
      "watched_negative": (_weighted(logit, negative), logit),
    }


class _Found(NamedTuple):
  """Reductions, each [n]. `lse`: log-sum-exp of what stands under the loss's logarithm."""

  positive: jax.Array
  lse: jax.Array
  some_positive: jax.Array
  some_negative: jax.Array
  stats: dict


def _reduce(
  anchors, groups, relation, temperature, score, score_params, same_set, stats, denominator
):
  unknown = set(stats) - set(STATS)
  if unknown:
    raise ValueError(f"unknown stats {sorted(unknown)}; known: {', '.join(STATS)}")
  if isinstance(temperature, int | float) and not temperature > 0:
    raise ValueError(f"a temperature must be above 0, not {temperature}")
  n = anchors.vectors.shape[0]
  dtype = jnp.promote_types(anchors.vectors.dtype, jnp.float32)
  anchors = anchors.attach(temperature=jnp.broadcast_to(jnp.asarray(temperature, dtype), (n,)))

  rows = {"pull": sum_, "positive_weight": sum_, "negative_weight": sum_, denominator: log_sum_exp}
  watched = {"log_mean", "mean_logit"} & set(stats)
  if watched:
    rows.pop("negative", None)
    rows["watched_negative"] = softmax_mean
  r = reduce(
    _Channels(relation), anchors, groups,
    score=score, score_params=score_params, same_set=same_set, rows=rows,
  )  # fmt: skip

  weight, count = r["positive_weight"], r["negative_weight"]
  positive = jnp.where(weight > 0, r["pull"] / jnp.where(weight > 0, weight, 1), 0)
  observed = {"positive": positive, "count": count}
  if watched:
    negatives, mean = r["watched_negative"]
    r.setdefault("negative", negatives)
    some = count > 0
    log_count = jnp.log(jnp.where(some, count, 1))
    observed["log_mean"] = jnp.where(some, negatives - log_count, 0)
    observed["mean_logit"] = mean
  observed = {name: jax.lax.stop_gradient(observed[name]) for name in stats}
  return _Found(positive, r[denominator], weight > 0, count > 0, observed)


def _weighted(logit, weight):
  """log(weight · e^logit); −∞, out of every sum and without gradient, for weight 0."""
  some = weight > 0
  return jnp.where(some, logit + jnp.log(jnp.where(some, weight, 1)), -jnp.inf)


def _difference(defined, lse, positive):
  """lse − positive where defined, else 0 without a gradient (lse is −∞ there)."""
  return jnp.where(defined, jnp.where(defined, lse, 0) - jnp.where(defined, positive, 0), 0)
