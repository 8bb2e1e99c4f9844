"""InfoNCE with soft positives."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array, Group, UserError
from contrastax.criteria.softmax_core import attach_temperature
from contrastax.losses.arrays import check_vectors, compute_dtype, to_common_dtype
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, softmax_mean, sum_
from contrastax.pairwise.inputs import check_positive
from contrastax.pairwise.scores import side_by_side


def soft_contrastive(
  anchors: ArrayLike,
  positives: ArrayLike,
  guide: ArrayLike,
  *,
  temperature: ArrayLike,
  guide_temperature: float | None = None,
  plan: Plan = Plan(),
) -> Array:
  """InfoNCE with soft targets: each candidate is a positive with a weight from other embeddings.

      L_i = −Σ_j w_ij log( exp(s(a_i, p_j)/τ) / Σ_k exp(s(a_i, p_k)/τ) ) / Σ_j w_ij
      w_ij = (1 + s(g_i, g_j))/2, or with a guide temperature exp(s(g_i, g_j)/τ_g)

  s is the cosine similarity. The loss has one direction.

  Args:
    anchors: anchors a, [n, d]. The loss normalizes all vectors.
    positives: candidates p, [n, d]. Row i of anchors and positives belongs to the same example.
    guide: vectors g that determine the weights, [n, e]: the features of a frozen encoder of one of
      the modalities (CWCL), or the embedding of a label (Dialog2Flow). No gradient flows into them.
    temperature: temperature τ > 0, scalar or [n].
    guide_temperature: temperature τ_g > 0 of the weights; None for the linear weights.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each anchor, [n]. It is at least the entropy of the normalized weights.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> anchors, positives, guide = jax.random.normal(jax.random.key(0), (3, 8, 4))
    >>> losses.soft_contrastive(anchors, positives, guide, temperature=0.1).shape
    (8,)

  References:
    Srinivasa et al., "CWCL: Cross-Modal Transfer with Continuously Weighted Contrastive Loss",
    2023, arXiv 2309.14580, eqs. 3 and 4. Its other direction is InfoNCE.
    Burdisso et al., "Dialog2Flow", 2024, arXiv 2410.18481. It uses the mean of both directions.
  """
  anchors, positives = check_vectors(anchors=anchors, positives=positives)
  (guide,) = to_common_dtype(guide=guide)
  if jnp.ndim(guide) != 2 or len(guide) != len(anchors) or not guide.shape[1]:
    raise UserError(
      "guide must have the shape [n, e] with e ≥ 1 and one row for each anchor, "
      f"not {jnp.shape(guide)} where the anchors have the shape {anchors.shape}"
    )
  guide, d = jax.lax.stop_gradient(guide), anchors.shape[1]
  dtype = jnp.result_type(anchors, positives, guide)

  def with_guide(vectors: Array) -> Group:
    return Group(jnp.concatenate([vectors.astype(dtype), guide.astype(dtype)], 1), {})

  softmax = guide_temperature is not None
  if softmax:
    check_positive("guide_temperature", guide_temperature)
  weights = {"positive": softmax_mean} if softmax else {"positive": sum_, "weight": sum_}
  reduced = reduce(
    _Soft(softmax),
    attach_temperature(with_guide(anchors), temperature),
    (with_guide(positives),),
    score=side_by_side(cosine(), cosine(), d),
    reductions={"all": log_sum_exp, **weights},
    shared=jnp.asarray(guide_temperature if softmax else 1.0, compute_dtype(anchors)),
    plan=plan,
  )
  if softmax:
    return reduced["all"] - reduced["positive"][1]
  none = reduced["weight"] <= 0  # each guide vector is opposite to the anchor's
  mean = reduced["positive"] / jnp.where(none, 1, reduced["weight"])
  return jnp.where(none, 0, reduced["all"] - mean)


@dataclasses.dataclass(frozen=True)
class _Soft:
  softmax: bool

  def __call__(self, similarities, a, c, guide_temperature):
    similarity, guide_similarity = similarities
    logit = similarity / a["temperature"]
    if self.softmax:
      return {"all": logit, "positive": (guide_similarity / guide_temperature, logit)}
    weight = (1 + guide_similarity) / 2
    return {"all": logit, "positive": weight * logit, "weight": weight}
