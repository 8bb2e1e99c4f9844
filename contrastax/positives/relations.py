"""Relations: which pairs are positives, which negatives, with what weight.

A relation is elementwise, `(anchor side, candidate side, similarity) -> Pairs`: the sides
come shaped to broadcast, so it cannot know whether it sees all pairs or one tile of them.
"""

from __future__ import annotations

import dataclasses

from contrastax.core import Pairs


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

  A vector and itself (same index, same view) are neither.
  """

  def __call__(self, a, c, similarity):
    itself = (a["index"] == c["index"]) & (a["view"] == c["view"])
    same = a["label"] == c["label"]
    return Pairs(same & ~itself, ~same)
