"""Filters: which of a relation's negatives stay, or what they weigh. `same_example() & …`.

A filter has no opinion on positives: its weight of them is 1, and 1 of a negative that stays.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Pairs, UserError
from contrastax.labels import share_label
from contrastax.pairwise.scores.precision import promoted, wide
from contrastax.relations.equality import Relation


@dataclasses.dataclass(frozen=True)
class negatives_differ(Relation):
  """Negatives are only what differs from the anchor in the side `by`; what has none (−1) differs.

  By "label": no false negatives, the oracle of studies (MoCHi, arXiv 2010.01028, §3.1). By
  "cluster": those of the anchor's cluster are taken for false ones (ClusterNS, Deng et al. 2023,
  arXiv 2305.09892, §3.3, which holds them by a margin instead of leaving them out).
  """

  by: str

  def __call__(self, a, c, similarity):
    return Pairs(True, ~share_label(_side(self, a, self.by), c[self.by]))


@dataclasses.dataclass(frozen=True)
class negatives_share(Relation):
  """Negatives are only what has the anchor's value in the side `by`: its language, its modality.

  An anchor without a value, −1, has no negative.

  By "cluster", of an earlier stage's features: what tells the cluster's members apart is still to
  be learned (multistage contrastive learning, Zhang et al. 2024, arXiv 2402.11816).
  """

  by: str

  def __call__(self, a, c, similarity):
    return Pairs(True, share_label(_side(self, a, self.by), c[self.by]))


@dataclasses.dataclass(frozen=True)
class similarity_within(Relation):
  """Negatives of a similarity between `least` and `most` weigh 1, others `otherwise`.

  In units of the method's score, without gradient. `most` alone takes what is very similar for a
  false negative; `least` alone drops easy ones.
  """

  least: float = -jnp.inf
  most: float = jnp.inf
  otherwise: float = 0.0

  def __post_init__(self):
    if not self.least < self.most:
      raise UserError(f"similarity_within: least {self.least} is not below most {self.most}")
    if not self.otherwise >= 0:
      raise UserError(f"similarity_within: otherwise is a weight ≥ 0, not {self.otherwise!r}")

  def __call__(self, a, c, similarity):
    similarity = jax.lax.stop_gradient(similarity)
    # NaN is within: a pair that is not a number is to be seen, not to be left out.
    within = ~((similarity < self.least) | (similarity > self.most))
    return _kept(within, self.otherwise)


@dataclasses.dataclass(frozen=True)
class guide_below(Relation):
  """Negatives of which another model says cos(g_i, g_j) ≤ `most` weigh 1, others `otherwise`.

  g is the side `guide`, an array of the data: the frozen other model's features of each example.
  DCLR (Zhou et al. 2022, arXiv 2205.00656, eq. 6): 0.85 to 0.9. Their code multiplies the logit by
  the weight, so that a dropped negative still counts e^0; here it is gone.
  """

  most: float
  otherwise: float = 0.0

  def __post_init__(self):
    if not -1 <= self.most < 1:
      raise UserError(f"guide_below: most is a cosine, −1 ≤ most < 1, not {self.most!r}")
    if not self.otherwise >= 0:
      raise UserError(f"guide_below: otherwise is a weight ≥ 0, not {self.otherwise!r}")

  def __call__(self, a, c, similarity):
    mine, theirs = map(wide, promoted(_side(self, a, "guide"), c["guide"]))
    squares = (mine**2).sum(-1) * (theirs**2).sum(-1)
    # Not divided: the guide of what is no example is zero, and is below any limit.
    below = ~((mine * theirs).sum(-1) > self.most * jnp.sqrt(squares))  # NaN is below
    return _kept(below, self.otherwise)


@dataclasses.dataclass(frozen=True)
class label_distance(Relation):
  """A negative weighs 1 + |y_i − y_j|, y a number as label: far ones are pushed more.

  One without a label (NaN) weighs 1. SupReMix (Wu et al. 2023, arXiv 2309.16633), "distance
  magnifying"; the 1 is their code's.
  """

  def __call__(self, a, c, similarity):
    distance = jnp.abs(_side(self, a, "label") - c["label"])
    return Pairs(True, 1 + jnp.where(jnp.isnan(distance), 0, distance))


def _side(relation, a, name):
  if name not in a:
    raise UserError(
      f"{type(relation).__name__} needs the side {name!r}, and the anchors have "
      f"{', '.join(sorted(a))}; an array {name!r} of the data becomes one"
    )
  return a[name]


def _kept(mask, otherwise):
  """A mask, which costs less than numbers, where what is not kept weighs nothing."""
  return Pairs(True, mask if otherwise == 0 else jnp.where(mask, 1, otherwise))
