"""From arrays to groups: the checks and conversions that the losses on arrays share."""

from __future__ import annotations

import jax.numpy as jnp

from contrastax.core import Array, Group, UserError, join
from contrastax.labels import class_numbers
from contrastax.pairwise.inputs import numbers
from contrastax.pairwise.scores.precision import promoted


def vectors(*, least: int = 1, **arrays) -> list[Array]:
  """The arrays by name, each [n, d] with one n and one d, in one floating type.

  Types are promoted as JAX promotes them, integers and booleans to float32.

  Args:
    least: the least n.
    arrays: the arrays, of NumPy or JAX.

  Raises:
    UserError: what is no array of numbers, shapes that differ, n < least, d = 0.
  """
  given = of_one_type(**arrays)
  shapes = [x.shape for x in given]
  if len(set(shapes)) > 1 or len(shapes[0]) != 2:
    one = ", of one shape" if len(shapes) > 1 else ""
    raise UserError(
      f"{' and '.join(arrays)} {'are' if len(shapes) > 1 else 'is'} [n, d]{one}, not "
      f"{' and '.join(map(str, shapes))}"
    )
  n, d = shapes[0]
  if n < least or d < 1:
    raise UserError(f"{' and '.join(arrays)}: [n, d] needs n ≥ {least} and d ≥ 1, not {(n, d)}")
  return given


def of_one_type(**arrays) -> list[Array]:
  """The arrays by name, of any shapes, in one floating type; refuses what holds no numbers."""
  return list(promoted(*(numbers(name, x) for name, x in arrays.items())))


def views_of(least: int = 2, **arrays) -> Array:
  """One array [v, n, d] of views of the same examples, v at least `least`, floating."""
  ((name, _),) = arrays.items()
  (views,) = of_one_type(**arrays)
  if views.ndim != 3 or views.shape[0] < least or 0 in views.shape:
    raise UserError(f"{name} are [v, n, d], v ≥ {least}, n ≥ 1 and d ≥ 1, not {views.shape}")
  return views


def candidates(vectors, index, view, *, as_positive=1):
  """Vectors of the examples `index` in one view, as anchors or candidates."""
  one = jnp.ones(index.shape, precision(vectors))
  side = {"index": index, "view": jnp.full(index.shape, view)}
  return Group(vectors, {**side, "as_positive": as_positive * one, "as_negative": one})


def two_views(z1, z2):
  """[z1; z2], row i of both being the same example."""
  z1, z2 = vectors(z1=z1, z2=z2)
  index = of_index(z1)
  return join(candidates(z1, index, 0), candidates(z2, index, 1))


def labeled(z, labels):
  """Vectors of different examples, with their labels."""
  (z,) = vectors(z=z)
  return candidates(z, of_index(z), 0).attach(label=class_numbers(labels, len(z)))


def precision(vectors):
  """In which losses compute: float32 at least."""
  return jnp.result_type(vectors, jnp.float32)


def of_index(vectors):
  return jnp.arange(jnp.shape(vectors)[0])
