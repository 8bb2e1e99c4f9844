"""Scores of vectors with several heads.

The vector of C heads is the concatenation of C vectors [d], so its shape is [C·d].
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Params, UserError
from contrastax.pairwise.scores.precision import einsum, unit
from contrastax.pairwise.scores.similarity import TwoPartScore
from contrastax.propagate import relu


@dataclasses.dataclass(frozen=True)
class multi_head(TwoPartScore):
  """The sum of the cosines of the heads, Σ_c cos(x_c, y_c).

  Vectors are [..., C·d], the concatenation of the C heads.

  Args:
    heads: the number of heads C.

  Raises:
    UserError: `heads` is not an integer of at least 1, or does not divide the dimensions.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.pairwise import multi_head
    >>> x, y = jnp.array([[1.0, 0.0, 0.0, 2.0]]), jnp.array([[3.0, 0.0, 4.0, 0.0]])
    >>> print(multi_head(2)((), x, y))
    [[1.]]
  """

  heads: int

  def __post_init__(self):
    _check(self.heads)

  @override
  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    return unit(_split(vectors, self.heads))

  @override
  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    return _products(anchors, candidates).sum(0)


@dataclasses.dataclass(frozen=True)
class adaptive_heads(TwoPartScore):
  """The similarities of several heads, each divided by a temperature of the pair and the head.

      score(x, y) = Σ_c s_c / τ_c,      s_c = cos(x_c, y_c)
      τ_c = min_temperature + (max_temperature − min_temperature) σ(−φ(x_c)·φ(y_c))
      penalty(x, y) = Σ_c (d/2) log τ_c + 1/τ_c

  Vectors are [..., C·d], the concatenation of the C heads. φ is a perceptron d → `hidden` → d,
  shared by the heads. The penalty keeps τ away from 0 and bounds its growth. A method adds
  `regularizer` times the mean penalty of each anchor's positives to its objective. The score is in
  logits, so the temperature of the method must be `fixed(1.0)`.

  Args:
    heads: the number of heads C.
    min_temperature: the lower bound of τ, above 0.
    max_temperature: the upper bound of τ.
    hidden: the hidden units of φ.
    regularizer: the weight of the penalty, at least 0.

  Raises:
    UserError: a value is outside its range, or `heads` does not divide the dimensions.

  Example:
    >>> import jax
    >>> from contrastax.pairwise import adaptive_heads
    >>> score = adaptive_heads(heads=2, hidden=4)
    >>> params = score.init(jax.random.key(0), 6)
    >>> x, y = jax.random.normal(jax.random.key(1), (2, 5, 6))
    >>> score(params, x, y).shape
    (5, 5)

  References:
    Wang et al. (AMCL), 2024, arXiv 2310.05615, §3, with C = 3, τ in [1e-5, 2] and regularizer 0.1.
    The published code cannot be run and has no negatives. This class follows the paper.
  """

  has_temperature: ClassVar[bool] = True

  heads: int = 3
  min_temperature: float = 1e-5
  max_temperature: float = 2.0
  hidden: int = 128
  regularizer: float = 0.1

  def __post_init__(self):
    _check(self.heads)
    if not 0 < self.min_temperature < self.max_temperature:
      raise UserError(
        "adaptive_heads needs 0 < min_temperature < max_temperature, not "
        f"{self.min_temperature} and {self.max_temperature}"
      )
    if not (isinstance(self.hidden, int) and self.hidden > 0):
      raise UserError(
        f"adaptive_heads: hidden must be an integer of at least 1, not {self.hidden!r}"
      )
    if not self.regularizer >= 0:
      raise UserError(f"adaptive_heads: regularizer must be at least 0, not {self.regularizer!r}")

  @override
  def init(self, key: Array, d: int) -> Params:
    d = _head_size(d, self.heads)
    keys = jax.random.split(key)
    first = jax.random.normal(keys[0], (d, self.hidden)) * (2 / d) ** 0.5
    second = jax.random.normal(keys[1], (self.hidden, d)) * (1 / (self.hidden * d)) ** 0.5
    return {"first": first, "bias": jnp.zeros(self.hidden), "second": second}

  @override
  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    z = unit(_split(vectors, self.heads))
    inner = relu(einsum("...d,dh->...h", z, params["first"]) + params["bias"])
    return z, einsum("...h,hd->...d", inner, params["second"])

  @override
  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    similarity, temperature = self.temperatures(anchors, candidates)
    return (similarity / temperature).sum(0)

  def temperatures(self, anchors: Any, candidates: Any) -> tuple[Array, Array]:
    """Computes the similarity and the temperature of each pair in each head.

    Args:
      anchors: the result of `prepare` for the anchors.
      candidates: the result of `prepare` for the candidates.

    Returns:
      (s, τ), each [C, n, m] or [C, n, k].
    """
    (a, phi_a), (c, phi_c) = anchors, candidates
    share = jax.nn.sigmoid(-_products(phi_a, phi_c))
    range_ = self.max_temperature - self.min_temperature
    return _products(a, c), self.min_temperature + range_ * share

  @property
  @override
  def penalized(self) -> _Penalized:
    return _Penalized(self)


@dataclasses.dataclass(frozen=True)
class _Penalized(TwoPartScore):
  """The score as a tuple (score, penalty)."""

  score: adaptive_heads

  @override
  def prepare(self, params: Params, vectors: Array, anchor: bool) -> Any:
    return self.score.prepare(params, vectors, anchor)

  @override
  def combine(self, params: Params, anchors: Any, candidates: Any) -> Any:
    similarity, temperature = self.score.temperatures(anchors, candidates)
    d = anchors[0].shape[-1]
    penalty = d / 2 * jnp.log(temperature) + 1 / temperature
    return (similarity / temperature).sum(0), penalty.sum(0)


def _split(vectors: Array, heads: int) -> Array:
  """Splits [..., C·d] into [..., C, d]."""
  return vectors.reshape(*vectors.shape[:-1], heads, _head_size(vectors.shape[-1], heads))


def _head_size(d: int, heads: int) -> int:
  if d % heads:
    raise UserError(
      f"{d} dimensions cannot be divided into {heads} heads; use a multiple of {heads} as the "
      "size of the projection"
    )
  return d // heads


def _products(anchors: Array, candidates: Array) -> Array:
  """Returns the dot products in each head, [C, n, m] or [C, n, k]."""
  per_anchor = candidates.ndim == 4
  return einsum("ncd,nkcd->cnk" if per_anchor else "ncd,mcd->cnm", anchors, candidates)


def _check(heads: int) -> None:
  if not (isinstance(heads, int) and heads > 0):
    raise UserError(f"heads must be an integer of at least 1, not {heads!r}")
