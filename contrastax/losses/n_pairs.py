"""The N-pair loss."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from contrastax.labels import class_numbers, share_label
from contrastax.losses.arrays import (
  candidates,
  of_index,
  precision,
  vectors,
)  # fmt: skip
from contrastax.pairwise import (
  Plan,
  dot,
  log_sum_exp,
  reduce,
  sum_,
)  # fmt: skip
from contrastax.pairwise.inputs import check_numbers


def n_pairs(anchors, positives, labels=None, *, l2_weight=0.002, plan=Plan()):
  """Multi-class N-pair loss: InfoNCE of dot products at temperature 1, with a penalty of length.

    L_i = −1/|P(i)| Σ_{p ∈ P(i)} a_i·p_p + log Σ_j exp(a_i·p_j) + ¼ l2_weight (‖a_i‖² + ‖p_i‖²)

  P(i): p_i, and the other positives of i's label.

  Args:
    anchors, positives: [n, d], as they are. Row i of both is the same class.
    labels: [n], the numbers of classes (−1: no label), or None: all rows are of different classes.
    l2_weight: of the squared lengths, ≥ 0.

  Returns:
    [n].

  Sohn 2016 (NIPS), eq. 6, and TensorFlow's npairs_loss, which has the labels and the ¼;
  pytorch-metric-learning draws one pair of each class, and has no penalty by default.
  """
  anchors, positives = vectors(anchors=anchors, positives=positives)
  check_numbers(l2_weight=l2_weight)
  index = of_index(anchors)
  side = {"label": index if labels is None else class_numbers(labels, len(anchors))}
  a, c = (candidates(x, of_index(x), 0).attach(**side) for x in (anchors, positives))
  r = reduce(
    _NPairs(), a, (c,), score=dot(), plan=plan,
    reductions={"all": log_sum_exp, "positive": sum_, "count": sum_},
  )  # fmt: skip
  squares = sum((x.astype(precision(x)) ** 2).sum(1) for x in (anchors, positives))
  return r["all"] - r["positive"] / r["count"] + l2_weight / 4 * squares


@dataclasses.dataclass(frozen=True)
class _NPairs:
  def __call__(self, similarity, a, c, shared):
    # A row's own positive is one, whatever its label.
    same = share_label(a["label"], c["label"]) | (a["index"] == c["index"])
    return {
      "all": similarity,
      "positive": jnp.where(same, similarity, 0),
      "count": jnp.where(same, 1.0, 0.0),
    }
