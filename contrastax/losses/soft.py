"""Soft positives: every candidate is one, as much as a second similarity says."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Group, UserError
from contrastax.criteria.softmax_core import attach
from contrastax.losses.arrays import of_one_type, precision, vectors
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, softmax_mean, sum_
from contrastax.pairwise.inputs import check_positive
from contrastax.pairwise.scores import side_by_side


def soft_contrastive(
  anchors, positives, guide, *, temperature, guide_temperature: float | None = None, plan=Plan()
):
  """InfoNCE towards soft targets: positives' weights from the similarity of other embeddings.

    L_i = −Σ_j w_ij log( exp(s(a_i, p_j)/τ) / Σ_k exp(s(a_i, p_k)/τ) ) / Σ_j w_ij

    w_ij = (1 + s(g_i, g_j))/2, or with a guide temperature exp(s(g_i, g_j)/τ_g)

  One direction; s is the cosine, all vectors are normalized here.

  Args:
    anchors, positives: [n, d], row i of both belongs together.
    guide: g, [n, e], what is known of row i: a frozen encoder's vector, of one of the
      modalities (CWCL), or of its label (Dialog2Flow). No gradient flows into it.
    temperature: τ > 0, scalar or [n].
    guide_temperature: τ_g > 0, or None.

  Returns:
    [n], at least the entropy of the normalized weights.

  Srinivasa et al. 2023, arXiv 2309.14580, eqs. 3 and 4 (CWCL; the other direction is plain
  InfoNCE); Burdisso et al. 2024, arXiv 2410.18481 (Dialog2Flow; the mean of both directions).
  """
  anchors, positives = vectors(anchors=anchors, positives=positives)
  (guide,) = of_one_type(guide=guide)
  if jnp.ndim(guide) != 2 or len(guide) != len(anchors) or not guide.shape[1]:
    raise UserError(
      f"guide is [n, e], a row for each of {jnp.shape(anchors)}, not {jnp.shape(guide)}"
    )
  guide, d = jax.lax.stop_gradient(guide), anchors.shape[1]
  dtype = jnp.result_type(anchors, positives, guide)

  def beside(vectors):
    return Group(jnp.concatenate([vectors.astype(dtype), guide.astype(dtype)], 1), {})

  soft = guide_temperature is not None
  if soft:
    check_positive("guide_temperature", guide_temperature)
  weights = {"positive": softmax_mean} if soft else {"positive": sum_, "weight": sum_}
  r = reduce(
    _Soft(soft), attach(beside(anchors), temperature), (beside(positives),),
    score=side_by_side(cosine(), cosine(), d), plan=plan,
    shared=jnp.asarray(guide_temperature if soft else 1.0, precision(anchors)),
    reductions={"all": log_sum_exp, **weights},
  )  # fmt: skip
  if soft:
    return r["all"] - r["positive"][1]
  none = r["weight"] <= 0  # every guide is opposite
  return jnp.where(none, 0, r["all"] - r["positive"] / jnp.where(none, 1, r["weight"]))


@dataclasses.dataclass(frozen=True)
class _Soft:
  softmax: bool

  def __call__(self, similarity, a, c, guide_temperature):
    trained, guide = similarity
    logit = trained / a["temperature"]
    if self.softmax:
      return {"all": logit, "positive": (guide / guide_temperature, logit)}
    weight = (1 + guide) / 2
    return {"all": logit, "positive": weight * logit, "weight": weight}
