"""The softmax losses on groups of candidates; see `contrastax.criteria` for their arguments."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Criterion, Outcome, UserError
from contrastax.criteria.softmax_core import Channels, difference, or_nan, softmax_reductions
from contrastax.pairwise import log_sum_exp, sum_
from contrastax.pairwise.inputs import check_positive
from contrastax.propagate import maximum, minimum

_DECOUPLED = {"negative": log_sum_exp, "negative_weight": sum_}


@dataclasses.dataclass(frozen=True)
class info_nce(Criterion):
  """InfoNCE on groups; with `same_set`, NT-Xent; with several positives, SupCon's L_out.

    L_i = −p_i + log Σ_j (w⁺_ij + w⁻_ij) exp ℓ_ij

  An anchor without a positive has value 0 and no gradient; with one positive, of weight 1,
  and no negative, 0 as well.

  Oord et al. 2018, arXiv 1807.03748, eq. 4; Chen et al. 2020, arXiv 2002.05709, eq. 1;
  Khosla et al. 2020, arXiv 2004.11362, eq. 2.
  """

  def __call__(self, anchors, groups, compare, *, temperature, memory=(), stats=()):
    reductions = {"all": log_sum_exp}
    found = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, reductions, stats
    )
    value = difference(found.some_positive, found.reductions["all"], found.positive)
    return Outcome(value, found.weight, found.stats, memory)


@dataclasses.dataclass(frozen=True)
class sup_con_in(Criterion):
  """SupCon's L_in on groups: the mean over positives inside the logarithm.

    L_i = −log( Σ_j w⁺_ij exp ℓ_ij / Σ_j w⁺_ij ) + log Σ_j (w⁺_ij + w⁻_ij) exp ℓ_ij

  With one positive it is InfoNCE. An anchor without a positive has value 0 and no
  gradient.

  Khosla et al. 2020, arXiv 2004.11362, eq. 3.
  """

  def __call__(self, anchors, groups, compare, *, temperature, memory=(), stats=()):
    reductions = {"all": log_sum_exp, "positive": log_sum_exp}
    found = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, reductions, stats
    )
    inside = found.reductions["positive"] - jnp.log(found.positive_weight)
    value = difference(found.some_positive, found.reductions["all"], inside)
    return Outcome(value, found.weight, found.stats, memory)


@dataclasses.dataclass(frozen=True)
class dcl(Criterion):
  """Decoupled contrastive loss on groups: InfoNCE without the positive in the denominator.

    L_i = −p_i + log Σ_j w⁻_ij exp ℓ_ij

  An anchor without a positive, or without a negative, has value 0 and no gradient.

  Yeh et al. 2022, arXiv 2110.06848, eq. 5.
  """

  def __call__(self, anchors, groups, compare, *, temperature, memory=(), stats=()):
    found = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, _DECOUPLED, stats
    )
    defined = found.some_positive & ~(found.reductions["negative_weight"] <= 0)
    value = difference(defined, found.reductions["negative"], found.positive)
    return Outcome(value, found.weight, found.stats, memory)


@dataclasses.dataclass(frozen=True)
class dclw(Criterion):
  """DCL on groups with the von Mises-Fisher weight of the positive.

    L_i = −v_i p_i + log Σ_j w⁻_ij exp ℓ_ij,    v_i = 2 − exp(s_i/σ) / mean_k exp(s_k/σ)

  with s_i = τ_i p_i, the similarity of anchor i's positives: hard positives weigh more. The
  mean is over all anchors that have a positive, and v carries no gradient. An anchor without
  a positive, or without a negative, has value 0 and no gradient. σ > 0: `sigma`, in units of
  the similarity.

  Yeh et al. 2022, arXiv 2110.06848, eq. 6. A public port lets the gradient through v.
  """

  sigma: float = 0.5

  def __post_init__(self):
    check_positive("sigma", self.sigma)

  def __call__(self, anchors, groups, compare, *, temperature, memory=(), stats=()):
    found = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, _DECOUPLED, stats
    )
    defined = found.some_positive & ~(found.reductions["negative_weight"] <= 0)
    similarity = jax.lax.stop_gradient(found.positive * found.temperature) / self.sigma
    count = jnp.maximum(found.some_positive.sum(), 1)
    log_mean = jax.nn.logsumexp(similarity, where=found.some_positive) - jnp.log(count)
    weight = 2 - jnp.exp(jnp.where(found.some_positive, similarity - log_mean, 0))
    value = difference(defined, found.reductions["negative"], weight * found.positive)
    return Outcome(value, found.weight, found.stats, memory)


@dataclasses.dataclass(frozen=True)
class hard_negative(Criterion):
  """Contrastive learning with hard negatives (HCL) on groups.

    L_i = −log( e^{p_i} / (e^{p_i} + G_i) )
    G_i = max( (N_i R_i − τ⁺ N_i P_i) / (1 − τ⁺),  N_i e^{−1/τ_i} )
    R_i = Σ_j w⁻_ij e^{(1+β) ℓ_ij} / Σ_j w⁻_ij e^{β ℓ_ij},   P_i = Σ_j w⁺_ij e^{ℓ_ij} / Σ_j w⁺_ij

  with N_i = Σ_j w⁻_ij: negatives weighted by e^{βℓ}, the harder the more, and corrected for
  the positives that are expected among them. The bound is the least that negatives can
  contribute at a similarity of at least −1; where it holds, they have no gradient.

  beta: concentration β ≥ 0, in units of logits; 0 leaves the weights uniform.
  tau_plus: τ⁺ in [0, 1), the share of an anchor's class in the data; 0: no correction.
  An anchor without a positive has value 0 and no gradient; without a negative, 0 too.

  Robinson et al. 2021, arXiv 2010.04592, eq. 4 and §3; their code, like this, lets the
  gradient through the weights.
  """

  beta: float
  tau_plus: float

  def __post_init__(self):
    if not (isinstance(self.beta, int | float) and self.beta >= 0):
      raise UserError(f"beta is a number of at least 0, not {self.beta!r}")
    _check_tau_plus(self.tau_plus)

  def __call__(self, anchors, groups, compare, *, temperature, memory=(), stats=()):
    beta, tau_plus = self.beta, self.tau_plus
    reductions = {"hardened": log_sum_exp, "negative_weight": sum_}
    reductions |= {"hardness": log_sum_exp} if beta else {}
    reductions |= {"positive": log_sum_exp} if tau_plus else {}
    found = softmax_reductions(
      Channels(compare.relation, beta), anchors, groups, compare, temperature, reductions, stats
    )
    count = found.reductions["negative_weight"]
    some = found.some_positive & ~(count <= 0)
    some = or_nan(some, found.positive, found.reductions["hardened"])
    log_count = jnp.log(jnp.where(some, count, 1))
    # All in logarithms: e^ℓ overflows at low temperatures.
    log_r = jnp.where(some, found.reductions["hardened"], 0)  # log(N R)
    if beta:
      log_r = log_r + log_count - jnp.where(some, found.reductions["hardness"], 0)
    if tau_plus:
      log_p = jnp.where(some, found.reductions["positive"] - jnp.log(found.positive_weight), 0)
      share = tau_plus * jnp.exp(minimum(log_p + log_count - log_r, 80))
      none = share >= 1
      log_r = jnp.where(none, -jnp.inf, log_r + jnp.log1p(-jnp.where(none, 0, share)))
      log_r = log_r - np.log1p(-tau_plus)
    log_g = maximum(log_r, log_count - 1 / found.temperature)
    value = jax.nn.softplus(log_g - jnp.where(some, found.positive, 0))
    return Outcome(jnp.where(some, value, 0), found.weight, found.stats, memory)


@dataclasses.dataclass(frozen=True)
class debiased(Criterion):
  """Debiased contrastive loss on groups: `hard_negative` with β = 0.

    G_i = max( (Σ_j w⁻_ij e^{ℓ_ij} − τ⁺ N_i P_i) / (1 − τ⁺),  N_i e^{−1/τ_i} )

  See there; with τ⁺ = 0 and one positive, of weight 1, it is InfoNCE of a cosine. Chuang et
  al. 2020, arXiv 2007.00224, eq. 7.
  """

  tau_plus: float

  def __post_init__(self):
    _check_tau_plus(self.tau_plus)

  def __call__(self, anchors, groups, compare, *, temperature, memory=(), stats=()):
    return hard_negative(beta=0, tau_plus=self.tau_plus)(
      anchors, groups, compare, temperature=temperature, memory=memory, stats=stats
    )


def _check_tau_plus(tau_plus):
  if not (isinstance(tau_plus, int | float) and 0 <= tau_plus < 1):
    raise UserError(f"tau_plus is the share of a class, 0 ≤ tau_plus < 1, not {tau_plus!r}")
