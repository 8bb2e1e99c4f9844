"""The softmax losses on arrays, under their papers' names.

Each builds the groups that its paper means and calls the criterion (NT-Xent: the
engine itself). All normalize their inputs: the similarity s is the cosine. All return one
value per anchor, so the paper's loss is the mean of what they return. Temperatures τ > 0 are
scalars, or one per anchor, and may be traced and differentiated. `plan` says how all pairs
are evaluated (`contrastax.pairwise.Plan`), and changes nothing but time and memory.
"""

import dataclasses

import jax.numpy as jnp

from contrastax import criteria
from contrastax.core import Group
from contrastax.criteria.softmax_core import attach
from contrastax.losses.arrays import (
  candidates,
  labeled,
  of_index,
  of_one_type,
  two_views,
  vectors,
)
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, sum_
from contrastax.relations import same_example, same_label


def info_nce(anchors, positives, negatives=None, *, temperature, plan=Plan()):
  """InfoNCE, in one direction.

    L_i = −s(a_i, p_i)/τ + log( exp(s(a_i, p_i)/τ) + Σ_j exp(s(a_i, n_j)/τ) )

  Args:
    anchors: [n, d].
    positives: [n, d], positives[i] belongs to anchors[i].
    negatives: None: the other anchors' positives (in-batch); [m, d]: the same for every
      anchor, such as a MoCo queue, and then no other anchor's positive is a negative;
      [n, k, d]: a set per anchor.
    temperature: τ, scalar or [n].

  Returns:
    [n]. In-batch with n = 1 there is no negative: 0.

  Oord et al. 2018, arXiv 1807.03748, eq. 4. With a queue: He et al. 2020, arXiv
  1911.05722, eq. 1. MoCo v3's code multiplies by 2τ; this does not.
  """
  anchors, positives = vectors(anchors=anchors, positives=positives)
  index = of_index(anchors)
  if negatives is None:
    groups = (candidates(positives, index, 1),)
  else:
    (negatives,) = of_one_type(negatives=negatives)
    none = jnp.full(negatives.shape[:-1], -1)
    keys = candidates(positives[:, None], index[:, None], 1)
    groups = (keys, candidates(negatives, none, 1, as_positive=0))
  queries = candidates(anchors, index, 0)
  return criteria.evaluate(
    criteria.info_nce(),
    queries,
    groups,
    relation=same_example(),
    temperature=temperature,
    plan=plan,
  ).value


def nt_xent(z1, z2, *, temperature, plan=Plan()):
  """NT-Xent, SimCLR's loss: every view of every example is an anchor.

    L_i = −s(z_i, z_i⁺)/τ + log Σ_{j ≠ i} exp(s(z_i, z_j)/τ)

  over the 2n vectors z = [z1; z2], z_i⁺ the other view of z_i's example.

  Args:
    z1, z2: [n, d], the two views; row i of both is the same example.
    temperature: τ, scalar or [2n].

  Returns:
    [2n], anchors z1 first. With n = 1 there is no negative: 0.

  Chen et al. 2020, arXiv 2002.05709, eq. 1. Google's code returns the sum of the two
  views' means: twice the mean of this.
  """
  z1, z2 = vectors(z1=z1, z2=z2)
  index, view = jnp.tile(of_index(z1), 2), jnp.repeat(jnp.arange(2), z1.shape[0])
  views = attach(Group(jnp.concatenate([z1, z2]), {"index": index, "view": view}), temperature)
  # Leaner than `criteria.info_nce` with `same_set`, which it equals: there are no weights here.
  r = reduce(
    _NTXent(), views, (views,), score=cosine(), reductions={"all": log_sum_exp, "positive": sum_},
    same_set=True, plan=plan,
  )  # fmt: skip
  return r["all"] - r["positive"]


@dataclasses.dataclass(frozen=True)
class _NTXent:
  def __call__(self, similarity, a, c, shared):
    logit = similarity / a["temperature"]
    same, other_view = a["index"] == c["index"], a["view"] != c["view"]
    return {
      "all": jnp.where(same & ~other_view, -jnp.inf, logit),
      "positive": jnp.where(same & other_view, logit, 0),
    }


def dcl(z1, z2, *, temperature, plan=Plan()):
  """Decoupled contrastive loss: NT-Xent without the positive in the denominator.

    L_i = −s(z_i, z_i⁺)/τ + log Σ_j exp(s(z_i, z_j)/τ), j over the other examples' vectors

  Args:
    z1, z2: [n, d], the two views; row i of both is the same example.
    temperature: τ, scalar or [2n].

  Returns:
    [2n], anchors z1 first, unbounded below. With n = 1 there is no negative: 0.

  Yeh et al. 2022, arXiv 2110.06848, eq. 5. The paper sums the two directions: twice the
  mean of this. A public port uses one direction and unnormalized inputs.
  """
  views = two_views(z1, z2)
  return criteria.evaluate(
    criteria.dcl(),
    views,
    (views,),
    relation=same_example(),
    temperature=temperature,
    same_set=True,
    plan=plan,
  ).value


def dclw(z1, z2, *, temperature, sigma=0.5, plan=Plan()):
  """DCL with the von Mises-Fisher weight: hard positives pull more.

    L_i = −v_i s(z_i, z_i⁺)/τ + log Σ_j exp(s(z_i, z_j)/τ), j over the other examples' vectors
    v_i = 2 − exp(s(z_i, z_i⁺)/σ) / mean_k exp(s(z_k, z_k⁺)/σ)

  The mean is over all examples, of all devices; v carries no gradient.

  Args:
    z1, z2: [n, d], the two views; row i of both is the same example.
    temperature: τ, scalar or [2n].
    sigma: σ > 0, in units of the cosine.

  Returns:
    [2n], anchors z1 first. With n = 1 there is no negative: 0.

  Yeh et al. 2022, arXiv 2110.06848, eq. 6. lightly on several devices takes the mean over the
  device's own examples; a public port lets the gradient through v.
  """
  views = two_views(z1, z2)
  return criteria.evaluate(
    criteria.dclw(sigma), views, (views,), relation=same_example(), temperature=temperature,
    same_set=True, plan=plan,
  ).value  # fmt: skip


def sup_con(z, labels, *, temperature, plan=Plan()):
  """Supervised contrastive loss, L_out: the mean over positives outside the logarithm.

    L_i = −1/|P(i)| Σ_{p ∈ P(i)} log( exp(s(z_i, z_p)/τ) / Σ_{a ≠ i} exp(s(z_i, z_a)/τ) )

  P(i): the other vectors of i's label.

  Args:
    z: [n, d]; all views of all examples, one after another.
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    temperature: τ, scalar or [n].

  Returns:
    [n]. An anchor without a positive has value 0, and its place in a mean, as in the
    authors' code; pytorch-metric-learning drops it, and all anchors whose loss is 0.

  Khosla et al. 2020, arXiv 2004.11362, eq. 2. The authors' code multiplies by τ/0.07.
  """
  group = labeled(z, labels)
  return criteria.evaluate(
    criteria.info_nce(),
    group,
    (group,),
    relation=same_label(),
    temperature=temperature,
    same_set=True,
    plan=plan,
  ).value


def sup_con_in(z, labels, *, temperature, plan=Plan()):
  """Supervised contrastive loss, L_in: the mean over positives inside the logarithm.

    L_i = −log( 1/|P(i)| Σ_{p ∈ P(i)} exp(s(z_i, z_p)/τ) / Σ_{a ≠ i} exp(s(z_i, z_a)/τ) )

  Arguments and returns as `sup_con`, which it never exceeds. Khosla et al. 2020, arXiv
  2004.11362, eq. 3. solo-learn leaves out 1/|P(i)|: the same gradient.
  """
  group = labeled(z, labels)
  return criteria.evaluate(
    criteria.sup_con_in(),
    group,
    (group,),
    relation=same_label(),
    temperature=temperature,
    same_set=True,
    plan=plan,
  ).value


def hard_negative(z1, z2, *, temperature, beta, tau_plus, plan=Plan()):
  """Contrastive learning with hard negatives (HCL).

    L_i = −log( e^{p_i} / (e^{p_i} + G_i) ),  p_i = s(z_i, z_i⁺)/τ,  ℓ_ij = s(z_i, z_j)/τ
    G_i = max( (N Σ_j e^{(1+β)ℓ_ij} / Σ_j e^{βℓ_ij} − τ⁺ N e^{p_i}) / (1 − τ⁺),  N e^{−1/τ} )

  j over the N = 2n − 2 vectors of the other examples.

  Args:
    z1, z2: [n, d], the two views; row i of both is the same example.
    temperature: τ, scalar or [2n].
    beta: concentration β ≥ 0, in units of logits: the harder, the more a negative weighs.
    tau_plus: τ⁺ in [0, 1), the share of an example's class in the data.

  Returns:
    [2n], anchors z1 first. With n = 1 there is no negative: 0.

  The gradient flows through the weights e^{βℓ}, as in the authors' code: easy negatives are
  attracted (docs/family.md). Robinson et al. 2021, arXiv 2010.04592, eq. 4. Their code does not
  normalize; a PyGCL release weighs by β s² instead.
  """
  views = two_views(z1, z2)
  return criteria.evaluate(
    criteria.hard_negative(beta, tau_plus), views, (views,), relation=same_example(),
    temperature=temperature, same_set=True, plan=plan,
  ).value  # fmt: skip


def debiased(z1, z2, *, temperature, tau_plus, plan=Plan()):
  """Debiased contrastive loss: corrects for negatives that are of the anchor's own class.

    G_i = max( (Σ_j e^{ℓ_ij} − τ⁺ N e^{p_i}) / (1 − τ⁺),  N e^{−1/τ} )

  in place of the sum of negatives; see `hard_negative`, of which it is the case β = 0. Unless
  its bound holds, it pushes more than `nt_xent`: the positive weighs less in the denominator.
  With τ⁺ = 0 it is `nt_xent`. Chuang et al. 2020, arXiv 2007.00224, eq. 7, one positive.
  """
  views = two_views(z1, z2)
  return criteria.evaluate(
    criteria.debiased(tau_plus), views, (views,), relation=same_example(),
    temperature=temperature, same_set=True, plan=plan,
  ).value  # fmt: skip
