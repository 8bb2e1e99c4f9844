"""Filters: relations that remove negatives or change their weights.

A filter is joined to a relation: `same_example() & similarity_within(most=0.9)`. A filter gives all
positives the weight 1, so it does not change the positives of the relation. It also gives the
weight 1 to each negative that is neither removed nor reweighted.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Pairs, Relation, Side, UserError
from contrastax.labels import share_label
from contrastax.pairwise.scores.precision import promoted, wide


@dataclasses.dataclass(frozen=True)
class negatives_differ(Relation):
  """Removes negatives whose side `by` equals that of the anchor.

  A missing value, −1, equals no value. With the side "label", there are no false negatives. Studies
  use this as an oracle (MoCHi, §3.1). With the side "cluster", negatives of the anchor's cluster
  are treated as false negatives, as in ClusterNS, §3.3.

  Args:
    by: name of the side, such as "label" or "cluster".

  Raises:
    UserError: the anchors do not have the side.

  Example:
    >>> from contrastax import relations
    >>> relations.same_example() & relations.negatives_differ("label")
    same_example() & negatives_differ(by='label')

  References:
    Kalantidis et al., "Hard Negative Mixing for Contrastive Learning" (MoCHi), 2020, arXiv
    2010.01028.
    Deng et al., "Clustering-Aware Negative Sampling for Unsupervised Sentence Representation"
    (ClusterNS), 2023, arXiv 2305.09892.

  In other libraries:
    ClusterNS keeps these negatives at a margin instead of removing them.
  """

  by: str

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    return Pairs(True, ~share_label(_side(self, a, self.by), c[self.by]))


@dataclasses.dataclass(frozen=True)
class negatives_share(Relation):
  """Keeps only negatives whose side `by` equals that of the anchor, such as its language.

  An anchor without a value, −1, has no negatives. The side "cluster" may contain clusters of the
  features of an earlier stage. The encoder then learns features that distinguish the members of a
  cluster, as in multistage contrastive learning.

  Args:
    by: name of the side, such as "language", "modality" or "cluster".

  Raises:
    UserError: the anchors do not have the side.

  Example:
    >>> from contrastax import relations
    >>> relations.same_example() & relations.negatives_share("language")
    same_example() & negatives_share(by='language')

  References:
    Zhang et al., "Learning the Unlearned: Mitigating Feature Suppression in Contrastive Learning",
    2024, arXiv 2402.11816.
  """

  by: str

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    return Pairs(True, share_label(_side(self, a, self.by), c[self.by]))


@dataclasses.dataclass(frozen=True)
class similarity_within(Relation):
  """Keeps negatives with a similarity between two limits and gives other negatives another weight.

  With `most` alone, very similar negatives are treated as false negatives. With `least` alone, easy
  negatives are removed. No gradient flows through the comparison.

  Args:
    least: lower limit, in units of the method's score.
    most: upper limit, in units of the method's score.
    otherwise: weight ≥ 0 of negatives outside the limits.

  Raises:
    UserError: `least` is not below `most`, or `otherwise` is negative.

  Example:
    >>> from jax.numpy import array
    >>> from contrastax import relations
    >>> relations.similarity_within(most=0.9)({}, {}, array([0.2, 0.95])).negative.tolist()
    [True, False]
  """

  least: float = -jnp.inf
  most: float = jnp.inf
  otherwise: float = 0.0

  def __post_init__(self):
    if not self.least < self.most:
      raise UserError(
        f"similarity_within: least must be below most, not {self.least} and {self.most}"
      )
    if not self.otherwise >= 0:
      raise UserError(
        f"similarity_within: otherwise must be a weight of at least 0, not {self.otherwise!r}"
      )

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    similarity = jax.lax.stop_gradient(similarity)
    # A pair with NaN remains, so that the loss becomes NaN.
    within = ~((similarity < self.least) | (similarity > self.most))
    return _weights(within, self.otherwise)


@dataclasses.dataclass(frozen=True)
class guide_below(Relation):
  """Removes or reweights negatives that are similar to the anchor in the features of another model.

  Negatives with cos(g_i, g_j) ≤ `most` have the weight 1. g is the side `guide`, an array of the
  data with the features of each example from a frozen model.

  Args:
    most: upper limit of the cosine, −1 ≤ most < 1. DCLR uses 0.85 to 0.9.
    otherwise: weight ≥ 0 of the other negatives.

  Raises:
    UserError: a number is out of range, or the anchors do not have the side `guide`.

  Example:
    >>> from jax.numpy import array
    >>> from contrastax import relations
    >>> anchor = {"guide": array([[1.0, 0.0]])}
    >>> candidates = {"guide": array([[1.0, 0.1], [0.0, 1.0]])}
    >>> relations.guide_below(0.9)(anchor, candidates, array([0.5, 0.5])).negative.tolist()
    [False, True]

  References:
    Zhou et al., "Debiased Contrastive Learning of Unsupervised Sentence Representations" (DCLR),
    2022, arXiv 2205.00656, eq. 6.

  In other libraries:
    The authors' code multiplies the logit by the weight, so that a removed negative still counts as
    e^0. This filter removes it.
  """

  most: float
  otherwise: float = 0.0

  def __post_init__(self):
    if not -1 <= self.most < 1:
      raise UserError(f"guide_below: most must be a cosine, −1 ≤ most < 1, not {self.most!r}")
    if not self.otherwise >= 0:
      raise UserError(
        f"guide_below: otherwise must be a weight of at least 0, not {self.otherwise!r}"
      )

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    anchor_guide, guide = map(wide, promoted(_side(self, a, "guide"), c["guide"]))
    squares = (anchor_guide**2).sum(-1) * (guide**2).sum(-1)
    # There is no division, so that a zero vector, the guide of a vector without an example, is
    # below every limit. The comparison is negated so that a pair with NaN remains.
    below = ~((anchor_guide * guide).sum(-1) > self.most * jnp.sqrt(squares))
    return _weights(below, self.otherwise)


@dataclasses.dataclass(frozen=True)
class label_distance(Relation):
  """Gives a negative the weight 1 + |y_i − y_j|, where the labels y are numbers.

  A negative without a label (NaN) has the weight 1.

  Raises:
    UserError: the anchors do not have the side `label`.

  Example:
    >>> from jax.numpy import array
    >>> from contrastax import relations
    >>> candidates = {"label": array([1.0, 5.0])}
    >>> pairs = relations.label_distance()({"label": array([2.0])}, candidates, array([0.5, 0.5]))
    >>> pairs.negative.tolist()
    [2.0, 4.0]

  References:
    Wu et al., "SupReMix", 2023, arXiv 2309.16633, "distance magnifying". The summand 1 is from the
    authors' code.
  """

  @override
  def __call__(self, a: Side, c: Side, similarity: Array) -> Pairs:
    distance = jnp.abs(_side(self, a, "label") - c["label"])
    return Pairs(True, 1 + jnp.where(jnp.isnan(distance), 0, distance))


def _side(relation: Relation, a: Side, name: str) -> Array:
  if name not in a:
    raise UserError(
      f"{type(relation).__name__} needs the side {name!r}, but the anchors have "
      f"{', '.join(sorted(a))}; an array {name!r} in the data becomes a side"
    )
  return a[name]


def _weights(mask: Array, otherwise: float) -> Pairs:
  """Gives negatives the weight 1 if the mask is true, else `otherwise`.

  If `otherwise` is 0, the weights are the mask itself, which is faster.
  """
  return Pairs(True, mask if otherwise == 0 else jnp.where(mask, 1, otherwise))
