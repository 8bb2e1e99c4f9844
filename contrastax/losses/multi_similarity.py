"""The multi-similarity loss."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array
from contrastax.criteria.softmax_core import defined_or_nan
from contrastax.losses.arrays import compute_dtype, labeled_group
from contrastax.pairwise import Plan, cosine, log_sum_exp, max_, min_, reduce
from contrastax.pairwise.inputs import check_numbers, check_positive
from contrastax.relations import same_label


def multi_similarity(
  z: ArrayLike,
  labels: ArrayLike,
  *,
  alpha: ArrayLike = 2.0,
  beta: ArrayLike = 50.0,
  base: ArrayLike = 0.5,
  margin: float | None = 0.1,
  plan: Plan = Plan(),
) -> Array:
  """Multi-similarity loss: mines hard pairs and gives harder pairs a larger weight.

      L_i = 1/α log(1 + Σ_p exp(−α (s_ip − λ))) + 1/β log(1 + Σ_n exp(β (s_in − λ)))

  With mining, n runs over the negatives with s_in + margin > min_p s_ip. p runs over the positives
  with s_ip < max_n s_in + margin. s is the cosine similarity.

  Args:
    z: vectors [n, d]. The loss normalizes them.
    labels: class numbers [n]; −1 for a vector without a label.
    alpha: sharpness α > 0 of the weights of positives.
    beta: sharpness β > 0 of the weights of negatives.
    base: similarity λ that is subtracted from s, in units of the cosine.
    margin: margin of the mining, in units of the cosine; None to use all pairs.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [n]. With mining, it is 0 for an anchor that has no positive or no
    negative left. Without mining, an anchor without positives keeps its second term, and an anchor
    without negatives keeps its first term.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z = jax.random.normal(jax.random.key(0), (4, 8))
    >>> losses.multi_similarity(z, jax.numpy.array([0, 0, 1, 1])).shape
    (4,)

  References:
    Wang et al., "Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning", 2019,
    arXiv 1904.06627, eqs. 10 to 13.

  In other libraries:
    Some implementations average only over the anchors that have pairs left.
  """
  check_numbers(base=base, margin=0.0 if margin is None else margin)
  check_positive("alpha", alpha)
  check_positive("beta", beta)
  group = labeled_group(z, labels)
  if margin is not None:
    hardest = jax.lax.stop_gradient(
      reduce(
        _Hardest(),
        group,
        (group,),
        score=cosine(),
        reductions={"positive": min_, "negative": max_},
        same_set=True,
        plan=plan,
      )
    )
    group = group.attach(hardest_positive=hardest["positive"], hardest_negative=hardest["negative"])
  constants = {"alpha": alpha, "beta": beta, "base": base, "margin": margin or 0.0}
  reduced = reduce(
    _MultiSimilarity(margin is not None),
    group,
    (group,),
    score=cosine(),
    reductions={"positive": log_sum_exp, "negative": log_sum_exp},
    shared={name: jnp.asarray(x, compute_dtype(z)) for name, x in constants.items()},
    same_set=True,
    plan=plan,
  )
  attraction = jax.nn.softplus(reduced["positive"]) / alpha
  repulsion = jax.nn.softplus(reduced["negative"]) / beta
  if margin is None:
    return attraction + repulsion
  has_both = (reduced["positive"] != -jnp.inf) & (reduced["negative"] != -jnp.inf)
  has_both = defined_or_nan(has_both, attraction, repulsion)
  return jnp.where(has_both, attraction + repulsion, 0)


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

  def __call__(self, similarity, a, c, constants):
    positive, negative = same_label()(a, c, similarity)
    if self.mined:
      fixed = jax.lax.stop_gradient(similarity)
      # A comparison with NaN is False. The comparisons are negated, so that a pair with NaN is
      # used.
      positive = positive & ~(fixed - constants["margin"] >= a["hardest_negative"])
      negative = negative & ~(fixed + constants["margin"] <= a["hardest_positive"])
    difference = similarity - constants["base"]
    return {
      "positive": jnp.where(positive, -constants["alpha"] * difference, -jnp.inf),
      "negative": jnp.where(negative, constants["beta"] * difference, -jnp.inf),
    }
