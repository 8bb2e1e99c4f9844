"""Relations that compare sides of anchors and candidates for equality.

A relation is a function `(anchor side, candidate side, similarity) -> Pairs`. The computation is
elementwise: the sides have shapes that broadcast, and the pairs may be all pairs or one tile of
them.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Pairs, Relation, Side, UserError
from contrastax.labels import has_label, share_label


@dataclasses.dataclass(frozen=True)
class same_example(Relation):
  """Positives are other views of the anchor's example. Negatives belong to other examples.

  The pair of a vector and itself, with the same index and view, is neither.

  Example:
    >>> from jax.numpy import array
    >>> from contrastax import relations
    >>> anchor = {"index": array([[0]]), "view": array([[0]])}
    >>> candidates = {"index": array([[0, 0, 1]]), "view": array([[0, 1, 1]])}
    >>> pairs = relations.same_example()(anchor, candidates, array([[1.0, 0.5, 0.2]]))
    >>> pairs.positive.tolist(), pairs.negative.tolist()
    ([[False, True, False]], [[False, False, True]])
  """

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    same = a["index"] == c["index"]
    other_view = a["view"] != c["view"]
    return Pairs(same & other_view, ~same)


@dataclasses.dataclass(frozen=True)
class same_label(Relation):
  """Positives are other vectors of the anchor's label. Negatives are vectors of other labels.

  The pair of a vector and itself, with the same index and view, is neither. A vector without a
  label (−1, or NaN for labels that are floats) is no positive, and it is a negative for the vectors
  of other examples. Two vectors of the same example without a label are neither.

  Raises:
    UserError: the anchors have no side `label`.

  Example:
    >>> from contrastax import relations
    >>> relations.same_label() & relations.other_view()
    same_label() & other_view()
  """

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    if "label" not in a:
      raise UserError("same_label needs labels, but the data have none; use same_example")
    example = a["index"] == c["index"]
    itself = example & (a["view"] == c["view"])
    same = share_label(a["label"], c["label"])
    unlabeled = example & ~has_label(a["label"])
    return Pairs(same & ~itself, ~same & ~unlabeled)


@dataclasses.dataclass(frozen=True)
class other_view(Relation):
  """Keeps only pairs of different views, as positives and as negatives (MoCo v3, CLIP).

  A candidate with the view −1, which means no view of this step, differs from all anchors.

  Example:
    >>> from contrastax import relations
    >>> relations.same_example() & relations.other_view()
    same_example() & other_view()
  """

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    other = a["view"] != c["view"]
    return Pairs(other, other)


@dataclasses.dataclass(frozen=True)
class virtual_labels(Relation):
  """Gives mixed anchors soft positives, weighted by the share of each example in the anchor.

      w⁺_ij = λ_i [j is i's example] + (1 − λ_i) [j is i's partner],   w⁻_ij = 1 − w⁺_ij

  The anchors have the sides `partner`, the index of the example that is mixed into each, and
  `share`, which is λ. Vectors of these two examples from another step, such as those in a queue,
  are not negatives.

  Example:
    >>> from contrastax import relations
    >>> relations.virtual_labels()
    virtual_labels()

  References:
    Lee et al., "i-Mix", 2021, arXiv 2010.08887, eq. 4.
  """

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    share = a["share"]
    own, partner = a["index"] == c["index"], a["partner"] == c["index"]
    positive = own * share + partner * (1 - share)
    from_other_step = (own | partner) & (c["view"] < 0)
    return Pairs(positive, jnp.where(from_other_step, 0, 1 - positive))
