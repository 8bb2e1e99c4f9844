"""Which derivatives an evaluation in tiles has, and one line for those that it has not.

Tiles have a gradient, and forward mode over that gradient (so `jax.hessian`, and the Hessian times a
vector by `jax.jvp` of `jax.grad`). Forward mode alone, and reverse mode twice, would need the rules
of JAX for a loop, which keep every tile; without these functions JAX would raise from its inside.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from contrastax.core import UserError

_FORWARD = 'tiles have no forward-mode derivative; take jax.grad, or jax.jvp of jax.grad, or plan=Plan(block="dense")'
_TWICE = (
  "tiles have no reverse-mode derivative of their gradient; take forward mode over reverse "
  '(jax.hessian, jax.jvp of jax.grad), or plan=Plan(block="dense")'
)


def _refuse(message):
  def refuse(*_, **__):
    raise UserError(message)

  return refuse


def _identity(name, *, evaluate, lower, transpose):
  """x ↦ x, whose tangents are evaluated, compiled and transposed by these functions."""
  of_tangents = Primitive(name)
  of_tangents.def_impl(evaluate)
  of_tangents.def_abstract_eval(lambda x: x)
  mlir.register_lowering(of_tangents, lower)
  ad.deflinear(of_tangents, transpose)
  batching.defvectorized(of_tangents)

  @jax.custom_jvp
  def identity(x):
    return x

  @identity.defjvp
  def _(primals, tangents):
    return primals[0], of_tangents.bind(tangents[0])

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
  """The tree. Its tangents may be transposed, as in reverse mode, but not computed."""
  return _each_float(_not_computed, tree)


def without_transpose(tree: Any) -> Any:
  """The tree. Its tangents may be computed, as in forward mode, but not transposed."""
  return _each_float(_not_transposed, tree)


def _each_float(identity, tree):
  return jax.tree.map(lambda x: identity(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
