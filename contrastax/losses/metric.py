"""Losses of metric learning: vectors with labels, each an anchor against all others.

Positives of an anchor are the other vectors of its label, negatives those of another label. All
return one value per anchor, [n], 0 for an anchor that has no positive or no negative, unless
said otherwise; the batch's loss is the mean of what they return.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.criteria.family import attach, difference, or_nan
from contrastax.labels import class_numbers, share_label
from contrastax.losses.arrays import (
  candidates,
  labelled,
  of_index,
  precision,
  vectors,
)  # fmt: skip
from contrastax.pairwise import (
  Plan,
  cosine,
  dot,
  log_sum_exp,
  max_,
  min_,
  negative_squared_distance,
  reduce,
  sum_,
)  # fmt: skip
from contrastax.pairwise.inputs import check_numbers, check_positive
from contrastax.positives import same_label
from contrastax.propagate import relu


def n_pairs(anchors, positives, labels=None, *, l2_weight=0.002, plan=Plan()):
  """Multi-class N-pair loss: InfoNCE of dot products at temperature 1, with a penalty of length.

    L_i = −1/|P(i)| Σ_{p ∈ P(i)} a_i·p_p + log Σ_j exp(a_i·p_j) + ¼ l2_weight (‖a_i‖² + ‖p_i‖²)

  P(i): p_i, and the other positives of i's label.

  Args:
    anchors, positives: [n, d], as they are. Row i of both is the same class.
    labels: [n], the numbers of classes (−1: no label), or None: all rows are of different classes.
    l2_weight: of the squared lengths, ≥ 0.

  Returns:
    [n].

  Sohn 2016 (NIPS), eq. 6, and TensorFlow's npairs_loss, which has the labels and the ¼;
  pytorch-metric-learning draws one pair of each class, and has no penalty by default.
  """
  anchors, positives = vectors(anchors=anchors, positives=positives)
  check_numbers(l2_weight=l2_weight)
  index = of_index(anchors)
  side = {"label": index if labels is None else class_numbers(labels, len(anchors))}
  a, c = (candidates(x, of_index(x), 0).attach(**side) for x in (anchors, positives))
  r = reduce(
    _NPairs(), a, (c,), score=dot(), plan=plan,
    rows={"all": log_sum_exp, "positive": sum_, "count": sum_},
  )  # fmt: skip
  squares = sum((x.astype(precision(x)) ** 2).sum(1) for x in (anchors, positives))
  return r["all"] - r["positive"] / r["count"] + l2_weight / 4 * squares


@dataclasses.dataclass(frozen=True)
class _NPairs:
  def __call__(self, similarity, a, c, shared):
    # A row's own positive is one, whatever its label.
    same = share_label(a["label"], c["label"]) | (a["index"] == c["index"])
    return {
      "all": similarity,
      "positive": jnp.where(same, similarity, 0),
      "count": jnp.where(same, 1.0, 0.0),
    }


def circle(z, labels, *, margin=0.25, scale=256.0, plan=Plan()):
  """Circle loss: each similarity is moved as far as it still has to go.

    L_i = log(1 + Σ_n exp(γ α_n (s_in − m)) Σ_p exp(−γ α_p (s_ip − 1 + m)))
    α_p = max(0, 1 + m − s_ip),  α_n = max(0, s_in + m), without gradient

  Args:
    z: [n, d]; normalised here, s is the cosine.
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    margin: m, in units of the cosine.
    scale: γ > 0; 256 in the paper for faces, 80 for finer classes.

  Returns:
    [n].

  Sun et al. 2020, arXiv 2002.10857, eq. 6, for each anchor, as fast-reid has it.
  pytorch-metric-learning averages over anchors whose loss is not 0; some code sums over all
  pairs of the batch inside one logarithm.
  """
  check_numbers(margin=margin)
  check_positive("scale", scale)
  group = labelled(z, labels)
  r = reduce(
    _Circle(), group, (group,), score=cosine(), same_set=True, plan=plan,
    shared=(jnp.asarray(margin, precision(z)), jnp.asarray(scale, precision(z))),
    rows={"positive": log_sum_exp, "negative": log_sum_exp},
  )  # fmt: skip
  return jax.nn.softplus(r["positive"] + r["negative"])


@dataclasses.dataclass(frozen=True)
class _Circle:
  def __call__(self, similarity, a, c, shared):
    margin, scale = shared
    pairs = same_label()(a, c, similarity)
    s = jax.lax.stop_gradient(similarity)
    pull = -scale * relu(1 + margin - s) * (similarity - 1 + margin)
    push = scale * relu(s + margin) * (similarity - margin)
    return {
      "positive": jnp.where(pairs.positive, pull, -jnp.inf),
      "negative": jnp.where(pairs.negative, push, -jnp.inf),
    }


def multi_similarity(
  z, labels, *, alpha=2.0, beta=50.0, base=0.5, margin: float | None = 0.1, plan=Plan()
):
  """Multi-similarity loss: soft weights on the pairs that are hard beside the anchor's others.

    L_i = 1/α log(1 + Σ_p exp(−α (s_ip − λ))) + 1/β log(1 + Σ_n exp(β (s_in − λ)))

  over the negatives with s_in + margin > min_p s_ip and the positives with
  s_ip − margin < max_n s_in; 0 for an anchor to which no positive or no negative is left.

  Args:
    z: [n, d]; normalised here, s is the cosine.
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    alpha, beta: > 0.
    base: λ, in units of the cosine.
    margin: in units of the cosine. None: over all pairs, and then an anchor without positives
      keeps its second term, and without negatives its first.

  Returns:
    [n].

  Wang et al. 2019, arXiv 1904.06627, eqs. 10 to 13. Some code divides by the anchors that have
  pairs left.
  """
  check_numbers(base=base, margin=0.0 if margin is None else margin)
  check_positive("alpha", alpha)
  check_positive("beta", beta)
  group = labelled(z, labels)
  how = {"score": cosine(), "same_set": True, "plan": plan}
  rows = {"positive": log_sum_exp, "negative": log_sum_exp}
  if margin is not None:
    extremes = {"positive": min_, "negative": max_}
    hardest = jax.lax.stop_gradient(reduce(_Hardest(), group, (group,), rows=extremes, **how))
    group = group.attach(hardest_positive=hardest["positive"], hardest_negative=hardest["negative"])
  numbers = {"alpha": alpha, "beta": beta, "base": base, "margin": margin or 0.0}
  shared = {name: jnp.asarray(number, precision(z)) for name, number in numbers.items()}
  r = reduce(_MultiSimilarity(margin is not None), group, (group,), rows=rows, shared=shared, **how)
  pull = jax.nn.softplus(r["positive"]) / alpha
  push = jax.nn.softplus(r["negative"]) / beta
  some = (r["positive"] != -jnp.inf) & (r["negative"] != -jnp.inf)
  some = or_nan(some, pull, push)
  return pull + push if margin is None else jnp.where(some, pull + push, 0)


@dataclasses.dataclass(frozen=True)
class _Hardest:
  def __call__(self, similarity, a, c, shared):
    pairs = same_label()(a, c, similarity)
    return {
      "positive": jnp.where(pairs.positive, similarity, jnp.inf),
      "negative": jnp.where(pairs.negative, similarity, -jnp.inf),
    }


@dataclasses.dataclass(frozen=True)
class _MultiSimilarity:
  mined: bool

  def __call__(self, similarity, a, c, of):
    positive, negative = same_label()(a, c, similarity)
    if self.mined:
      s = jax.lax.stop_gradient(similarity)
      # Written so that NaN, which no comparison holds for, is kept.
      positive = positive & ~(s - of["margin"] >= a["hardest_negative"])
      negative = negative & ~(s + of["margin"] <= a["hardest_positive"])
    away = similarity - of["base"]
    return {
      "positive": jnp.where(positive, -of["alpha"] * away, -jnp.inf),
      "negative": jnp.where(negative, of["beta"] * away, -jnp.inf),
    }


def soft_nearest_neighbor(z, labels, *, temperature, plan=Plan()):
  """Soft nearest neighbour loss: the log of the chance to meet a neighbour of one's own class.

    L_i = −log( Σ_{p ∈ P(i)} exp(−‖z_i − z_p‖²/τ) / Σ_{k ≠ i} exp(−‖z_i − z_k‖²/τ) )

  Args:
    z: [n, d], as it is.
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    temperature: τ > 0, scalar or [n], in units of a squared distance.

  Returns:
    [n], 0 for an anchor without a positive; and for one without a negative.

  Frosst et al. 2019, arXiv 1902.01889, eq. 1. Of unit vectors it is neighbourhood component
  analysis (Goldberger et al. 2004). Public code adds 1e-9 or 1e-5 under the logarithm, where the
  loss stops to grow; here it does not.
  """
  group = attach(labelled(z, labels), temperature)
  r = reduce(
    _SoftNeighbours(), group, (group,), score=negative_squared_distance(), same_set=True,
    rows={"all": log_sum_exp, "positive": log_sum_exp}, plan=plan,
  )  # fmt: skip
  return difference(r["positive"] != -jnp.inf, r["all"], r["positive"])


@dataclasses.dataclass(frozen=True)
class _SoftNeighbours:
  def __call__(self, similarity, a, c, shared):
    pairs = same_label()(a, c, similarity)
    logit = similarity / a["temperature"]
    return {
      "positive": jnp.where(pairs.positive, logit, -jnp.inf),
      "all": jnp.where(pairs.positive | pairs.negative, logit, -jnp.inf),
    }
