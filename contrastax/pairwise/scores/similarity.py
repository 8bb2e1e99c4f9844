"""Scores: the only place where vectors meet. Each is [n, m], or [n, k] for a set per anchor.

A score may also be a tuple of such arrays, which the channels then are given: `side_by_side`.

A score of a user's own is a frozen dataclass, a subclass of `core.Score` with `__call__`; or of
`TwoPartScore`, with `prepare` and `combine` in its place.
"""

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Score
from contrastax.pairwise.scores.precision import (
  direction,
  einsum,
  half_product,
  is_half,
  product,
  promoted,
  unit,
  wide,
)
from contrastax.propagate import minimum


class TwoPartScore(Score):
  """A score of its two parts: `prepare` of each vector alone, `combine` of every pair."""

  symmetric = True

  def __call__(self, params, anchors, candidates):
    anchors, candidates = promoted(anchors, candidates)
    once = self.prepare(params, anchors, True), self.prepare(params, candidates, False)
    return self.combine(params, *once)


@dataclasses.dataclass(frozen=True)
class dot(TwoPartScore):
  """a·c."""

  def combine(self, params, anchors, candidates):
    return product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class cosine(TwoPartScore):
  """a·c / (‖a‖‖c‖), in [−1, 1]; a vector of no entry above 1e-12 has cosine 0 and no gradient."""

  def prepare(self, params, vectors, anchor):
    if not is_half(vectors):
      return unit(vectors)
    # Unit vectors of half precision would be rounded again: their lengths divide the product.
    scaled, inverse = direction(vectors)
    return scaled, jax.lax.stop_gradient(inverse), vectors[..., :0]  # empty: it tells the type

  def combine(self, params, anchors, candidates):
    if not isinstance(anchors, tuple):
      return product(anchors, candidates)
    (a, of_a, like), (c, of_c, _) = anchors, candidates
    return half_product(like.dtype, a, c) * of_a[:, None] * (of_c if c.ndim == 3 else of_c[None])


@dataclasses.dataclass(frozen=True)
class negative_squared_distance(TwoPartScore):
  """−‖a − c‖², at most 0; exactly 0 for equal vectors only up to rounding."""

  def prepare(self, params, vectors, anchor):
    return vectors, (wide(vectors) ** 2).sum(-1)

  def combine(self, params, anchors, candidates):
    (a, of_a), (c, of_c) = anchors, candidates
    squares = of_a[:, None] + (of_c if c.ndim == 3 else of_c[None])
    return minimum(2 * product(a, c) - squares, 0)


@dataclasses.dataclass(frozen=True)
class bilinear(TwoPartScore):
  """a·W c, with W [d, d] learned; it begins as the dot product, W = 1 (CPC: arXiv 1807.03748)."""

  symmetric = False

  def init(self, key, d):
    return jnp.eye(d)

  def prepare(self, params, vectors, anchor):
    return einsum("...d,de->...e", vectors, params) if anchor else wide(vectors)

  def combine(self, params, anchors, candidates):
    return product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class multilinear(TwoPartScore):
  """Σ_d a_d c¹_d c²_d …: anchors [n, d], and candidates [m, parts·d], each `parts` vectors in a row.

  The similarity of Symile (Saporta et al. 2024, arXiv 2411.01053): with one part, the dot
  product. Three modalities: parts = 2, each candidate the vectors of the two others.
  """

  parts: int
  symmetric = False

  def prepare(self, params, vectors, anchor):
    if anchor:
      return vectors
    return wide(vectors).reshape(*vectors.shape[:-1], self.parts, -1).prod(-2)

  def combine(self, params, anchors, candidates):
    return product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class side_by_side(TwoPartScore):
  """(first, second): two scores of vectors that are two in a row, the first of d dimensions.

  For losses that weigh a pair by another similarity than they train. Without parameters.
  """

  first: Score
  second: Score
  d: int

  @property
  def symmetric(self):
    return self.first.symmetric and self.second.symmetric

  def prepare(self, params, vectors, anchor):
    parts = vectors[..., : self.d], vectors[..., self.d :]
    return tuple(
      score.prepare((), part, anchor)
      for score, part in zip((self.first, self.second), parts, strict=True)
    )

  def combine(self, params, anchors, candidates):
    meetings = zip((self.first, self.second), anchors, candidates, strict=True)
    return tuple(score.combine((), a, c) for score, a, c in meetings)
