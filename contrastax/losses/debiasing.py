"""Losses on arrays that correct the negatives for those of the anchor's own class.

The losses normalize the vectors, and s is the cosine similarity. Each returns one value per anchor,
so the loss of the paper is the mean of the result. Temperatures τ > 0 are scalars or have one value
per anchor. They may be traced and differentiated.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from contrastax import criteria
from contrastax.core import Array
from contrastax.losses.arrays import two_views
from contrastax.pairwise import Plan
from contrastax.relations import same_example


def debiased(
  z1: ArrayLike,
  z2: ArrayLike,
  *,
  temperature: ArrayLike,
  tau_plus: float,
  plan: Plan = Plan(),
) -> Array:
  """Debiased contrastive loss: corrects NT-Xent for negatives of the anchor's own class.

      L_i = −log( e^{p_i} / (e^{p_i} + G_i) ),  p_i = s(z_i, z_i⁺)/τ,  ℓ_ij = s(z_i, z_j)/τ
      G_i = max( (Σ_j e^{ℓ_ij} − τ⁺ N e^{p_i}) / (1 − τ⁺),  N e^{−1/τ} )

  j runs over the N = 2n − 2 vectors of the other examples. The loss equals `hard_negative` with
  β = 0, and `nt_xent` with τ⁺ = 0. If the second argument of the maximum is the smaller one, the
  gradient of the negatives is larger than in `nt_xent`, because the positive has a smaller weight
  in the denominator.

  Args:
    z1: vectors of the first view, [n, d].
    z2: vectors of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    temperature: temperature τ > 0, scalar or [2n].
    tau_plus: share τ⁺ of the class of an example in the data, in [0, 1).
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [2n], with the vectors of z1 first. With n = 1 there are no negatives
    and the loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.debiased(z1, z2, temperature=0.5, tau_plus=0.1).shape
    (16,)

  References:
    Chuang et al., "Debiased Contrastive Learning", 2020, arXiv 2007.00224, eq. 7, with one
    positive.
  """
  views = two_views(z1, z2)
  return criteria.evaluate(
    criteria.debiased(tau_plus),
    views,
    (views,),
    relation=same_example(),
    temperature=temperature,
    same_set=True,
    plan=plan,
  ).value


def hard_negative(
  z1: ArrayLike,
  z2: ArrayLike,
  *,
  temperature: ArrayLike,
  beta: float,
  tau_plus: float,
  plan: Plan = Plan(),
) -> Array:
  """HCL: InfoNCE in which hard negatives have larger weights.

      L_i = −log( e^{p_i} / (e^{p_i} + G_i) ),  p_i = s(z_i, z_i⁺)/τ,  ℓ_ij = s(z_i, z_j)/τ
      G_i = max( (N Σ_j e^{(1+β)ℓ_ij} / Σ_j e^{βℓ_ij} − τ⁺ N e^{p_i}) / (1 − τ⁺),  N e^{−1/τ} )

  j runs over the N = 2n − 2 vectors of the other examples. The gradient also flows through the
  weights e^{βℓ}. As a consequence, easy negatives are attracted (docs/family.md).

  Args:
    z1: vectors of the first view, [n, d].
    z2: vectors of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    temperature: temperature τ > 0, scalar or [2n].
    beta: concentration β ≥ 0 of the weights, in units of logits. The weight of a hard negative
      increases with β.
    tau_plus: share τ⁺ of the class of an example in the data, in [0, 1).
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [2n], with the vectors of z1 first. With n = 1 there are no negatives
    and the loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.hard_negative(z1, z2, temperature=0.5, beta=1.0, tau_plus=0.1).shape
    (16,)

  References:
    Robinson et al., "Contrastive Learning with Hard Negative Samples", 2021, arXiv 2010.04592,
    eq. 4.

  In other libraries:
    The authors' code has the same gradient through the weights, but does not normalize the vectors.
    One release of PyGCL computes the weights from β s².
  """
  views = two_views(z1, z2)
  return criteria.evaluate(
    criteria.hard_negative(beta, tau_plus),
    views,
    (views,),
    relation=same_example(),
    temperature=temperature,
    same_set=True,
    plan=plan,
  ).value
