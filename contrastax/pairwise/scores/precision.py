"""Types of vectors, unit vectors and inner products: the arithmetic of all scores."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from contrastax.core import Array, UserError


def promoted(*vectors: Array) -> tuple[Array, ...]:
  """The vectors in one floating type, the one that JAX promotes their types to.

  Integers and booleans become float32 (float64 beside float64).
  """
  dtype = jnp.result_type(*vectors)
  if not jnp.issubdtype(dtype, jnp.floating):
    dtype = jnp.result_type(dtype, jnp.float32)
  return tuple(x if x.dtype == dtype else jnp.asarray(x, dtype) for x in vectors)


def wide(vectors: Array) -> Array:
  """The vectors in float32 at least."""
  return vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))


def is_half(vectors: Array) -> bool:
  """Whether the vectors are of a floating type below float32."""
  floating = jnp.issubdtype(vectors.dtype, jnp.floating)
  return floating and vectors.dtype != jnp.promote_types(vectors.dtype, jnp.float32)


@jax.custom_jvp
def unit(vectors: Array) -> Array:
  """v/‖v‖ along the last axis, in float32 at least.

  A vector without an entry above 1e-12 gives 0 and has no gradient. Neither the square of a large
  entry overflows nor that of a small one underflows. NaN and infinite entries give NaN.
  """
  return _unit(vectors)[0]


@unit.defjvp
def _(vectors, tangents):
  # Stated, so that of a large batch only the result need be kept for the backward pass.
  u, inverse = _unit(*vectors)
  moved = wide(*tangents) * inverse
  return u, moved - u * (u * moved).sum(-1, keepdims=True)


def _unit(vectors):
  """(v/‖v‖, 1/‖v‖), or zeros. Divided by its largest entry first, a square cannot overflow."""
  vectors = wide(vectors)
  largest = jnp.abs(vectors).max(-1, keepdims=True)
  none = largest <= 1e-12
  # The inverse of the largest numbers is so small that XLA would make it 0.
  shrink = jnp.where(largest > 1e36, 2.0**-10, 1).astype(vectors.dtype)
  scaled = (vectors * shrink) / jnp.where(none, 1, largest * shrink)
  squared = (scaled**2).sum(-1, keepdims=True)
  inverse = jnp.where(none, 0, jax.lax.rsqrt(jnp.where(none, 1, squared)))
  # 0 · v, for the maximum of NaN alone may be −∞ (`propagate`).
  return scaled * inverse + 0 * vectors, inverse / jnp.where(none, 1, largest)


@jax.custom_jvp
def direction(vectors: Array) -> tuple[Array, Array]:
  """(v·2^e in float32, 1/‖v·2^e‖), for what depends on their product alone.

  A power of two only shifts: back in v's own precision the first is exact. The derivative of the
  second is put into that of the first, which is freed of what lies along v. So a cotangent is freed
  of it before it is rounded to v's precision: for vectors that nearly agree that is nearly all of
  it, and its rounding would be larger than what is left.
  """
  _, scaled, inverse = _shifted(vectors)
  return scaled, inverse


@direction.defjvp
def _(vectors, tangents):
  (vectors,), (tangent,) = vectors, tangents
  power, scaled, inverse = _shifted(vectors)
  u = scaled * inverse[..., None]
  moved = wide(tangent) * power
  # 1, with the derivative of the inverse, which second derivatives need and the product has not.
  held = jax.lax.stop_gradient(inverse)
  ratio = jnp.where(held == 0, 1, inverse / jnp.where(held == 0, 1, held))[..., None]
  across = (moved - u * (u * moved).sum(-1, keepdims=True)) * ratio
  return direction(vectors), (across, jnp.zeros_like(inverse))


def _shifted(vectors):
  """(2^e, v·2^e, 1/‖v·2^e‖), the latter 0 for a vector without an entry above 1e-12."""
  largest = jnp.abs(wide(vectors)).max(-1, keepdims=True)
  none = largest <= 1e-12
  _, exponent = jnp.frexp(jnp.where(largest > 1e-12, largest, 1))
  power = jnp.ldexp(jnp.ones_like(largest), 2 - exponent)  # 2^-128 would become 0
  # 0 · v, for the maximum of NaN alone may be −∞ (`propagate`).
  scaled = jnp.where(none, 0 * wide(vectors), wide(vectors) * power)
  squared = jnp.where(none[..., 0], 1, (scaled**2).sum(-1))
  return power, scaled, jnp.where(none[..., 0], 0, jax.lax.rsqrt(squared))


def product(anchors: Array, candidates: Array) -> Array:
  """a·c, [n, m] or [n, k], accumulated in float32 at least."""
  if anchors.shape[-1] != candidates.shape[-1]:
    raise UserError(
      f"anchors and candidates differ in dimensions: {anchors.shape} and {candidates.shape}"
    )
  anchors, candidates = promoted(anchors, candidates)
  if is_half(anchors):
    return half_product(anchors.dtype, wide(anchors), wide(candidates))
  return einsum(_subscripts(candidates), anchors, candidates)


def half_product(dtype, anchors: Array, candidates: Array) -> Array:
  """The product of float32 vectors that are exact in a half-precision type, in that type.

  So are its derivatives. JAX's own would multiply the float32 cotangent, several times slower on
  an accelerator; what rounding it costs is what rounding the gradient to the vectors' type costs.
  """
  return _half_einsum(anchors, candidates, subscripts=_subscripts(candidates), dtype=dtype)


def _subscripts(candidates):
  return "nd,nkd->nk" if candidates.ndim == 3 else "nd,md->nm"


def einsum(subscripts: str, a: Array, b: Array) -> Array:
  """`jnp.einsum` in full precision, in float32 at least."""
  # Accelerators multiply float32 in fewer bits unless told; at temperature 0.01 that is visible.
  return jnp.einsum(
    subscripts,
    a,
    b,
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32),
  )


# A primitive, because its transposes are products in half precision too, and no rule that JAX
# offers for functions states a transpose and leaves forward mode and second derivatives.


def _half_einsum(a, b, *, subscripts, dtype):
  return _half.bind(a, b, subscripts=subscripts, dtype=jnp.dtype(dtype))


def _rounded_einsum(a, b, *, subscripts, dtype):
  return einsum(subscripts, a.astype(dtype), b.astype(dtype))


def _abstract(a, b, **how):
  (out,) = jax.make_jaxpr(functools.partial(_rounded_einsum, **how))(a, b).out_avals
  return out


def _operands(subscripts):
  inputs, out = subscripts.split("->")
  return (*inputs.split(","), out)


def _to_first(g, a, b, *, subscripts, dtype):
  first, second, out = _operands(subscripts)
  return _half_einsum(g, b, subscripts=f"{out},{second}->{first}", dtype=dtype)


def _to_second(g, a, b, *, subscripts, dtype):
  first, second, out = _operands(subscripts)
  return _half_einsum(g, a, subscripts=f"{out},{first}->{second}", dtype=dtype)


def _batched(operands, axes, *, subscripts, dtype):
  *names, out = _operands(subscripts)
  letter = next(x for x in "zyxwvuts" if x not in subscripts)  # one for each `vmap`
  names = [x if axis is None else letter + x for x, axis in zip(names, axes, strict=True)]
  operands = [
    x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True)
  ]
  subscripts = f"{names[0]},{names[1]}->{letter}{out}"
  return _half_einsum(*operands, subscripts=subscripts, dtype=dtype), 0


_half = Primitive("half_einsum")
_half.def_impl(jax.jit(_rounded_einsum, static_argnames=("subscripts", "dtype")))
_half.def_abstract_eval(_abstract)
ad.defbilinear(_half, _to_first, _to_second)
batching.primitive_batchers[_half] = _batched
mlir.register_lowering(_half, mlir.lower_fun(_rounded_einsum, multiple_results=False))
