"""Scores: the only place where vectors meet. Each is [n, m], or [n, k] for a set per anchor."""

import dataclasses

import jax
import jax.numpy as jnp


class _Parameterless:
  def init(self, key, d):
    return ()


@dataclasses.dataclass(frozen=True)
class dot(_Parameterless):
  """a·c."""

  def __call__(self, params, anchors, candidates):
    return _product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class cosine(_Parameterless):
  """a·c / (‖a‖‖c‖), in [−1, 1]; a vector of no entry above 1e-12 has cosine 0 and no gradient."""

  def __call__(self, params, anchors, candidates):
    return _product(unit(anchors), unit(candidates))


@dataclasses.dataclass(frozen=True)
class negative_squared_distance(_Parameterless):
  """−‖a − c‖², at most 0; exactly 0 for equal vectors only up to rounding."""

  def __call__(self, params, anchors, candidates):
    anchors, candidates = _wide(anchors), _wide(candidates)
    squares = (candidates**2).sum(-1)
    squares = (anchors**2).sum(-1)[:, None] + (squares if candidates.ndim == 3 else squares[None])
    return jnp.minimum(2 * _product(anchors, candidates) - squares, 0)


def unit(vectors):
  """v/‖v‖ along the last axis, for any finite v; no entry above 1e-12: zero, no gradient.

  The vector is first divided by its largest entry, so that its square cannot overflow;
  the result does not depend on that factor, which therefore carries no gradient.
  """
  vectors = _wide(vectors)
  largest = jax.lax.stop_gradient(jnp.abs(vectors).max(-1, keepdims=True))
  some = largest > 1e-12
  scaled = vectors / jnp.where(some, largest, 1)
  squared = jnp.where(some, (scaled**2).sum(-1, keepdims=True), 1)
  return jnp.where(some, scaled * jax.lax.rsqrt(squared), 0)


def _product(anchors, candidates):
  subscripts = "nd,nkd->nk" if candidates.ndim == 3 else "nd,md->nm"
  # Accelerators multiply float32 in fewer bits unless told; at temperature 0.01 that is visible.
  either = jnp.promote_types(anchors.dtype, candidates.dtype)
  return jnp.einsum(
    subscripts,
    anchors,
    candidates,
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.promote_types(either, jnp.float32),
  )


def _wide(vectors):
  return vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
