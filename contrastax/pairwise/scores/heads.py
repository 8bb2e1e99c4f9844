"""Several heads in a row: with a temperature common to all pairs, or one of each pair in each head."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from contrastax.core import UserError
from contrastax.pairwise.scores.precision import einsum, unit
from contrastax.pairwise.scores.similarity import TwoPartScore
from contrastax.propagate import relu


@dataclasses.dataclass(frozen=True)
class multi_head(TwoPartScore):
  """Σ_c cos(x_c, y_c): vectors [.., C·d] are those of C `heads` in a row, of d dimensions each."""

  heads: int

  def __post_init__(self):
    _check(self.heads)

  def prepare(self, params, vectors, anchor):
    return unit(_split(vectors, self.heads))

  def combine(self, params, anchors, candidates):
    return _of_each_head(anchors, candidates).sum(0)


@dataclasses.dataclass(frozen=True)
class adaptive_heads(TwoPartScore):
  """AMCL: the similarities of C heads, each divided by a temperature of the pair's own.

    score(x, y) = Σ_c s_c / τ_c,      s_c = cos(x_c, y_c)
    τ_c = min_temperature + (max_temperature − min_temperature) σ(−φ(x_c)·φ(y_c))
    penalty(x, y) = Σ_c (d/2) log τ_c + 1/τ_c

  Vectors [.., C·d] are those of C `heads` in a row, of d dimensions each: of a projection of C·d
  outputs. φ is a perceptron d → `hidden` → d, the same for all heads. The penalty keeps τ from 0 and
  from growing: a method adds `regularizer` times its mean over each anchor's positives to what it
  minimizes. The score is in logits, so the method's temperature is `fixed(1.0)`.

  Wang et al. 2024, arXiv 2310.05615, §3: C = 3, τ in [1e-5, 2], regularizer 0.1. Its published code
  cannot be run and has no negatives; this follows the paper.
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
        f"adaptive_heads needs 0 < min_temperature < max_temperature, not {self.min_temperature} and {self.max_temperature}"
      )
    if not (isinstance(self.hidden, int) and self.hidden > 0):
      raise UserError(
        f"adaptive_heads: hidden is a number of units, at least 1, not {self.hidden!r}"
      )
    if not self.regularizer >= 0:
      raise UserError(f"adaptive_heads: regularizer is at least 0, not {self.regularizer!r}")

  def init(self, key, d):
    d = _of_one_head(d, self.heads)
    keys = jax.random.split(key)
    first = jax.random.normal(keys[0], (d, self.hidden)) * (2 / d) ** 0.5
    second = jax.random.normal(keys[1], (self.hidden, d)) * (1 / (self.hidden * d)) ** 0.5
    return {"first": first, "bias": jnp.zeros(self.hidden), "second": second}

  def prepare(self, params, vectors, anchor):
    z = unit(_split(vectors, self.heads))
    inner = relu(einsum("...d,dh->...h", z, params["first"]) + params["bias"])
    return z, einsum("...h,hd->...d", inner, params["second"])

  def combine(self, params, anchors, candidates):
    similarity, temperature = self.temperatures(anchors, candidates)
    return (similarity / temperature).sum(0)

  def temperatures(self, anchors, candidates):
    """(s, τ), each [C, n, m], from what `prepare` gives."""
    (a, of_a), (c, of_c) = anchors, candidates
    share = jax.nn.sigmoid(-_of_each_head(of_a, of_c))
    return _of_each_head(a, c), self.min_temperature + (
      self.max_temperature - self.min_temperature
    ) * share

  @property
  def penalized(self):
    """The score that gives (score, penalty) of each pair."""
    return _Penalized(self)


@dataclasses.dataclass(frozen=True)
class _Penalized(TwoPartScore):
  score: adaptive_heads

  def prepare(self, params, vectors, anchor):
    return self.score.prepare(params, vectors, anchor)

  def combine(self, params, anchors, candidates):
    similarity, temperature = self.score.temperatures(anchors, candidates)
    d = anchors[0].shape[-1]
    penalty = d / 2 * jnp.log(temperature) + 1 / temperature
    return (similarity / temperature).sum(0), penalty.sum(0)


def _split(vectors, heads):
  """[.., C·d] → [.., C, d]."""
  return vectors.reshape(*vectors.shape[:-1], heads, _of_one_head(vectors.shape[-1], heads))


def _of_one_head(d, heads):
  if d % heads:
    raise UserError(
      f"{d} dimensions are not divisible among {heads} heads; give the projection more"
    )
  return d // heads


def _of_each_head(anchors, candidates):
  """Products of each head, [C, n, m] or [C, n, k]."""
  per_anchor = candidates.ndim == 4
  return einsum("ncd,nkcd->cnk" if per_anchor else "ncd,mcd->cnm", anchors, candidates)


def _check(heads):
  if not (isinstance(heads, int) and heads > 0):
    raise UserError(f"heads is a number of heads, at least 1, not {heads!r}")
