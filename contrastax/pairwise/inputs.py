"""Checks of arrays before JAX converts them: real numbers, within the range of JAX's types."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, Mesh

from contrastax.core import Array, UserError


def numbers(name: str, values: Any) -> Array:
  """Converts an array of NumPy or JAX to an array of JAX.

  Args:
    name: the name of the array in messages.
    values: the array, of any shape.

  Returns:
    The same values as an array of JAX.

  Raises:
    UserError: `values` is not an array, does not contain real numbers, contains a 64-bit integer
      that does not fit into JAX's 32 bits, or is on a mesh with Explicit axes.
  """
  if not hasattr(values, "dtype"):
    found = type(values).__name__
    raise UserError(f"{name} must be an array of NumPy or JAX, not a {found}; use np.asarray")
  dtype = values.dtype
  real = (jnp.bool_, jnp.integer, jnp.floating)
  if not any(jnp.issubdtype(dtype, kind) for kind in real):
    raise UserError(f"{name} must contain real numbers, not {dtype}")
  if isinstance(values, np.ndarray | np.generic):
    check_kept(name, np.asarray(values))
  check_mesh(name, jax.typeof(values).sharding.mesh)
  return jnp.asarray(values)


def check_kept(name: str, values: np.ndarray) -> None:
  """Checks that JAX can represent each value.

  JAX converts 64-bit integers to 32 bits unless `jax_enable_x64` is set.

  Args:
    name: the name of the array in messages.
    values: the array, of any shape and type.

  Raises:
    UserError: an integer is outside the range of the type that JAX converts it to.
  """
  jax_dtype = jax.dtypes.canonicalize_dtype(values.dtype)
  if jax_dtype == values.dtype or not jnp.issubdtype(jax_dtype, jnp.integer) or not values.size:
    return
  range_ = np.iinfo(jax_dtype)
  for value in (values.min(), values.max()):
    if not range_.min <= value <= range_.max:
      raise UserError(
        f"{name} contains {value}, which does not fit into JAX's {jax_dtype}; renumber the "
        "values with np.unique(…, return_inverse=True)[1], or set jax_enable_x64"
      )


def check_finite(name: str, rows: Array, first: int = 0) -> None:
  """Checks that no row has a NaN or an infinity.

  Args:
    name: the name of the rows in messages.
    rows: [n, …]. Traced arrays are not checked.
    first: the number of the first row, for the message.

  Raises:
    UserError: a row has a NaN or an infinity. The message has the number of the first such row.
  """
  if isinstance(rows, Tracer) or not jnp.issubdtype(rows.dtype, jnp.floating):
    return
  with jax.ensure_compile_time_eval():  # evaluates at once, even inside `jax.jit`
    bad = np.asarray(_not_finite(rows))
  if bad.any():
    raise UserError(
      f"row {first + int(bad.argmax())} of {name} has a NaN or an infinity "
      f"({int(bad.sum())} of {len(bad)} rows have one); leave such rows out"
    )


@jax.jit
def _not_finite(rows: Array) -> Array:
  return ~jnp.isfinite(rows).reshape(len(rows), -1).all(1)


def check_mesh(name: str, mesh: Mesh | AbstractMesh) -> None:
  """Checks that a mesh has no Explicit axes, which `jax.make_mesh` creates by default.

  Args:
    name: the name of the mesh's owner in messages.
    mesh: the mesh.

  Raises:
    UserError: the mesh has an Explicit axis.
  """
  if AxisType.Explicit in mesh.axis_types:
    raise UserError(
      f"{name} is on a mesh whose axes are Explicit; make the mesh with "
      "contrastax.training.make_mesh(), or pass axis_types=(AxisType.Auto,) to jax.make_mesh"
    )


def check_positive(name: str, value: Any, *, each: int | None = None) -> None:
  """Checks that a value is a real number above 0.

  Args:
    name: the name of the value in messages.
    value: a number. A traced number is not compared with 0.
    each: n, if an array [n] is also allowed.

  Raises:
    UserError: the value is not a number, has another shape, or is not above 0.
  """
  check_numbers(each, **{name: value})
  if not isinstance(value, Tracer) and not (np.asarray(value) > 0).all():
    raise UserError(f"{name} must be above 0, not {np.min(value)}")


def check_numbers(each: int | None = None, /, **values: Any) -> None:
  """Checks that each value is a real number.

  Args:
    each: n, if arrays [n] are also allowed.
    **values: the values by name.

  Raises:
    UserError: a value is not a real number, or has another shape.
  """
  for name, value in values.items():
    dtype = getattr(value, "dtype", None)
    if dtype is None:
      is_number = isinstance(value, int | float) and not isinstance(value, bool)
    else:
      is_number = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if not is_number:
      found = f"{value!r}" if dtype is None else f"an array of {dtype}"
      raise UserError(f"{name} must be a number, not {' '.join(found.split())}")
    if jnp.shape(value) not in ((), (each,)):
      allowed = "a scalar" if each is None else f"a scalar or one for each of {each} anchors"
      raise UserError(f"{name} must be {allowed}, not of shape {jnp.shape(value)}")
