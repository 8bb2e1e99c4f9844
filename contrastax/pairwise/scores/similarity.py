"""Scores without heads: dot product, cosine, distance, bilinear and multilinear forms.

Scores are the only place where vectors are compared. The result is [n, m], or [n, k] for a set per
anchor. It may also be a tuple of such arrays, which is then passed to the channels; see
`side_by_side`.

To write a new score, define a frozen dataclass derived from `core.Score`, with `__call__`, or
derived from `TwoPartScore`, with `prepare` and `combine`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Params, Score
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
  """The base of scores in two parts: `prepare` for each vector, and `combine` for each pair."""

  @property
  @override
  def symmetric(self) -> bool:
    return True

  @override
  def __call__(self, params: Params, anchors: Array, candidates: Array) -> Any:
    anchors, candidates = promoted(anchors, candidates)
    prepared = self.prepare(params, anchors, True), self.prepare(params, candidates, False)
    return self.combine(params, *prepared)


@dataclasses.dataclass(frozen=True)
class dot(TwoPartScore):
  """The dot product, a·c.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.pairwise import dot
    >>> print(dot()((), jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])))
    [[11.  2.]]
  """

  @override
  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    return product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class cosine(TwoPartScore):
  """The cosine of the angle between two vectors, in [−1, 1].

      a·c / (‖a‖ ‖c‖)

  A vector without an entry above 1e-12 in magnitude has the cosine 0 and no gradient.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.pairwise import cosine
    >>> print(cosine()((), jnp.array([[2.0, 0.0]]), jnp.array([[5.0, 0.0], [0.0, 1.0]])))
    [[1. 0.]]
  """

  @override
  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    if not is_half(vectors):
      return unit(vectors)
    # Unit vectors in half precision would be rounded a second time. So the product of the vectors
    # is divided by their lengths.
    scaled, inverse = direction(vectors)
    # The empty array carries the type of the vectors.
    return scaled, jax.lax.stop_gradient(inverse), vectors[..., :0]

  @override
  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    if not isinstance(anchors, tuple):
      return product(anchors, candidates)
    (a, inverse_a, like), (c, inverse_c, _) = anchors, candidates
    scaled = half_product(like.dtype, a, c) * inverse_a[:, None]
    return scaled * (inverse_c if c.ndim == 3 else inverse_c[None])


@dataclasses.dataclass(frozen=True)
class negative_squared_distance(TwoPartScore):
  """The negative squared Euclidean distance, −‖a − c‖².

  The result is at most 0. For equal vectors it is 0 up to rounding.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.pairwise import negative_squared_distance
    >>> print(negative_squared_distance()((), jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 4.0]])))
    [[-4.]]
  """

  @override
  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    return vectors, (wide(vectors) ** 2).sum(-1)

  @override
  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    (a, square_a), (c, square_c) = anchors, candidates
    squares = square_a[:, None] + (square_c if c.ndim == 3 else square_c[None])
    return minimum(2 * product(a, c) - squares, 0)


@dataclasses.dataclass(frozen=True)
class bilinear(TwoPartScore):
  """The bilinear form a·(W c), with a learned matrix W [d, d].

  W is initialized to the identity, so the score is initially the dot product.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from contrastax.pairwise import bilinear
    >>> score = bilinear()
    >>> params = score.init(jax.random.key(0), 2)
    >>> print(score(params, jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])))
    [[11.]]

  References:
    van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018, arXiv
    1807.03748.
  """

  @property
  @override
  def symmetric(self) -> bool:
    return False

  @override
  def init(self, key: Array, d: int) -> Params:
    return jnp.eye(d)

  @override
  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    return einsum("...d,de->...e", vectors, params) if anchor else wide(vectors)

  @override
  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    return product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class multilinear(TwoPartScore):
  """The multilinear form of an anchor and several vectors, Σ_d a_d c¹_d c²_d ….

  Anchors are [n, d]. A candidate is the concatenation of `parts` vectors, so candidates are
  [m, parts·d]. With one part, the score is the dot product. For three modalities use two parts: a
  candidate is the concatenation of the vectors of the two other modalities.

  Args:
    parts: the number of vectors in a candidate.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.pairwise import multilinear
    >>> print(multilinear(2)((), jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0, 5.0, 6.0]])))
    [[63.]]

  References:
    Saporta et al., Contrasting with Symile, 2024, arXiv 2411.01053.
  """

  parts: int

  @property
  @override
  def symmetric(self) -> bool:
    return False

  @override
  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    if anchor:
      return vectors
    return wide(vectors).reshape(*vectors.shape[:-1], self.parts, -1).prod(-2)

  @override
  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    return product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class side_by_side(TwoPartScore):
  """Two scores of concatenated vectors, as a tuple (first, second).

  Each vector is the concatenation of one vector for each score. Use this for a loss that trains one
  similarity and weights each pair by another one.

  Args:
    first: the score of the first vectors. It has no parameters.
    second: the score of the second vectors. It has no parameters.
    d: the dimensions of the first vectors.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.pairwise import cosine, dot, side_by_side
    >>> score = side_by_side(cosine(), dot(), d=2)
    >>> similarity, weight = score((), jnp.ones((3, 5)), jnp.ones((4, 5)))
    >>> similarity.shape, weight.shape
    ((3, 4), (3, 4))
  """

  first: Score
  second: Score
  d: int

  @property
  @override
  def symmetric(self) -> bool:
    return self.first.symmetric and self.second.symmetric

  @override
  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    parts = vectors[..., : self.d], vectors[..., self.d :]
    return tuple(
      score.prepare((), part, anchor)
      for score, part in zip((self.first, self.second), parts, strict=True)
    )

  @override
  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    parts = zip((self.first, self.second), anchors, candidates, strict=True)
    return tuple(score.combine((), a, c) for score, a, c in parts)
