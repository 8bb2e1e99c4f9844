"""The multi-similarity loss."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.criteria.softmax_core import or_nan
from contrastax.losses.arrays import (
  labeled,
  precision,
)  # fmt: skip
from contrastax.pairwise import (
  Plan,
  cosine,
  log_sum_exp,
  max_,
  min_,
  reduce,
)  # fmt: skip
from contrastax.pairwise.inputs import check_numbers, check_positive
from contrastax.relations import same_label


def multi_similarity(
  z, labels, *, alpha=2.0, beta=50.0, base=0.5, margin: float | None = 0.1, plan=Plan()
):
  """Multi-similarity loss: soft weights on the pairs that are hard beside the anchor's others.

    L_i = 1/α log(1 + Σ_p exp(−α (s_ip − λ))) + 1/β log(1 + Σ_n exp(β (s_in − λ)))

  over the negatives with s_in + margin > min_p s_ip and the positives with
  s_ip − margin < max_n s_in; 0 for an anchor to which no positive or no negative is left.

  Args:
    z: [n, d]; normalized here, s is the cosine.
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
  group = labeled(z, labels)
  how = {"score": cosine(), "same_set": True, "plan": plan}
  rows = {"positive": log_sum_exp, "negative": log_sum_exp}
  if margin is not None:
    extremes = {"positive": min_, "negative": max_}
    hardest = jax.lax.stop_gradient(reduce(_Hardest(), group, (group,), reductions=extremes, **how))
    group = group.attach(hardest_positive=hardest["positive"], hardest_negative=hardest["negative"])
  numbers = {"alpha": alpha, "beta": beta, "base": base, "margin": margin or 0.0}
  shared = {name: jnp.asarray(number, precision(z)) for name, number in numbers.items()}
  r = reduce(
    _MultiSimilarity(margin is not None), group, (group,), reductions=rows, shared=shared, **how
  )
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
