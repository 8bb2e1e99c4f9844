"""Relations: which pairs are positives, which negatives, with what weight.

A relation is elementwise, `(anchor side, candidate side, similarity) -> Pairs`: the sides
come shaped to broadcast, so it cannot know whether it sees all pairs or one tile of them.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from contrastax.core import Pairs, UserError
from contrastax.labels import has_label, share_label


class Relation:
  """What relations share: `a & b` multiplies both weights of a and of b."""

  def __and__(self, other: Relation) -> Relation:
    return _Both(self, other)


@dataclasses.dataclass(frozen=True)
class _Both(Relation):
  left: Relation
  right: Relation

  def __call__(self, a, c, similarity):
    left, right = self.left(a, c, similarity), self.right(a, c, similarity)
    return Pairs(left.positive * right.positive, left.negative * right.negative)  # masks: and


@dataclasses.dataclass(frozen=True)
class same_example(Relation):
  """Positive: the same example in another view. Negative: every other example.

  A vector and itself (same index, same view) are neither.
  """

  def __call__(self, a, c, similarity):
    same = a["index"] == c["index"]
    other_view = a["view"] != c["view"]
    return Pairs(same & other_view, ~same)


@dataclasses.dataclass(frozen=True)
class same_label(Relation):
  """Positive: every other vector of the same label. Negative: every one of another label.

  A vector and itself (same index, same view) are neither. An example without a label (−1, or NaN
  where labels are floats) is nobody's positive and a negative of the others; two vectors of it are
  neither.
  """

  def __call__(self, a, c, similarity):
    if "label" not in a:
      raise UserError("same_label needs labels, and the data have none; take same_example")
    example = a["index"] == c["index"]
    itself = example & (a["view"] == c["view"])
    same = share_label(a["label"], c["label"])
    unlabeled = example & ~has_label(a["label"])
    return Pairs(same & ~itself, ~same & ~unlabeled)


@dataclasses.dataclass(frozen=True)
class other_view(Relation):
  """A filter: only vectors of another view than the anchor's count, as either (MoCo v3; CLIP).

  What has no view, −1, is in another than any.
  """

  def __call__(self, a, c, similarity):
    other = a["view"] != c["view"]
    return Pairs(other, other)


@dataclasses.dataclass(frozen=True)
class virtual_labels(Relation):
  """Soft positives of mixed anchors: what share of each example an anchor is made of.

    w⁺_ij = λ_i [j is i's example] + (1 − λ_i) [j is i's partner],   w⁻_ij = 1 − w⁺_ij

  The anchors' side has `partner`, the index of the example that is mixed into each, and
  `share`, λ. Vectors of these two from another step, as in a queue, are neither. i-Mix: Lee et
  al. 2021, arXiv 2010.08887, eq. 4.
  """

  def __call__(self, a, c, similarity):
    share = a["share"]
    own, partner = (a[name] == c["index"] for name in ("index", "partner"))
    positive = own * share + partner * (1 - share)
    older = (own | partner) & (c["view"] < 0)
    return Pairs(positive, jnp.where(older, 0, 1 - positive))
