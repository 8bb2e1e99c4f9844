"""InfoNCE with other weights: of anchors, of the hardest negatives only, of what may be noise.

All normalize: s is the cosine. `plan` says how all pairs are evaluated
(`contrastax.pairwise.Plan`).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from contrastax import criteria, negatives
from contrastax.core import Group, UserError
from contrastax.criteria.softmax_core import attach, or_nan
from contrastax.losses.arrays import of_index, precision, two_views, vectors
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, sum_, unit
from contrastax.pairwise.inputs import check_numbers, check_positive
from contrastax.propagate import maximum, minimum
from contrastax.relations import same_example


def dual_temperature(a, b, *, temperature, inter_temperature, plan=Plan()):
  """SimCo's loss: one temperature weighs an anchor's negatives, the other weighs anchors.

    L_i = (1 − p_i(τ_b)) / (1 − p_i(τ_a)) · (−log p_i(τ_a)), the quotient without gradient
    p_i(τ) = exp(s(a_i, b_i)/τ) / Σ_j exp(s(a_i, b_j)/τ)

  so that its gradient is that of decoupled InfoNCE at τ_a, times 1 − p_i(τ_b).

  Args:
    a, b: [n, d]; row i of both is the same example, the other rows of b are its negatives.
    temperature: τ_a, within an anchor; scalar or [n].
    inter_temperature: τ_b, among anchors; the paper takes 10 τ_a.

  Returns:
    [n]. With n = 1 there is no negative: 0.

  Zhang et al. 2022, arXiv 2203.17248, eq. 8; the paper adds both directions. The authors' code
  gives NaN where p_i(τ_a) rounds to 1; here the quotient's limit stands. A third party's
  takes the logarithm at temperature 1.
  """
  a, b = vectors(a=a, b=b)
  index = of_index(a)
  anchors = attach(Group(a, {"index": index}), inter_temperature)
  anchors = attach(anchors.attach(inter=anchors.side["temperature"]), temperature)
  r = reduce(
    _DualTemperature(), anchors, (Group(b, {"index": index}),), score=cosine(), plan=plan,
    reductions={"intra": log_sum_exp, "inter": log_sum_exp},
  )  # fmt: skip
  positive = (unit(a) * unit(b)).sum(1)
  some = or_nan(r["intra"] != -jnp.inf, positive)
  # log of the negatives' share to the positive's: 1 − p = σ(x) and −log p = softplus(x).
  intra = jnp.where(some, r["intra"], 0) - positive / anchors.side["temperature"]
  inter = jnp.where(some, r["inter"], 0) - positive / anchors.side["inter"]
  weight = jax.lax.stop_gradient(jax.nn.sigmoid(inter))
  # softplus(x)/σ(x), which is 1 far below 0, where both are no longer numbers.
  u = jnp.exp(minimum(intra, 0))
  below = jnp.where(u > 1e-6, jnp.log1p(u) / maximum(u, 1e-6) * (1 + u), 1 + u / 2)
  above = jax.nn.softplus(intra) * (1 + jnp.exp(-maximum(intra, 0)))
  quotient = jax.lax.stop_gradient(jnp.where(intra < 0, below, above))
  # The derivative of softplus is σ, which the quotient cancels: intra's own gradient is left.
  decoupled = intra - jax.lax.stop_gradient(intra)
  return jnp.where(some, weight * (quotient + decoupled), 0)


@dataclasses.dataclass(frozen=True)
class _DualTemperature:
  def __call__(self, similarity, a, c, shared):
    itself = a["index"] == c["index"]
    return {
      "intra": jnp.where(itself, -jnp.inf, similarity / a["temperature"]),
      "inter": jnp.where(itself, -jnp.inf, similarity / a["inter"]),
    }


def hard_quantile(z1, z2, *, temperature, alpha, plan=Plan()):
  """Hard contrastive loss: NT-Xent over an anchor's hardest negatives only.

    L_i = −s(z_i, z_i⁺)/τ + log( exp(s(z_i, z_i⁺)/τ) + Σ_{j ∈ H(i)} exp(s(z_i, z_j)/τ) )

  H(i): the ⌈αN⌉ most similar of the N = 2n − 2 vectors of the other examples.

  Args:
    z1, z2: [n, d], the two views; row i of both is the same example.
    temperature: τ, scalar or [2n].
    alpha: α in (0, 1], the share of negatives that is kept; 1: `nt_xent`.

  Returns:
    [2n], anchors z1 first. With n = 1 there is no negative: 0.
    The hardest are gathered, [2n, ⌈αN⌉, d]: memory is not linear in n.

  Wang & Liu 2021, arXiv 2012.09740, §4.4, with α as the quantile of a memory bank. The
  selection is `contrastax.negatives.hardest`.
  """
  check_numbers(alpha=alpha)
  if not 0 < alpha <= 1:
    raise UserError(f"alpha is the share of negatives that is kept, 0 < alpha ≤ 1, not {alpha}")
  views = two_views(z1, z2)
  relation, n = same_example(), 2 * len(z1)
  partner = jnp.roll(jnp.arange(n), n // 2)  # z1's other view is in z2
  positives = Group(
    views.vectors[partner][:, None],
    {name: side[partner][:, None] for name, side in views.side.items()},
  ).attach(as_negative=jnp.zeros((n, 1), precision(z1)))
  found = (positives,)
  if len(z1) > 1:
    k = math.ceil(alpha * (n - 2) - 1e-9)  # 0.1 · 30 is a little more than 3
    hard = negatives.hardest(views, (views,), k, relation=relation, same_set=True, plan=plan)
    found += (hard.attach(as_positive=jnp.zeros(hard.vectors.shape[:2], precision(z1))),)
  return criteria.evaluate(
    criteria.info_nce(), views, found, relation=relation, temperature=temperature
  ).value


def rince(z1, z2, *, temperature, q=0.5, weight=0.025, plan=Plan()):
  """RINCE: InfoNCE that is robust to false positives, by a power instead of a logarithm.

    L_i = −e^{q (s_i⁺ − 1)/τ}/q + (λ Σ_{j ≠ i} e^{(s_ij − 1)/τ})^q / q

  s_i⁺ is the similarity of z_i's other view, which is in the sum too. This is the paper's loss
  times e^{−q/τ}: a factor that is constant at a fixed τ, without which it overflows.

  Args:
    z1, z2: [n, d], the two views; row i of both is the same example.
    temperature: τ, scalar or [2n].
    q: in (0, 1]. Towards 0 the loss's gradient is InfoNCE's, at 1 it is the symmetric, most
      robust one.
    weight: λ > 0.

  Returns:
    [2n], anchors z1 first.

  Chuang et al. 2022, arXiv 2201.04309, eq. 4. The MoCo v3 form of the authors' code has one
  direction, and a factor of 2τ.
  """
  check_numbers(q=q)
  check_positive("weight", weight)
  if not 0 < q <= 1:
    raise UserError(f"q is in (0, 1], not {q}")
  views = attach(two_views(z1, z2), temperature)
  r = reduce(
    _Powers(), views, (views,), score=cosine(), reductions={"all": log_sum_exp, "positive": sum_},
    same_set=True, plan=plan,
  )  # fmt: skip
  ceiling = 1 / views.side["temperature"]
  positive, everything = r["positive"] - ceiling, r["all"] - ceiling
  return (jnp.exp(q * (jnp.log(weight) + everything)) - jnp.exp(q * positive)) / q


@dataclasses.dataclass(frozen=True)
class _Powers:
  def __call__(self, similarity, a, c, shared):
    positive, negative = same_example()(a, c, similarity)
    logit = similarity / a["temperature"]
    return {
      "all": jnp.where(positive | negative, logit, -jnp.inf),
      "positive": jnp.where(positive, logit, 0),
    }
