"""Variants of InfoNCE that weight anchors, negatives or positives differently.

The losses normalize the vectors, and s is the cosine similarity.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax import criteria, negatives
from contrastax.core import Array, Group, UserError
from contrastax.criteria.softmax_core import attach_temperature, defined_or_nan
from contrastax.losses.arrays import check_vectors, compute_dtype, row_index, two_views
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, sum_, unit
from contrastax.pairwise.inputs import check_numbers, check_positive
from contrastax.propagate import maximum, minimum
from contrastax.relations import same_example


def dual_temperature(
  a: ArrayLike,
  b: ArrayLike,
  *,
  temperature: ArrayLike,
  inter_temperature: ArrayLike,
  plan: Plan = Plan(),
) -> Array:
  """SimCo loss: one temperature weights the negatives, and a second one weights the anchors.

      L_i = (1 − p_i(τ_b)) / (1 − p_i(τ_a)) · (−log p_i(τ_a))
      p_i(τ) = exp(s(a_i, b_i)/τ) / Σ_j exp(s(a_i, b_j)/τ)

  No gradient flows through the quotient. The gradient is therefore that of decoupled InfoNCE
  (`dcl`) at τ_a, times 1 − p_i(τ_b).

  Args:
    a: anchors, [n, d].
    b: candidates, [n, d]. Row i of b is the positive of row i of a; the other rows are its
      negatives.
    temperature: temperature τ_a > 0 within an anchor, scalar or [n].
    inter_temperature: temperature τ_b > 0 among anchors, scalar or [n]. The paper uses 10 τ_a.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each anchor, [n]. With n = 1 there are no negatives and the loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> a, b = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.dual_temperature(a, b, temperature=0.1, inter_temperature=1.0).shape
    (8,)

  References:
    Zhang et al., "Dual Temperature Helps Contrastive Learning Without Many Negative Samples", 2022,
    arXiv 2203.17248, eq. 8.

  In other libraries:
    The paper adds the losses of both directions. The authors' code gives NaN if p_i(τ_a) rounds to
    1; this function then uses the limit of the quotient. One third-party implementation computes
    −log p_i at temperature 1.
  """
  a, b = check_vectors(a=a, b=b)
  index = row_index(a)
  anchors = attach_temperature(Group(a, {"index": index}), inter_temperature)
  anchors = attach_temperature(
    anchors.attach(inter_temperature=anchors.side["temperature"]), temperature
  )
  reduced = reduce(
    _DualTemperature(),
    anchors,
    (Group(b, {"index": index}),),
    score=cosine(),
    reductions={"intra": log_sum_exp, "inter": log_sum_exp},
    plan=plan,
  )
  positive = (unit(a) * unit(b)).sum(1)
  defined = defined_or_nan(reduced["intra"] != -jnp.inf, positive)
  # With x = log Σ_negatives exp(s/τ) − s⁺/τ: 1 − p = σ(x) and −log p = softplus(x).
  intra = jnp.where(defined, reduced["intra"], 0) - positive / anchors.side["temperature"]
  inter = jnp.where(defined, reduced["inter"], 0) - positive / anchors.side["inter_temperature"]
  weight = jax.lax.stop_gradient(jax.nn.sigmoid(inter))
  # As x decreases, softplus(x)/σ(x) tends to 1, but both functions underflow. So the quotient is
  # computed from e^x for x < 0, and by a series if e^x is tiny.
  u = jnp.exp(minimum(intra, 0))
  below = jnp.where(u > 1e-6, jnp.log1p(u) / maximum(u, 1e-6) * (1 + u), 1 + u / 2)
  above = jax.nn.softplus(intra) * (1 + jnp.exp(-maximum(intra, 0)))
  quotient = jax.lax.stop_gradient(jnp.where(intra < 0, below, above))
  # The derivative of softplus(x) is σ(x), which cancels the denominator. Only the gradient of x
  # remains. It is added as the gradient of a term whose value is 0.
  zero = intra - jax.lax.stop_gradient(intra)
  return jnp.where(defined, weight * (quotient + zero), 0)


@dataclasses.dataclass(frozen=True)
class _DualTemperature:
  def __call__(self, similarity, a, c, shared):
    itself = a["index"] == c["index"]
    return {
      "intra": jnp.where(itself, -jnp.inf, similarity / a["temperature"]),
      "inter": jnp.where(itself, -jnp.inf, similarity / a["inter_temperature"]),
    }


def hard_quantile(
  z1: ArrayLike, z2: ArrayLike, *, temperature: ArrayLike, alpha: float, plan: Plan = Plan()
) -> Array:
  """Hard contrastive loss: NT-Xent with the hardest negatives of each anchor only.

      L_i = −s(z_i, z_i⁺)/τ + log( exp(s(z_i, z_i⁺)/τ) + Σ_{j ∈ H(i)} exp(s(z_i, z_j)/τ) )

  H(i) contains the ⌈αN⌉ vectors that are most similar to z_i among the N = 2n − 2 vectors of the
  other examples.

  Args:
    z1: vectors of the first view, [n, d].
    z2: vectors of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    temperature: temperature τ > 0, scalar or [2n].
    alpha: share α of the negatives that are used, in (0, 1]. With α = 1 the loss equals `nt_xent`.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [2n], with the vectors of z1 first. With n = 1 there are no negatives
    and the loss is 0. The hardest negatives take memory [2n, ⌈αN⌉, d], which is not linear in n.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.hard_quantile(z1, z2, temperature=0.1, alpha=0.25).shape
    (16,)

  References:
    Wang & Liu, "Understanding the Behaviour of Contrastive Loss", 2021, arXiv 2012.09740, §4.4,
    where α selects a quantile of a memory bank.
  """
  check_numbers(alpha=alpha)
  if not 0 < alpha <= 1:
    raise UserError(f"alpha, the share of negatives, must be in (0, 1], not {alpha}")
  views = two_views(z1, z2)
  n_examples, n = len(views.vectors) // 2, len(views.vectors)
  dtype = compute_dtype(z1)
  partner = jnp.roll(jnp.arange(n), n_examples)
  positives = Group(
    views.vectors[partner][:, None],
    {name: side[partner][:, None] for name, side in views.side.items()},
  ).attach(as_negative=jnp.zeros((n, 1), dtype))
  groups = (positives,)
  if n_examples > 1:
    k = math.ceil(alpha * (n - 2) - 1e-9)  # 0.1 · 30 is slightly above 3 in floating point
    hard = negatives.hardest(views, (views,), k, relation=same_example(), same_set=True, plan=plan)
    groups += (hard.attach(as_positive=jnp.zeros(hard.vectors.shape[:2], dtype)),)
  return criteria.evaluate(
    criteria.info_nce(), views, groups, relation=same_example(), temperature=temperature
  ).value


def rince(
  z1: ArrayLike,
  z2: ArrayLike,
  *,
  temperature: ArrayLike,
  q: float = 0.5,
  weight: ArrayLike = 0.025,
  plan: Plan = Plan(),
) -> Array:
  """RINCE: a form of InfoNCE with powers instead of logarithms that is robust to false positives.

      L_i = −e^{q (s_i⁺ − 1)/τ}/q + (λ Σ_{j ≠ i} e^{(s_ij − 1)/τ})^q / q

  s_i⁺ is the similarity of z_i to its other view. The sum includes the other view. The loss of the
  paper is e^{q/τ} times this loss. The factor is constant at a fixed τ and could overflow.

  Args:
    z1: vectors of the first view, [n, d].
    z2: vectors of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    temperature: temperature τ > 0, scalar or [2n].
    q: exponent in (0, 1]. As q tends to 0 the gradient tends to that of InfoNCE. At q = 1 the loss
      is symmetric and most robust.
    weight: weight λ > 0 of the denominator.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [2n], with the vectors of z1 first.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.rince(z1, z2, temperature=0.5).shape
    (16,)

  References:
    Chuang et al., "Robust Contrastive Learning against Noisy Views", 2022, arXiv 2201.04309, eq. 4.

  In other libraries:
    The MoCo v3 variant in the authors' code has one direction and a factor of 2τ.
  """
  check_numbers(q=q)
  check_positive("weight", weight)
  if not 0 < q <= 1:
    raise UserError(f"q must be in (0, 1], not {q}")
  views = attach_temperature(two_views(z1, z2), temperature)
  reduced = reduce(
    _Rince(),
    views,
    (views,),
    score=cosine(),
    reductions={"all": log_sum_exp, "positive": sum_},
    same_set=True,
    plan=plan,
  )
  max_logit = 1 / views.side["temperature"]
  positive, log_sum = reduced["positive"] - max_logit, reduced["all"] - max_logit
  return (jnp.exp(q * (jnp.log(weight) + log_sum)) - jnp.exp(q * positive)) / q


@dataclasses.dataclass(frozen=True)
class _Rince:
  def __call__(self, similarity, a, c, shared):
    positive, negative = same_example()(a, c, similarity)
    logit = similarity / a["temperature"]
    return {
      "all": jnp.where(positive | negative, logit, -jnp.inf),
      "positive": jnp.where(positive, logit, 0),
    }
