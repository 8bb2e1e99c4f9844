"""Replaces operations that jax2onnx cannot convert by others with the same result."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

from contrastax.core import Array

CALLS = {
  "jit": "jaxpr",
  "pjit": "jaxpr",
  "checkpoint": "jaxpr",
  "closed_call": "call_jaxpr",
  "custom_jvp_call": "call_jaxpr",
  "custom_vjp_call": "call_jaxpr",
}
"""The operations that call a function, and the parameter that has the function."""


def rewritten(traced: ClosedJaxpr) -> Callable[..., Array]:
  """Returns a function that computes a traced function with one result.

  A choice by platform becomes that of its default. A maximum over windows becomes the maximum of
  slices, because the converter gives a pooling of four axes to ONNX, which has at most three.

  Args:
    traced: the result of `jax.make_jaxpr`.
  """

  def function(*inputs: Array) -> Array:
    (result,) = _evaluate(traced, inputs)
    return result

  return function


def _evaluate(traced: ClosedJaxpr, inputs: Sequence[Any]) -> list[Any]:
  jaxpr = traced.jaxpr
  values = dict(zip(jaxpr.constvars, traced.consts, strict=True))
  values |= dict(zip(jaxpr.invars, inputs, strict=True))

  def read(variable: Any) -> Any:
    return variable.val if isinstance(variable, Literal) else values[variable]

  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    arguments = [read(variable) for variable in equation.invars]
    if name == "platform_index":
      results = [len(params["platforms"]) - 1]  # the last one is the default
    elif name == "cond" and isinstance(arguments[0], int):
      results = _evaluate(params["branches"][arguments[0]], arguments[1:])
    elif name in CALLS:
      inner = params[CALLS[name]]
      closed = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
      results = _evaluate(closed, arguments)
    elif name == "reduce_window_max":
      results = [_window_max(arguments[0], **params)]
    else:
      results = equation.primitive.bind(*arguments, **params)
      results = results if equation.primitive.multiple_results else [results]
    values |= dict(zip(equation.outvars, results, strict=True))
  return [read(variable) for variable in jaxpr.outvars]


def _window_max(
  x: Array,
  *,
  window_dimensions: Sequence[int],
  window_strides: Sequence[int],
  padding: Sequence[tuple[int, int]],
  base_dilation: Sequence[int],
  window_dilation: Sequence[int],
) -> Array:
  """Returns the maximum of each window as the maximum of the slices at its offsets."""
  if any(each != 1 for each in (*base_dilation, *window_dilation)):
    raise ValueError("a maximum over windows with dilation")
  x = jnp.pad(x, padding, constant_values=-jnp.inf)
  sizes = [
    (size - window) // stride + 1 if window > 1 or stride > 1 else size
    for size, window, stride in zip(x.shape, window_dimensions, window_strides, strict=True)
  ]
  result = None
  for offsets in itertools.product(*map(range, window_dimensions)):
    ends = [
      offset + (count - 1) * stride + 1 if stride > 1 or offset else offset + count
      for offset, count, stride in zip(offsets, sizes, window_strides, strict=True)
    ]
    part = jax.lax.slice(x, offsets, ends, window_strides)
    result = part if result is None else jnp.maximum(result, part)
  assert result is not None
  return result
