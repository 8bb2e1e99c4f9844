"""Checks of arrays before JAX sees them: that they hold numbers, and that JAX keeps each number."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from contrastax.core import Array, UserError


def numbers(name: str, values: Any) -> Array:
  """`values`, an array of NumPy or JAX, as an array of JAX.

  Raises:
    UserError: it is no array, or holds no real numbers; an integer of 64 bits does not fit the 32
      that JAX would cut it to; it lies on a mesh of Explicit axes.
  """
  if not hasattr(values, "dtype"):
    found = type(values).__name__
    raise UserError(f"{name} is an array of NumPy or JAX, not a {found}; np.asarray makes one")
  dtype = values.dtype
  real = (jnp.bool_, jnp.integer, jnp.floating)
  if not any(jnp.issubdtype(dtype, kind) for kind in real):
    raise UserError(f"{name} holds real numbers, not {dtype}")
  if isinstance(values, np.ndarray | np.generic):
    check_kept(name, np.asarray(values))
  check_mesh(name, jax.typeof(values).sharding.mesh)
  return jnp.asarray(values)


def check_kept(name: str, values: np.ndarray) -> None:
  """Raises UserError where JAX, which cuts 64-bit integers to 32 bits, would change a value."""
  kept = jax.dtypes.canonicalize_dtype(values.dtype)
  if kept == values.dtype or not jnp.issubdtype(kept, jnp.integer) or not values.size:
    return
  range_ = np.iinfo(kept)
  for value in (values.min(), values.max()):
    if not range_.min <= value <= range_.max:
      raise UserError(
        f"{name} holds {value}, which JAX would cut to 32 bits and does not fit {kept}; number its "
        "values by np.unique(…, return_inverse=True)[1], or set jax_enable_x64"
      )


def check_finite(name: str, rows: Array, first: int = 0) -> None:
  """Raises UserError that names the first row of known rows [n, …] which has a NaN or an infinity.

  Args:
    name: what the rows are called.
    rows: [n, …]; traced ones are not looked at.
    first: the number of the first of them.
  """
  if isinstance(rows, jax.core.Tracer) or not jnp.issubdtype(rows.dtype, jnp.floating):
    return
  with jax.ensure_compile_time_eval():  # now, even inside `jax.jit`
    bad = np.asarray(_not_finite(rows))
  if bad.any():
    raise UserError(
      f"row {first + int(bad.argmax())} of {name} has a NaN or an infinity "
      f"({int(bad.sum())} of {len(bad)} rows have); leave such rows out"
    )


@jax.jit
def _not_finite(rows):
  return ~jnp.isfinite(rows).reshape(len(rows), -1).all(1)


def check_mesh(name: str, mesh: Mesh | jax.sharding.AbstractMesh) -> None:
  """Raises UserError for a mesh that has Explicit axes, as `jax.make_mesh` makes by default."""
  if AxisType.Explicit in mesh.axis_types:
    raise UserError(
      f"{name} is on a mesh whose axes are Explicit; make the mesh by "
      "contrastax.training.make_mesh(), or give jax.make_mesh axis_types=(AxisType.Auto,)"
    )


def check_positive(name: str, value: Any, *, each: int | None = None) -> None:
  """Raises UserError for what is no number, or is known and not above 0.

  Args:
    name: what the value is called.
    value: a number.
    each: n, where an array [n] is allowed too.
  """
  check_numbers(each, **{name: value})
  if not isinstance(value, jax.core.Tracer) and not (np.asarray(value) > 0).all():
    raise UserError(f"{name} must be above 0, not {np.min(value)}")


def check_numbers(each: int | None = None, /, **values: Any) -> None:
  """Raises UserError for a value that is not a real number, or an array [each] of real numbers."""
  for name, value in values.items():
    dtype = getattr(value, "dtype", None)
    if dtype is None:
      fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
      fits = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if not fits:
      found = f"{value!r}" if dtype is None else f"an array of {dtype}"
      raise UserError(f"{name} is a number, not {' '.join(found.split())}")
    if jnp.shape(value) not in ((), (each,)):
      allowed = "a scalar" if each is None else f"a scalar or one for each of {each} anchors"
      raise UserError(f"{name} is {allowed}, not of shape {jnp.shape(value)}")
