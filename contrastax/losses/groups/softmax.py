"""The softmax losses on groups of candidates: what methods call.

All take `(anchors, groups)` and return `Contrast`, one value per anchor. With
w⁺_ij and w⁻_ij the weights of pair (i, j) as positive and as negative (the relation's,
times the candidate's `as_positive` and `as_negative`), ℓ_ij = score_ij / τ_i, and

  p_i = Σ_j w⁺_ij ℓ_ij / Σ_j w⁺_ij,

they differ in what is done with these. Arguments common to all:

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
    `mean_logit` mean of the negatives' logits under their own softmax;
    `divergence` KL of that softmax from uniform weights, mean_logit − log_mean: how hard it chooses.
    For an anchor without positives `positive` is 0, without negatives the others are 0.
  plan: how all pairs are evaluated, `contrastax.pairwise.Plan`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Contrast, UserError
from contrastax.losses.family import Channels, difference, find, or_nan
from contrastax.pairwise import Plan, cosine, log_sum_exp, sum_
from contrastax.pairwise.inputs import check_positive
from contrastax.propagate import maximum, minimum

_DECOUPLED = {"negative": log_sum_exp, "negative_weight": sum_}


def info_nce(
  anchors, groups, *, relation, temperature, score=cosine(), score_params=(), same_set=False,
  memory=(), stats=(), plan=Plan(),
):  # fmt: skip
  """InfoNCE on groups; with `same_set`, NT-Xent; with several positives, SupCon's L_out.

    L_i = −p_i + log Σ_j (w⁺_ij + w⁻_ij) exp ℓ_ij

  An anchor without a positive has value 0 and no gradient; with one positive, of weight 1,
  and no negative, 0 as well. See the module for the arguments.

  Oord et al. 2018, arXiv 1807.03748, eq. 4; Chen et al. 2020, arXiv 2002.05709, eq. 1;
  Khosla et al. 2020, arXiv 2004.11362, eq. 2.
  """
  found = find(
    Channels(relation), anchors, groups, temperature, {"all": log_sum_exp}, stats,
    score=score, score_params=score_params, same_set=same_set, plan=plan,
  )  # fmt: skip
  value = difference(found.some_positive, found.rows["all"], found.positive)
  return Contrast(value, found.stats, memory)


def sup_con_in(
  anchors, groups, *, relation, temperature, score=cosine(), score_params=(), same_set=False,
  memory=(), stats=(), plan=Plan(),
):  # fmt: skip
  """SupCon's L_in on groups: the mean over positives inside the logarithm.

    L_i = −log( Σ_j w⁺_ij exp ℓ_ij / Σ_j w⁺_ij ) + log Σ_j (w⁺_ij + w⁻_ij) exp ℓ_ij

  With one positive it is InfoNCE. An anchor without a positive has value 0 and no
  gradient. See the module for the arguments.

  Khosla et al. 2020, arXiv 2004.11362, eq. 3.
  """
  rows = {"all": log_sum_exp, "positive": log_sum_exp}
  found = find(
    Channels(relation), anchors, groups, temperature, rows, stats,
    score=score, score_params=score_params, same_set=same_set, plan=plan,
  )  # fmt: skip
  inside = found.rows["positive"] - jnp.log(found.positive_weight)
  value = difference(found.some_positive, found.rows["all"], inside)
  return Contrast(value, found.stats, memory)


def dcl(
  anchors, groups, *, relation, temperature, score=cosine(), score_params=(), same_set=False,
  memory=(), stats=(), plan=Plan(),
):  # fmt: skip
  """Decoupled contrastive loss on groups: InfoNCE without the positive in the denominator.

    L_i = −p_i + log Σ_j w⁻_ij exp ℓ_ij

  An anchor without a positive, or without a negative, has value 0 and no gradient. See
  the module for the arguments.

  Yeh et al. 2022, arXiv 2110.06848, eq. 5.
  """
  found = find(
    Channels(relation), anchors, groups, temperature, _DECOUPLED, stats,
    score=score, score_params=score_params, same_set=same_set, plan=plan,
  )  # fmt: skip
  defined = found.some_positive & ~(found.rows["negative_weight"] <= 0)
  value = difference(defined, found.rows["negative"], found.positive)
  return Contrast(value, found.stats, memory)


def dclw(
  anchors, groups, *, relation, temperature, sigma=0.5, score=cosine(), score_params=(),
  same_set=False, memory=(), stats=(), plan=Plan(),
):  # fmt: skip
  """DCL on groups with the von Mises-Fisher weight of the positive.

    L_i = −v_i p_i + log Σ_j w⁻_ij exp ℓ_ij,    v_i = 2 − exp(s_i/σ) / mean_k exp(s_k/σ)

  with s_i = τ_i p_i, the similarity of anchor i's positives: hard positives weigh more. The
  mean is over all anchors that have a positive, and v carries no gradient. An anchor without
  a positive, or without a negative, has value 0 and no gradient. σ > 0: `sigma`, in units of
  the similarity. See the module for the other arguments.

  Yeh et al. 2022, arXiv 2110.06848, eq. 6. A public port lets the gradient through v.
  """
  check_positive("sigma", sigma)
  found = find(
    Channels(relation), anchors, groups, temperature, _DECOUPLED, stats,
    score=score, score_params=score_params, same_set=same_set, plan=plan,
  )  # fmt: skip
  defined = found.some_positive & ~(found.rows["negative_weight"] <= 0)
  similarity = jax.lax.stop_gradient(found.positive * found.temperature) / sigma
  count = jnp.maximum(found.some_positive.sum(), 1)
  log_mean = jax.nn.logsumexp(similarity, where=found.some_positive) - jnp.log(count)
  weight = 2 - jnp.exp(jnp.where(found.some_positive, similarity - log_mean, 0))
  value = difference(defined, found.rows["negative"], weight * found.positive)
  return Contrast(value, found.stats, memory)


def hard_negative(
  anchors, groups, *, relation, temperature, beta, tau_plus, score=cosine(), score_params=(),
  same_set=False, memory=(), stats=(), plan=Plan(),
):  # fmt: skip
  """Contrastive learning with hard negatives (HCL) on groups.

    L_i = −log( e^{p_i} / (e^{p_i} + G_i) )
    G_i = max( (N_i R_i − τ⁺ N_i P_i) / (1 − τ⁺),  N_i e^{−1/τ_i} )
    R_i = Σ_j w⁻_ij e^{(1+β) ℓ_ij} / Σ_j w⁻_ij e^{β ℓ_ij},   P_i = Σ_j w⁺_ij e^{ℓ_ij} / Σ_j w⁺_ij

  with N_i = Σ_j w⁻_ij: negatives weighted by e^{βℓ}, the harder the more, and corrected for
  the positives that are expected among them. The bound is the least that negatives can
  contribute at a similarity of at least −1; where it holds, they have no gradient.

  beta: concentration β ≥ 0, in units of logits; 0 leaves the weights uniform.
  tau_plus: τ⁺ in [0, 1), the share of an anchor's class in the data; 0: no correction.
  An anchor without a positive has value 0 and no gradient; without a negative, 0 too. See
  the module for the other arguments.

  Robinson et al. 2021, arXiv 2010.04592, eq. 4 and §3; their code, like this, lets the
  gradient through the weights.
  """
  if not (isinstance(beta, int | float) and beta >= 0):
    raise UserError(f"beta is a number of at least 0, not {beta!r}")
  if not (isinstance(tau_plus, int | float) and 0 <= tau_plus < 1):
    raise UserError(f"tau_plus is the share of a class, 0 ≤ tau_plus < 1, not {tau_plus!r}")
  rows = {"hardened": log_sum_exp, "negative_weight": sum_}
  rows |= {"hardness": log_sum_exp} if beta else {}
  rows |= {"positive": log_sum_exp} if tau_plus else {}
  found = find(
    Channels(relation, beta), anchors, groups, temperature, rows, stats,
    score=score, score_params=score_params, same_set=same_set, plan=plan,
  )  # fmt: skip
  count = found.rows["negative_weight"]
  some = found.some_positive & ~(count <= 0)
  some = or_nan(some, found.positive, found.rows["hardened"])
  log_count = jnp.log(jnp.where(some, count, 1))
  # All in logarithms: e^ℓ overflows at low temperatures.
  log_r = jnp.where(some, found.rows["hardened"], 0)  # log(N R)
  if beta:
    log_r = log_r + log_count - jnp.where(some, found.rows["hardness"], 0)
  if tau_plus:
    log_p = jnp.where(some, found.rows["positive"] - jnp.log(found.positive_weight), 0)
    share = tau_plus * jnp.exp(minimum(log_p + log_count - log_r, 80))
    none = share >= 1
    log_r = jnp.where(none, -jnp.inf, log_r + jnp.log1p(-jnp.where(none, 0, share)))
    log_r = log_r - np.log1p(-tau_plus)
  log_g = maximum(log_r, log_count - 1 / found.temperature)
  value = jax.nn.softplus(log_g - jnp.where(some, found.positive, 0))
  return Contrast(jnp.where(some, value, 0), found.stats, memory)


def debiased(
  anchors, groups, *, relation, temperature, tau_plus, score=cosine(), score_params=(),
  same_set=False, memory=(), stats=(), plan=Plan(),
):  # fmt: skip
  """Debiased contrastive loss on groups: `hard_negative` with β = 0.

    G_i = max( (Σ_j w⁻_ij e^{ℓ_ij} − τ⁺ N_i P_i) / (1 − τ⁺),  N_i e^{−1/τ_i} )

  See there; with τ⁺ = 0 and one positive, of weight 1, it is InfoNCE of a cosine. Chuang et
  al. 2020, arXiv 2007.00224, eq. 7.
  """
  return hard_negative(
    anchors, groups, relation=relation, temperature=temperature, beta=0, tau_plus=tau_plus,
    score=score, score_params=score_params, same_set=same_set, memory=memory, stats=stats,
    plan=plan,
  )  # fmt: skip
