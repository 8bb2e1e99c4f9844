"""Checks of the losses on arrays, and their conversion of arrays to groups."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array, Group, UserError, join
from contrastax.labels import class_numbers
from contrastax.pairwise.inputs import numbers
from contrastax.pairwise.scores.precision import promoted


def check_vectors(min_rows: int = 1, /, **arrays: ArrayLike) -> list[Array]:
  """Converts arrays of the same shape [n, d] to one floating type.

  Types are promoted as JAX promotes them. Integers and booleans become float32.

  Args:
    min_rows: least n.
    **arrays: NumPy or JAX arrays. The names appear in error messages.

  Returns:
    The arrays in the order of the arguments.

  Raises:
    UserError: an argument is not an array of numbers, the shapes differ or are not [n, d], n is
      below `min_rows`, or d is 0.
  """
  converted = to_common_dtype(**arrays)
  shapes = [x.shape for x in converted]
  names = " and ".join(arrays)
  if len(set(shapes)) > 1 or len(shapes[0]) != 2:
    expected = "have the same shape [n, d]" if len(shapes) > 1 else "have the shape [n, d]"
    raise UserError(f"{names} must {expected}, not {' and '.join(map(str, shapes))}")
  n, d = shapes[0]
  if n < min_rows or d < 1:
    raise UserError(
      f"{names} must have the shape [n, d] with n ≥ {min_rows} and d ≥ 1, not {(n, d)}"
    )
  return converted


def to_common_dtype(**arrays: ArrayLike) -> list[Array]:
  """Converts arrays of any shapes to one floating type.

  Args:
    **arrays: NumPy or JAX arrays. The names appear in error messages.

  Returns:
    The arrays in the order of the arguments.

  Raises:
    UserError: an argument is not an array of numbers.
  """
  return list(promoted(*(numbers(name, x) for name, x in arrays.items())))


def check_views(min_views: int = 2, /, **arrays: ArrayLike) -> Array:
  """Converts one array of views [v, n, d] to a floating type.

  Args:
    min_views: least v.
    **arrays: one NumPy or JAX array. `views[a, i]` is view a of example i. The name appears in
      error messages.

  Returns:
    The array.

  Raises:
    UserError: the argument is not an array of numbers, its shape is not [v, n, d], v is below
      `min_views`, or n or d is 0.
  """
  ((name, _),) = arrays.items()
  (views,) = to_common_dtype(**arrays)
  if views.ndim != 3 or views.shape[0] < min_views or 0 in views.shape:
    raise UserError(
      f"{name} must have the shape [v, n, d] with v ≥ {min_views}, n ≥ 1 and d ≥ 1, "
      f"not {views.shape}"
    )
  return views


def make_group(vectors: Array, index: Array, view: int, *, as_positive: float = 1) -> Group:
  """Returns a group of vectors that all belong to one view.

  Args:
    vectors: vectors [n, d] or [n, k, d].
    index: number of the example of each vector, [n] or [n, k]; −1 for none.
    view: number of the view.
    as_positive: weight of each vector as a positive. The weight as a negative is 1.

  Returns:
    The group.
  """
  one = jnp.ones(index.shape, compute_dtype(vectors))
  side = {"index": index, "view": jnp.full(index.shape, view)}
  return Group(vectors, {**side, "as_positive": as_positive * one, "as_negative": one})


def two_views(z1: ArrayLike, z2: ArrayLike) -> Group:
  """Returns the group [z1; z2] of 2n vectors. Row i of both arrays belongs to example i."""
  z1, z2 = check_vectors(z1=z1, z2=z2)
  index = row_index(z1)
  return join(make_group(z1, index, 0), make_group(z2, index, 1))


def labeled_group(z: ArrayLike, labels: ArrayLike) -> Group:
  """Returns the group of the vectors of n different examples, with the side `label`."""
  (z,) = check_vectors(z=z)
  return make_group(z, row_index(z), 0).attach(label=class_numbers(labels, len(z)))


def compute_dtype(vectors: ArrayLike) -> jnp.dtype:
  """Returns the type in which losses compute: the type of the vectors, float32 at least."""
  return jnp.result_type(vectors, jnp.float32)


def row_index(vectors: ArrayLike) -> Array:
  """Returns the row numbers 0 … n − 1 of an array."""
  return jnp.arange(jnp.shape(vectors)[0])
