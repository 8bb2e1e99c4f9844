"""InfoNCE, NT-Xent and SupCon on arrays.

Most functions convert the arrays to groups of candidates and call a criterion. The losses normalize
the vectors, and s is the cosine similarity. Each returns one value per anchor, so the loss of the
paper is the mean of the result. Temperatures τ > 0 are scalars or have one value per anchor. They
may be traced and differentiated.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax import criteria
from contrastax.core import Array, Group
from contrastax.criteria.softmax_core import attach_temperature
from contrastax.losses.arrays import (
  check_vectors,
  labeled_group,
  make_group,
  row_index,
  to_common_dtype,
)
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, sum_
from contrastax.relations import same_example, same_label


def info_nce(
  anchors: ArrayLike,
  positives: ArrayLike,
  negatives: ArrayLike | None = None,
  *,
  temperature: ArrayLike,
  plan: Plan = Plan(),
) -> Array:
  """InfoNCE in one direction: softmax cross-entropy of one positive among negatives.

      L_i = −s(a_i, p_i)/τ + log( exp(s(a_i, p_i)/τ) + Σ_j exp(s(a_i, n_j)/τ) )

  Args:
    anchors: anchors a, [n, d].
    positives: positives p, [n, d]. `positives[i]` is the positive of `anchors[i]`.
    negatives: vectors [m, d] that are the negatives of all anchors, such as the queue of MoCo; or
      [n, k, d], k negatives for each anchor. The positives of other anchors are then not negatives.
      None: the negatives are the positives of the other anchors (in-batch negatives).
    temperature: temperature τ > 0, scalar or [n].
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each anchor, [n]. With in-batch negatives and n = 1 there are no negatives and the
    loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> anchors, positives = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.info_nce(anchors, positives, temperature=0.1).shape
    (8,)
    >>> queue = jax.random.normal(jax.random.key(1), (32, 4))
    >>> losses.info_nce(anchors, positives, queue, temperature=0.1).shape
    (8,)

  References:
    Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, arXiv
    1807.03748, eq. 4.
    He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", 2020, arXiv
    1911.05722, eq. 1, with a queue.

  In other libraries:
    The code of MoCo v3 multiplies the loss by 2τ. sentence-transformers calls this loss
    MultipleNegativesRankingLoss.
  """
  anchors, positives = check_vectors(anchors=anchors, positives=positives)
  index = row_index(anchors)
  if negatives is None:
    groups = (make_group(positives, index, 1),)
  else:
    (negatives,) = to_common_dtype(negatives=negatives)
    no_index = jnp.full(negatives.shape[:-1], -1)
    keys = make_group(positives[:, None], index[:, None], 1)
    groups = (keys, make_group(negatives, no_index, 1, as_positive=0))
  return criteria.evaluate(
    criteria.info_nce(),
    make_group(anchors, index, 0),
    groups,
    relation=same_example(),
    temperature=temperature,
    plan=plan,
  ).value


def nt_xent(z1: ArrayLike, z2: ArrayLike, *, temperature: ArrayLike, plan: Plan = Plan()) -> Array:
  """NT-Xent, the loss of SimCLR: InfoNCE in which both views of each example are anchors.

      L_i = −s(z_i, z_i⁺)/τ + log Σ_{j ≠ i} exp(s(z_i, z_j)/τ)

  z = [z1; z2] contains all 2n vectors, and z_i⁺ is the other view of the example of z_i.

  Args:
    z1: vectors of the first view, [n, d].
    z2: vectors of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    temperature: temperature τ > 0, scalar or [2n].
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [2n], with the vectors of z1 first. With n = 1 there are no negatives
    and the loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.nt_xent(z1, z2, temperature=0.1).shape
    (16,)

  References:
    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020,
    arXiv 2002.05709, eq. 1.

  In other libraries:
    Google's code returns the sum of the means of the two views, which is twice the mean of this
    result.
  """
  z1, z2 = check_vectors(z1=z1, z2=z2)
  side = {"index": jnp.tile(row_index(z1), 2), "view": jnp.repeat(jnp.arange(2), z1.shape[0])}
  views = attach_temperature(Group(jnp.concatenate([z1, z2]), side), temperature)
  # This equals `criteria.info_nce` with `same_set`, but is faster because there are no weights.
  reduced = reduce(
    _NTXent(),
    views,
    (views,),
    score=cosine(),
    reductions={"all": log_sum_exp, "positive": sum_},
    same_set=True,
    plan=plan,
  )
  return reduced["all"] - reduced["positive"]


@dataclasses.dataclass(frozen=True)
class _NTXent:
  def __call__(self, similarity, a, c, shared):
    logit = similarity / a["temperature"]
    same, other_view = a["index"] == c["index"], a["view"] != c["view"]
    return {
      "all": jnp.where(same & ~other_view, -jnp.inf, logit),
      "positive": jnp.where(same & other_view, logit, 0),
    }


def sup_con(
  z: ArrayLike, labels: ArrayLike, *, temperature: ArrayLike, plan: Plan = Plan()
) -> Array:
  """Supervised contrastive loss L_out: the mean over positives is outside the logarithm.

      L_i = −1/|P(i)| Σ_{p ∈ P(i)} log( exp(s(z_i, z_p)/τ) / Σ_{a ≠ i} exp(s(z_i, z_a)/τ) )

  P(i) contains the other vectors with the label of vector i.

  Args:
    z: vectors of all views of all examples, one view after another, [n, d].
    labels: class numbers [n]; −1 for a vector without a label.
    temperature: temperature τ > 0, scalar or [n].
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [n]. It is 0 for an anchor without a positive.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z = jax.random.normal(jax.random.key(0), (4, 8))
    >>> losses.sup_con(z, jax.numpy.array([0, 0, 1, 1]), temperature=0.1).shape
    (4,)

  References:
    Khosla et al., "Supervised Contrastive Learning", 2020, arXiv 2004.11362, eq. 2.

  In other libraries:
    The authors' code multiplies the loss by τ/0.07. As in that code, an anchor without a positive
    counts in the mean. pytorch-metric-learning leaves out each anchor whose loss is 0.
  """
  group = labeled_group(z, labels)
  return criteria.evaluate(
    criteria.info_nce(),
    group,
    (group,),
    relation=same_label(),
    temperature=temperature,
    same_set=True,
    plan=plan,
  ).value


def sup_con_in(
  z: ArrayLike, labels: ArrayLike, *, temperature: ArrayLike, plan: Plan = Plan()
) -> Array:
  """Supervised contrastive loss L_in: the mean over positives is inside the logarithm.

      L_i = −log( 1/|P(i)| Σ_{p ∈ P(i)} exp(s(z_i, z_p)/τ) / Σ_{a ≠ i} exp(s(z_i, z_a)/τ) )

  P(i) contains the other vectors with the label of vector i. The loss is never larger than
  `sup_con`.

  Args:
    z: vectors of all views of all examples, one view after another, [n, d].
    labels: class numbers [n]; −1 for a vector without a label.
    temperature: temperature τ > 0, scalar or [n].
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [n]. It is 0 for an anchor without a positive.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z = jax.random.normal(jax.random.key(0), (4, 8))
    >>> losses.sup_con_in(z, jax.numpy.array([0, 0, 1, 1]), temperature=0.1).shape
    (4,)

  References:
    Khosla et al., "Supervised Contrastive Learning", 2020, arXiv 2004.11362, eq. 3.

  In other libraries:
    solo-learn leaves out the factor 1/|P(i)|, which does not change the gradient.
  """
  group = labeled_group(z, labels)
  return criteria.evaluate(
    criteria.sup_con_in(),
    group,
    (group,),
    relation=same_label(),
    temperature=temperature,
    same_set=True,
    plan=plan,
  ).value
