"""Errors for the derivatives that an evaluation in tiles does not support.

An evaluation in tiles supports a gradient, and forward mode over that gradient. So `jax.hessian`
works, and so does `jax.jvp` of `jax.grad`, which is the product of the Hessian and a vector.
Forward mode alone and reverse mode over reverse mode would use JAX's rules for loops, which store
every tile. The functions of this module raise a `UserError` in both cases. Without them, JAX would
raise an error about its own internals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from contrastax.core import Array, UserError

_FORWARD = (
  "tiles have no forward-mode derivative; use jax.grad, or jax.jvp of jax.grad, or "
  'plan=Plan(block="dense")'
)
_TWICE = (
  "tiles have no reverse-mode derivative of their gradient; use forward mode over reverse mode "
  '(jax.hessian, jax.jvp of jax.grad), or plan=Plan(block="dense")'
)


def _refuse(message: str) -> Callable[..., Any]:
  def refuse(*_, **__):
    raise UserError(message)

  return refuse


def _identity(
  name: str,
  *,
  evaluate: Callable[..., Any],
  lower: Callable[..., Any],
  transpose: Callable[..., Any],
) -> Callable[[Array], Array]:
  """Returns the function x ↦ x, with its own rules for tangents.

  Args:
    name: the name of the primitive that is applied to tangents.
    evaluate: evaluates a tangent outside of `jax.jit`.
    lower: compiles a tangent.
    transpose: maps a cotangent to the list of its transposes.
  """
  tangent_identity = Primitive(name)
  tangent_identity.def_impl(evaluate)
  tangent_identity.def_abstract_eval(lambda x: x)
  mlir.register_lowering(tangent_identity, lower)
  ad.deflinear(tangent_identity, transpose)
  batching.defvectorized(tangent_identity)

  @jax.custom_jvp
  def identity(x):
    return x

  @identity.defjvp
  def _(primals, tangents):
    return primals[0], tangent_identity.bind(tangents[0])

  return identity


_not_computed = _identity(
  "tangent_not_computed",
  evaluate=_refuse(_FORWARD),
  lower=_refuse(_FORWARD),
  transpose=lambda cotangent: [cotangent],
)
_not_transposed = _identity(
  "tangent_not_transposed",
  evaluate=lambda x: x,
  lower=lambda context, x: [x],
  transpose=_refuse(_TWICE),
)


def without_forward_mode(tree: Any) -> Any:
  """Returns the tree, with tangents that can be transposed but not computed.

  So reverse mode works, and forward mode raises `UserError`.
  """
  return _map_floats(_not_computed, tree)


def without_transpose(tree: Any) -> Any:
  """Returns the tree, with tangents that can be computed but not transposed.

  So forward mode works, and reverse mode raises `UserError`.
  """
  return _map_floats(_not_transposed, tree)


def _map_floats(function: Callable[[Array], Array], tree: Any) -> Any:
  return jax.tree.map(lambda x: function(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
