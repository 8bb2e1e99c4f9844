"""The N-pair loss."""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array
from contrastax.labels import class_numbers, share_label
from contrastax.losses.arrays import check_vectors, compute_dtype, make_group, row_index
from contrastax.pairwise import Plan, dot, log_sum_exp, reduce, sum_
from contrastax.pairwise.inputs import check_numbers


def n_pairs(
  anchors: ArrayLike,
  positives: ArrayLike,
  labels: ArrayLike | None = None,
  *,
  l2_weight: ArrayLike = 0.002,
  plan: Plan = Plan(),
) -> Array:
  """Multi-class N-pair loss: InfoNCE of dot products at temperature 1, with an L2 penalty.

      L_i = −1/|P(i)| Σ_{p ∈ P(i)} a_i·p_p + log Σ_j exp(a_i·p_j) + ¼ l2_weight (‖a_i‖² + ‖p_i‖²)

  P(i) contains i and the rows that have the label of row i.

  Args:
    anchors: anchors a, [n, d]. The loss does not normalize them.
    positives: positives p, [n, d]. Row i of anchors and positives belongs to the same class.
    labels: class numbers [n], −1 for a row without a label; None if all rows are of different
      classes.
    l2_weight: weight of the squared lengths, at least 0.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each anchor, [n].

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> anchors, positives = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.n_pairs(anchors, positives).shape
    (8,)

  References:
    Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", 2016 (NIPS),
    eq. 6.

  In other libraries:
    The labels and the factor ¼ are those of TensorFlow's `npairs_loss`. pytorch-metric-learning
    draws one pair of each class and has no penalty by default.
  """
  anchors, positives = check_vectors(anchors=anchors, positives=positives)
  check_numbers(l2_weight=l2_weight)
  index = row_index(anchors)
  label = index if labels is None else class_numbers(labels, len(anchors))
  reduced = reduce(
    _NPairs(),
    make_group(anchors, index, 0).attach(label=label),
    (make_group(positives, index, 0).attach(label=label),),
    score=dot(),
    reductions={"all": log_sum_exp, "positive": sum_, "count": sum_},
    plan=plan,
  )
  squares = functools.reduce(
    jnp.add, [(x.astype(compute_dtype(x)) ** 2).sum(1) for x in (anchors, positives)]
  )
  mean_positive = reduced["positive"] / reduced["count"]
  return reduced["all"] - mean_positive + l2_weight / 4 * squares


@dataclasses.dataclass(frozen=True)
class _NPairs:
  def __call__(self, similarity, a, c, shared):
    # A row's own positive counts even if the row has no label.
    same = share_label(a["label"], c["label"]) | (a["index"] == c["index"])
    return {
      "all": similarity,
      "positive": jnp.where(same, similarity, 0),
      "count": jnp.where(same, 1.0, 0.0),
    }
