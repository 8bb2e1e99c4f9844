"""Scores: the only place where vectors meet. Each is [n, m], or [n, k] for a set per anchor.

A score may also be a tuple of such arrays, which the channels then are given: `side_by_side`.

A score may do its work in two parts, score(params, a, c) = meet(params, once(params, a, True),
once(params, c, False)): what concerns one vector alone is done once and not in every tile, for
vectors [..., d] with any leading axes.
`symmetric` says that score(a, c) = score(c, a). A score of a user's own needs neither: any
`(params, anchors, candidates) -> [n, m]` is one, if it is hashable.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from contrastax.core import UserError


class InTwoParts:
  symmetric = True

  def init(self, key, d):
    return ()

  def once(self, params, vectors, anchor):
    return vectors

  def __call__(self, params, anchors, candidates):
    once = self.once(params, anchors, True), self.once(params, candidates, False)
    return self.meet(params, *once)


@dataclasses.dataclass(frozen=True)
class dot(InTwoParts):
  """a·c."""

  def meet(self, params, anchors, candidates):
    return _product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class cosine(InTwoParts):
  """a·c / (‖a‖‖c‖), in [−1, 1]; a vector of no entry above 1e-12 has cosine 0 and no gradient."""

  def once(self, params, vectors, anchor):
    if vectors.dtype == _wide(vectors).dtype:
      return unit(vectors)
    # Unit vectors of half precision would be rounded again: their lengths divide the product.
    scaled, inverse = _direction(vectors)
    of_dtype = jnp.zeros((*vectors.shape[:-1], 0), vectors.dtype)
    return scaled, jax.lax.stop_gradient(inverse), of_dtype

  def meet(self, params, anchors, candidates):
    if not isinstance(anchors, tuple):
      return _product(anchors, candidates)
    (a, of_a, like), (c, of_c, _) = anchors, candidates
    return _half_product(like.dtype, a, c) * of_a[:, None] * (of_c if c.ndim == 3 else of_c[None])


@dataclasses.dataclass(frozen=True)
class negative_squared_distance(InTwoParts):
  """−‖a − c‖², at most 0; exactly 0 for equal vectors only up to rounding."""

  def once(self, params, vectors, anchor):
    return vectors, (_wide(vectors) ** 2).sum(-1)

  def meet(self, params, anchors, candidates):
    (a, of_a), (c, of_c) = anchors, candidates
    squares = of_a[:, None] + (of_c if c.ndim == 3 else of_c[None])
    return jnp.minimum(2 * _product(a, c) - squares, 0)


@dataclasses.dataclass(frozen=True)
class bilinear(InTwoParts):
  """a·W c, with W [d, d] learned; it begins as the dot product, W = 1 (CPC: arXiv 1807.03748)."""

  symmetric = False

  def init(self, key, d):
    return jnp.eye(d)

  def once(self, params, vectors, anchor):
    return einsum("...d,de->...e", vectors, params) if anchor else _wide(vectors)

  def meet(self, params, anchors, candidates):
    return _product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class multilinear(InTwoParts):
  """Σ_d a_d c¹_d c²_d …: anchors [n, d], and candidates [m, parts·d], each `parts` vectors in a row.

  The similarity of Symile (Saporta et al. 2024, arXiv 2411.01053): with one part, the dot
  product. Three modalities: parts = 2, each candidate the vectors of the two others.
  """

  parts: int
  symmetric = False

  def once(self, params, vectors, anchor):
    if anchor:
      return vectors
    return _wide(vectors).reshape(*vectors.shape[:-1], self.parts, -1).prod(-2)

  def meet(self, params, anchors, candidates):
    return _product(anchors, candidates)


@dataclasses.dataclass(frozen=True)
class side_by_side(InTwoParts):
  """(first, second): two scores of vectors that are two in a row, the first of d dimensions.

  For losses that weigh a pair by another similarity than they train. Without parameters.
  """

  first: InTwoParts
  second: InTwoParts
  d: int

  @property
  def symmetric(self):
    return self.first.symmetric and self.second.symmetric

  def once(self, params, vectors, anchor):
    parts = vectors[..., : self.d], vectors[..., self.d :]
    return tuple(
      score.once((), part, anchor)
      for score, part in zip((self.first, self.second), parts, strict=True)
    )

  def meet(self, params, anchors, candidates):
    meetings = zip((self.first, self.second), anchors, candidates, strict=True)
    return tuple(score.meet((), a, c) for score, a, c in meetings)


@jax.custom_jvp
def unit(vectors):
  """v/‖v‖ along the last axis, for any finite v; no entry above 1e-12: zero, no gradient."""
  return _unit(vectors)[0]


@unit.defjvp
def _(vectors, tangents):
  # Stated, so that of a large batch only the result need be kept for the backward pass.
  u, inverse = _unit(*vectors)
  moved = _wide(*tangents) * inverse
  return u, moved - u * (u * moved).sum(-1, keepdims=True)


def _unit(vectors):
  """(v/‖v‖, 1/‖v‖), or zeros. Divided by its largest entry first, a square cannot overflow."""
  vectors = _wide(vectors)
  largest = jnp.abs(vectors).max(-1, keepdims=True)
  some = largest > 1e-12
  scaled = vectors / jnp.where(some, largest, 1)
  inverse = jnp.where(
    some, jax.lax.rsqrt(jnp.where(some, (scaled**2).sum(-1, keepdims=True), 1)), 0
  )
  return scaled * inverse, inverse / jnp.where(some, largest, 1)


@jax.custom_vjp
def _direction(vectors):
  """(v·2^e in float32, 1/‖v·2^e‖), for what depends on their product alone.

  A power of two only shifts: back in v's own precision the first is exact. Its cotangent is freed
  of what lies along v before it is rounded to that precision. For vectors that nearly agree that
  is nearly all of it, and its rounding would be larger than what is left.
  """
  largest = jnp.abs(_wide(vectors)).max(-1, keepdims=True)
  some = largest > 1e-12
  _, exponent = jnp.frexp(jnp.where(some, largest, 1))
  scaled = jnp.where(some, _wide(vectors) * jnp.ldexp(jnp.ones_like(largest), -exponent), 0)
  squared = jnp.where(some[..., 0], (scaled**2).sum(-1), 1)
  return scaled, jnp.where(some[..., 0], jax.lax.rsqrt(squared), 0)


def _direction_forward(vectors):
  scaled, inverse = _direction(vectors)
  return (scaled, inverse), (vectors, scaled, inverse)


def _direction_backward(residuals, cotangents):
  vectors, scaled, inverse = residuals
  g, _ = cotangents
  u = scaled * inverse[..., None]
  across = g - u * (u * g).sum(-1, keepdims=True)
  largest = jnp.abs(_wide(vectors)).max(-1, keepdims=True)
  _, exponent = jnp.frexp(jnp.where(largest > 1e-12, largest, 1))
  return ((across * jnp.ldexp(jnp.ones_like(largest), -exponent)).astype(vectors.dtype),)


_direction.defvjp(_direction_forward, _direction_backward)


def _product(anchors, candidates):
  """a·c, accumulated in float32 at least."""
  if anchors.shape[-1] != candidates.shape[-1]:
    raise UserError(
      f"anchors and candidates differ in dimensions: {anchors.shape} and {candidates.shape}"
    )
  if anchors.dtype == candidates.dtype and anchors.dtype != _wide(anchors).dtype:
    return _half_product(anchors.dtype, _wide(anchors), _wide(candidates))
  return _dot(anchors, candidates)


def _dot(anchors, candidates):
  return einsum("nd,nkd->nk" if candidates.ndim == 3 else "nd,md->nm", anchors, candidates)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _half_product(dtype, anchors, candidates):
  """The product in half precision of float32 vectors that are exact in it; and so its transposes.

  JAX's own would multiply the float32 cotangent, several times slower on an accelerator; what
  rounding it costs is what rounding the gradient to the vectors' precision costs.
  """
  return _dot(anchors.astype(dtype), candidates.astype(dtype))


def _forward(dtype, anchors, candidates):
  return _half_product(dtype, anchors, candidates), (anchors, candidates)


def _backward(dtype, vectors, g):
  anchors, candidates = (x.astype(dtype) for x in vectors)
  g = g.astype(dtype)
  to_anchors, to_candidates = (
    ("nk,nkd->nd", "nk,nd->nkd") if candidates.ndim == 3 else ("nm,md->nd", "nm,nd->md")
  )
  return einsum(to_anchors, g, candidates), einsum(to_candidates, g, anchors)


_half_product.defvjp(_forward, _backward)


def einsum(subscripts, a, b):
  # Accelerators multiply float32 in fewer bits unless told; at temperature 0.01 that is visible.
  return jnp.einsum(
    subscripts,
    a,
    b,
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32),
  )


def _wide(vectors):
  return vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
