"""The arithmetic of scores: floating types, unit vectors and inner products."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from contrastax.core import Array, UserError


def promoted(*vectors: Array) -> tuple[Array, ...]:
  """Converts arrays to one floating type: the type to which JAX promotes their types.

  Integers and booleans become float32, or float64 if another array is float64.

  Args:
    *vectors: the arrays, of any shapes.

  Returns:
    The arrays in the common type.
  """
  dtype = jnp.result_type(*vectors)
  if not jnp.issubdtype(dtype, jnp.floating):
    dtype = jnp.result_type(dtype, jnp.float32)
  return tuple(x if x.dtype == dtype else jnp.asarray(x, dtype) for x in vectors)


def wide(vectors: Array) -> Array:
  """Converts an array to float32, unless its type is wider."""
  return vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))


def is_half(vectors: Array) -> bool:
  """Whether the type is a floating type below float32."""
  floating = jnp.issubdtype(vectors.dtype, jnp.floating)
  return floating and vectors.dtype != jnp.promote_types(vectors.dtype, jnp.float32)


@jax.custom_jvp
def unit(vectors: Array) -> Array:
  """Normalizes vectors to length 1.

      v / ‖v‖

  A vector without an entry above 1e-12 in magnitude gives 0 and has no gradient. The square of a
  large entry does not overflow, and the square of a small entry does not underflow. NaN and
  infinite entries give NaN.

  Args:
    vectors: [..., d].

  Returns:
    [..., d], in at least float32.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.pairwise import unit
    >>> print(unit(jnp.array([0.0, 4.0])))
    [0. 1.]
  """
  return _unit(vectors)[0]


@unit.defjvp
def _unit_jvp(vectors, tangents):
  # With this rule, the backward pass of a large batch stores only the result and 1/‖v‖.
  u, inverse = _unit(*vectors)
  moved = wide(*tangents) * inverse
  return u, moved - u * (u * moved).sum(-1, keepdims=True)


def _unit(vectors: Array) -> tuple[Array, Array]:
  """Returns (v/‖v‖, 1/‖v‖); zeros for a vector that is almost zero.

  Vectors are divided by their largest entry before they are squared, so no square overflows.
  """
  vectors = wide(vectors)
  largest = jnp.abs(vectors).max(-1, keepdims=True)
  is_zero = largest <= 1e-12
  # The inverse of the largest numbers is so small that XLA would round it to 0.
  shrink = jnp.where(largest > 1e36, 2.0**-10, 1).astype(vectors.dtype)
  scaled = (vectors * shrink) / jnp.where(is_zero, 1, largest * shrink)
  squared = (scaled**2).sum(-1, keepdims=True)
  inverse = jnp.where(is_zero, 0, jax.lax.rsqrt(jnp.where(is_zero, 1, squared)))
  # 0 · v keeps NaN: on a CPU, XLA may compute −∞ as the maximum of a row of NaN (`propagate`).
  return scaled * inverse + 0 * vectors, inverse / jnp.where(is_zero, 1, largest)


@jax.custom_jvp
def direction(vectors: Array) -> tuple[Array, Array]:
  """Returns v·2^e in float32 and 1/‖v·2^e‖, for functions of their product only.

  A power of two changes the exponent only, so v·2^e is exact in the type of v. The derivative of
  1/‖v·2^e‖ is part of the derivative of v·2^e, which has no component along v. So a cotangent loses
  its component along v before it is rounded to the type of v. For nearly equal vectors that
  component is almost all of the cotangent, and its rounding error would exceed the rest.

  Args:
    vectors: [..., d].

  Returns:
    (v·2^e [..., d], 1/‖v·2^e‖ [...]). The inverse is 0 for a vector without an entry above 1e-12.
  """
  _, scaled, inverse = _shifted(vectors)
  return scaled, inverse


@direction.defjvp
def _direction_jvp(vectors, tangents):
  (vectors,), (tangent,) = vectors, tangents
  power, scaled, inverse = _shifted(vectors)
  u = scaled * inverse[..., None]
  moved = wide(tangent) * power
  # The ratio is 1. It has the derivative of the inverse, which second derivatives need and which
  # the product does not have.
  constant = jax.lax.stop_gradient(inverse)
  ratio = jnp.where(constant == 0, 1, inverse / jnp.where(constant == 0, 1, constant))[..., None]
  across = (moved - u * (u * moved).sum(-1, keepdims=True)) * ratio
  return direction(vectors), (across, jnp.zeros_like(inverse))


def _shifted(vectors: Array) -> tuple[Array, Array, Array]:
  """Returns (2^e, v·2^e, 1/‖v·2^e‖); the inverse is 0 for a vector without an entry above 1e-12."""
  largest = jnp.abs(wide(vectors)).max(-1, keepdims=True)
  is_zero = largest <= 1e-12
  _, exponent = jnp.frexp(jnp.where(largest > 1e-12, largest, 1))
  power = jnp.ldexp(jnp.ones_like(largest), 2 - exponent)  # 2^-128 would become 0
  # 0 · v keeps NaN: on a CPU, XLA may compute −∞ as the maximum of a row of NaN (`propagate`).
  scaled = jnp.where(is_zero, 0 * wide(vectors), wide(vectors) * power)
  squared = jnp.where(is_zero[..., 0], 1, (scaled**2).sum(-1))
  return power, scaled, jnp.where(is_zero[..., 0], 0, jax.lax.rsqrt(squared))


def product(anchors: Array, candidates: Array) -> Array:
  """Computes the dot product of each pair, accumulated in at least float32.

  Args:
    anchors: [n, d].
    candidates: [m, d] or [n, k, d].

  Returns:
    [n, m] or [n, k].

  Raises:
    UserError: the dimensions differ.
  """
  if anchors.shape[-1] != candidates.shape[-1]:
    raise UserError(
      f"anchors and candidates differ in dimensions: {anchors.shape} and {candidates.shape}"
    )
  anchors, candidates = promoted(anchors, candidates)
  if is_half(anchors):
    return half_product(anchors.dtype, wide(anchors), wide(candidates))
  return einsum(_subscripts(candidates), anchors, candidates)


def half_product(dtype: Any, anchors: Array, candidates: Array) -> Array:
  """Computes the product of float32 vectors in a half-precision type that represents them exactly.

  The derivatives are products in that type too. JAX's own derivatives would multiply the float32
  cotangent, which takes several times as long on an accelerator. Rounding the cotangent costs as
  much accuracy as rounding the gradient to the type of the vectors.

  Args:
    dtype: the half-precision type.
    anchors: [n, d], float32.
    candidates: [m, d] or [n, k, d], float32.

  Returns:
    [n, m] or [n, k], float32.
  """
  return _half_einsum(anchors, candidates, subscripts=_subscripts(candidates), dtype=dtype)


def _subscripts(candidates: Array) -> str:
  return "nd,nkd->nk" if candidates.ndim == 3 else "nd,md->nm"


def einsum(subscripts: str, a: Array, b: Array) -> Array:
  """Computes `jnp.einsum` in full precision, in at least float32.

  Args:
    subscripts: the subscripts of `jnp.einsum`.
    a: the first operand.
    b: the second operand.

  Returns:
    The result.
  """
  # By default, accelerators multiply float32 with fewer bits. At a temperature of 0.01 the error
  # would be visible.
  return jnp.einsum(
    subscripts,
    a,
    b,
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32),
  )


# This is a primitive because its transposes are products in half precision too. The rules that JAX
# offers for functions cannot define a transpose and also keep forward mode and second derivatives.


def _half_einsum(a, b, *, subscripts, dtype):
  return _half.bind(a, b, subscripts=subscripts, dtype=jnp.dtype(dtype))


def _rounded_einsum(a, b, *, subscripts, dtype):
  return einsum(subscripts, a.astype(dtype), b.astype(dtype))


def _abstract(a, b, **parameters):
  (out,) = jax.make_jaxpr(functools.partial(_rounded_einsum, **parameters))(a, b).out_avals
  return out


def _operands(subscripts):
  inputs, out = subscripts.split("->")
  return (*inputs.split(","), out)


def _transpose_first(g, a, b, *, subscripts, dtype):
  first, second, out = _operands(subscripts)
  return _half_einsum(g, b, subscripts=f"{out},{second}->{first}", dtype=dtype)


def _transpose_second(g, a, b, *, subscripts, dtype):
  first, second, out = _operands(subscripts)
  return _half_einsum(g, a, subscripts=f"{out},{first}->{second}", dtype=dtype)


def _batched(operands, axes, *, subscripts, dtype):
  *names, out = _operands(subscripts)
  letter = next(x for x in "zyxwvuts" if x not in subscripts)  # each `vmap` adds one letter
  names = [x if axis is None else letter + x for x, axis in zip(names, axes, strict=True)]
  operands = [
    x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True)
  ]
  subscripts = f"{names[0]},{names[1]}->{letter}{out}"
  return _half_einsum(*operands, subscripts=subscripts, dtype=dtype), 0


_half = Primitive("half_einsum")
_half.def_impl(jax.jit(_rounded_einsum, static_argnames=("subscripts", "dtype")))
_half.def_abstract_eval(_abstract)
ad.defbilinear(_half, _transpose_first, _transpose_second)
batching.primitive_batchers[_half] = _batched
mlir.register_lowering(_half, mlir.lower_fun(_rounded_einsum, multiple_results=False))
