"""The softmax losses on groups. `contrastax.criteria` defines their symbols and arguments."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from typing_extensions import override

from contrastax.core import Compare, Criterion, Group, Outcome, State, UserError
from contrastax.criteria.softmax_core import (
  Channels,
  defined_or_nan,
  difference,
  softmax_reductions,
)
from contrastax.pairwise import log_sum_exp, sum_
from contrastax.pairwise.inputs import check_positive
from contrastax.propagate import maximum, minimum

_DECOUPLED = {"negative": log_sum_exp, "negative_weight": sum_}


@dataclasses.dataclass(frozen=True)
class info_nce(Criterion):
  """InfoNCE: softmax cross-entropy of the positives among all candidates.

      L_i = −p_i + log Σ_j (w⁺_ij + w⁻_ij) exp ℓ_ij

  With `same_set` it is NT-Xent. With several positives it is SupCon's L_out. An anchor without a
  positive has the value 0 and no gradient. With one positive of weight 1 and no negative, the value
  is also 0.

  Example:
    >>> import jax
    >>> from contrastax import criteria, relations
    >>> from contrastax.core import Group
    >>> one, index = jax.numpy.ones(8), jax.numpy.arange(8)
    >>> side = {"index": index, "as_positive": one, "as_negative": one}
    >>> anchors, keys = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> outcome = criteria.evaluate(
    ...   criteria.info_nce(), Group(anchors, {**side, "view": 0 * index}),
    ...   (Group(keys, {**side, "view": 0 * index + 1}),), relation=relations.same_example(),
    ...   temperature=0.1, stats=("positive",),
    ... )
    >>> outcome.value.shape, outcome.stats["positive"].shape
    ((8,), (8,))

  References:
    Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, arXiv
    1807.03748, eq. 4.
    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020,
    arXiv 2002.05709, eq. 1.
    Khosla et al., "Supervised Contrastive Learning", 2020, arXiv 2004.11362, eq. 2.
  """

  @override
  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: ArrayLike,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    reductions = {"all": log_sum_exp}
    reduced = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, reductions, stats
    )
    value = difference(reduced.has_positive, reduced.reductions["all"], reduced.positive)
    return Outcome(value, reduced.weight, reduced.stats, memory)


@dataclasses.dataclass(frozen=True)
class sup_con_in(Criterion):
  """SupCon's L_in: the mean over positives is inside the logarithm.

      L_i = −log( Σ_j w⁺_ij exp ℓ_ij / Σ_j w⁺_ij ) + log Σ_j (w⁺_ij + w⁻_ij) exp ℓ_ij

  With one positive it is InfoNCE. An anchor without a positive has the value 0 and no gradient.

  Example:
    >>> import jax
    >>> from contrastax import criteria, relations
    >>> from contrastax.core import Group
    >>> index, view, one = jax.numpy.arange(4), jax.numpy.zeros(4, int), jax.numpy.ones(4)
    >>> side = {"index": index, "view": view, "as_positive": one, "as_negative": one}
    >>> label = jax.numpy.array([0, 0, 1, 1])
    >>> group = Group(jax.random.normal(jax.random.key(0), (4, 3)), {**side, "label": label})
    >>> criteria.evaluate(
    ...   criteria.sup_con_in(), group, (group,), same_set=True,
    ...   relation=relations.same_label(), temperature=0.5,
    ... ).value.shape
    (4,)

  References:
    Khosla et al., "Supervised Contrastive Learning", 2020, arXiv 2004.11362, eq. 3.
  """

  @override
  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: ArrayLike,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    reductions = {"all": log_sum_exp, "positive": log_sum_exp}
    reduced = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, reductions, stats
    )
    log_mean = reduced.reductions["positive"] - jnp.log(reduced.positive_weight)
    value = difference(reduced.has_positive, reduced.reductions["all"], log_mean)
    return Outcome(value, reduced.weight, reduced.stats, memory)


@dataclasses.dataclass(frozen=True)
class dcl(Criterion):
  """Decoupled contrastive loss: InfoNCE without the positive in the denominator.

      L_i = −p_i + log Σ_j w⁻_ij exp ℓ_ij

  An anchor without a positive, or without a negative, has the value 0 and no gradient.

  Example:
    >>> import jax
    >>> from contrastax import criteria, relations
    >>> from contrastax.core import Group
    >>> index, view = jax.numpy.array([[0, 0, 1, 1], [0, 1, 0, 1]])
    >>> one = jax.numpy.ones(4)
    >>> side = {"index": index, "view": view, "as_positive": one, "as_negative": one}
    >>> group = Group(jax.random.normal(jax.random.key(0), (4, 3)), side)
    >>> criteria.evaluate(
    ...   criteria.dcl(), group, (group,), same_set=True,
    ...   relation=relations.same_example(), temperature=0.5,
    ... ).value.shape
    (4,)

  References:
    Yeh et al., "Decoupled Contrastive Learning", 2022, arXiv 2110.06848, eq. 5.
  """

  @override
  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: ArrayLike,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    reduced = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, _DECOUPLED, stats
    )
    defined = reduced.has_positive & ~(reduced.reductions["negative_weight"] <= 0)
    value = difference(defined, reduced.reductions["negative"], reduced.positive)
    return Outcome(value, reduced.weight, reduced.stats, memory)


@dataclasses.dataclass(frozen=True)
class dclw(Criterion):
  """DCL with a von Mises-Fisher weight of the positive, which is larger for hard positives.

      L_i = −v_i p_i + log Σ_j w⁻_ij exp ℓ_ij,    v_i = 2 − exp(s_i/σ) / mean_k exp(s_k/σ)

  s_i = τ_i p_i is the mean similarity of anchor i and its positives. The mean is over all anchors
  that have a positive. No gradient flows through v. An anchor without a positive, or without a
  negative, has the value 0 and no gradient.

  Args:
    sigma: width σ > 0 of the weight, in units of the similarity.

  Raises:
    UserError: σ is not above 0.

  Example:
    >>> import jax
    >>> from contrastax import criteria, relations
    >>> from contrastax.core import Group
    >>> index, view = jax.numpy.array([[0, 0, 1, 1], [0, 1, 0, 1]])
    >>> one = jax.numpy.ones(4)
    >>> side = {"index": index, "view": view, "as_positive": one, "as_negative": one}
    >>> group = Group(jax.random.normal(jax.random.key(0), (4, 3)), side)
    >>> criteria.evaluate(
    ...   criteria.dclw(sigma=0.5), group, (group,), same_set=True,
    ...   relation=relations.same_example(), temperature=0.5,
    ... ).value.shape
    (4,)

  References:
    Yeh et al., "Decoupled Contrastive Learning", 2022, arXiv 2110.06848, eq. 6.

  In other libraries:
    One public port does not stop the gradient through v.
  """

  sigma: float = 0.5

  def __post_init__(self):
    check_positive("sigma", self.sigma)

  @override
  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: ArrayLike,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    reduced = softmax_reductions(
      Channels(compare.relation), anchors, groups, compare, temperature, _DECOUPLED, stats
    )
    defined = reduced.has_positive & ~(reduced.reductions["negative_weight"] <= 0)
    similarity = jax.lax.stop_gradient(reduced.positive * reduced.temperature) / self.sigma
    count = jnp.maximum(reduced.has_positive.sum(), 1)
    log_mean = jax.nn.logsumexp(similarity, where=reduced.has_positive) - jnp.log(count)
    weight = 2 - jnp.exp(jnp.where(reduced.has_positive, similarity - log_mean, 0))
    value = difference(defined, reduced.reductions["negative"], weight * reduced.positive)
    return Outcome(value, reduced.weight, reduced.stats, memory)


@dataclasses.dataclass(frozen=True)
class hard_negative(Criterion):
  """HCL: InfoNCE in which hard negatives have larger weights.

      L_i = −log( e^{p_i} / (e^{p_i} + G_i) )
      G_i = max( (N_i R_i − τ⁺ N_i P_i) / (1 − τ⁺),  N_i e^{−1/τ_i} )
      R_i = Σ_j w⁻_ij e^{(1+β) ℓ_ij} / Σ_j w⁻_ij e^{β ℓ_ij},   P_i = Σ_j w⁺_ij e^{ℓ_ij} / Σ_j w⁺_ij

  N_i = Σ_j w⁻_ij is the total weight of the negatives. R_i weights the negatives by e^{βℓ}. G_i is
  corrected for the positives that are expected among the negatives. The second argument of the
  maximum is the least possible contribution of negatives whose similarity is at least −1. If it is
  the larger argument, the negatives have no gradient. An anchor without a positive has the value 0
  and no gradient. An anchor without a negative also has the value 0.

  Args:
    beta: concentration β ≥ 0 of the weights, in units of logits. With β = 0 the weights are
      uniform.
    tau_plus: share τ⁺ of the anchor's class in the data, in [0, 1). With τ⁺ = 0 there is no
      correction.

  Raises:
    UserError: β or τ⁺ is out of range.

  Example:
    >>> import jax
    >>> from contrastax import criteria, relations
    >>> from contrastax.core import Group
    >>> index, view = jax.numpy.array([[0, 0, 1, 1], [0, 1, 0, 1]])
    >>> one = jax.numpy.ones(4)
    >>> side = {"index": index, "view": view, "as_positive": one, "as_negative": one}
    >>> group = Group(jax.random.normal(jax.random.key(0), (4, 3)), side)
    >>> criteria.evaluate(
    ...   criteria.hard_negative(beta=1.0, tau_plus=0.1), group, (group,), same_set=True,
    ...   relation=relations.same_example(), temperature=0.5,
    ... ).value.shape
    (4,)

  References:
    Robinson et al., "Contrastive Learning with Hard Negative Samples", 2021, arXiv 2010.04592,
    eq. 4 and §3.

  In other libraries:
    Like the authors' code, this criterion does not stop the gradient through the weights.
  """

  beta: float
  tau_plus: float

  def __post_init__(self):
    if not (isinstance(self.beta, int | float) and self.beta >= 0):
      raise UserError(f"beta must be a number of at least 0, not {self.beta!r}")
    _check_tau_plus(self.tau_plus)

  @override
  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: ArrayLike,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    beta, tau_plus = self.beta, self.tau_plus
    reductions = {"hardened": log_sum_exp, "negative_weight": sum_}
    reductions |= {"hardness": log_sum_exp} if beta else {}
    reductions |= {"positive": log_sum_exp} if tau_plus else {}
    reduced = softmax_reductions(
      Channels(compare.relation, beta), anchors, groups, compare, temperature, reductions, stats
    )
    count = reduced.reductions["negative_weight"]
    defined = reduced.has_positive & ~(count <= 0)
    defined = defined_or_nan(defined, reduced.positive, reduced.reductions["hardened"])
    log_count = jnp.log(jnp.where(defined, count, 1))
    # All quantities are logarithms, because e^ℓ overflows at low temperatures.
    log_nr = jnp.where(defined, reduced.reductions["hardened"], 0)
    if beta:
      log_nr = log_nr + log_count - jnp.where(defined, reduced.reductions["hardness"], 0)
    if tau_plus:
      log_p = reduced.reductions["positive"] - jnp.log(reduced.positive_weight)
      log_p = jnp.where(defined, log_p, 0)
      # τ⁺ N P / (N R). The limit 80 keeps the exponential finite.
      share = tau_plus * jnp.exp(minimum(log_p + log_count - log_nr, 80))
      none = share >= 1
      log_nr = jnp.where(none, -jnp.inf, log_nr + jnp.log1p(-jnp.where(none, 0, share)))
      log_nr = log_nr - np.log1p(-tau_plus)
    log_g = maximum(log_nr, log_count - 1 / reduced.temperature)
    value = jax.nn.softplus(log_g - jnp.where(defined, reduced.positive, 0))
    return Outcome(jnp.where(defined, value, 0), reduced.weight, reduced.stats, memory)


@dataclasses.dataclass(frozen=True)
class debiased(Criterion):
  """Debiased contrastive loss: `hard_negative` with β = 0.

      L_i = −log( e^{p_i} / (e^{p_i} + G_i) )
      G_i = max( (Σ_j w⁻_ij e^{ℓ_ij} − τ⁺ N_i P_i) / (1 − τ⁺),  N_i e^{−1/τ_i} )

  N_i and P_i are defined as in `hard_negative`. With τ⁺ = 0 and one positive of weight 1, it is
  InfoNCE for similarities of at least −1, such as the cosine.

  Args:
    tau_plus: share τ⁺ of the anchor's class in the data, in [0, 1).

  Raises:
    UserError: τ⁺ is out of range.

  Example:
    >>> import jax
    >>> from contrastax import criteria, relations
    >>> from contrastax.core import Group
    >>> index, view = jax.numpy.array([[0, 0, 1, 1], [0, 1, 0, 1]])
    >>> one = jax.numpy.ones(4)
    >>> side = {"index": index, "view": view, "as_positive": one, "as_negative": one}
    >>> group = Group(jax.random.normal(jax.random.key(0), (4, 3)), side)
    >>> criteria.evaluate(
    ...   criteria.debiased(tau_plus=0.1), group, (group,), same_set=True,
    ...   relation=relations.same_example(), temperature=0.5,
    ... ).value.shape
    (4,)

  References:
    Chuang et al., "Debiased Contrastive Learning", 2020, arXiv 2007.00224, eq. 7.
  """

  tau_plus: float

  def __post_init__(self):
    _check_tau_plus(self.tau_plus)

  @override
  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: ArrayLike,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    criterion = hard_negative(beta=0, tau_plus=self.tau_plus)
    return criterion(anchors, groups, compare, temperature=temperature, memory=memory, stats=stats)


def _check_tau_plus(tau_plus: float) -> None:
  if not (isinstance(tau_plus, int | float) and 0 <= tau_plus < 1):
    raise UserError(f"tau_plus, the share of a class, must be in [0, 1), not {tau_plus!r}")
