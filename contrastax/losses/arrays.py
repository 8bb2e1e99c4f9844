"""From arrays to groups: what the losses on arrays share."""

import jax.numpy as jnp

from contrastax.core import Group, UserError, join


def candidates(vectors, index, view, *, as_positive=1):
  """Vectors of the examples `index` in one view, as anchors or candidates."""
  one = jnp.ones(index.shape, precision(vectors))
  side = {"index": index, "view": jnp.full(index.shape, view)}
  return Group(vectors, {**side, "as_positive": as_positive * one, "as_negative": one})


def two_views(z1, z2):
  """[z1; z2], row i of both being the same example."""
  check_same_shape(z1=z1, z2=z2)
  index = of_index(z1)
  return join(candidates(z1, index, 0), candidates(z2, index, 1))


def labelled(z, labels):
  """Vectors of different examples, with their labels."""
  check_labels(z, labels)
  return candidates(z, of_index(z), 0).attach(label=jnp.asarray(labels))


def check_labels(z, labels):
  if jnp.ndim(z) != 2 or jnp.shape(labels) != jnp.shape(z)[:1]:
    raise UserError(
      f"labels are one for each row of z: shapes {jnp.shape(labels)} and {jnp.shape(z)}"
    )


def precision(vectors):
  """In which losses compute: float32 at least."""
  return jnp.result_type(vectors, jnp.float32)


def of_index(vectors):
  return jnp.arange(jnp.shape(vectors)[0])


def check_views(views, least=2):
  """Views of the same examples, [v, n, d], at least so many."""
  shape = jnp.shape(views)
  if len(shape) != 3 or shape[0] < least:
    raise UserError(f"views are [v, n, d], v at least {least}, not {shape}")
  return jnp.asarray(views)


def check_same_shape(**arrays):
  shapes = {name: jnp.shape(array) for name, array in arrays.items()}
  if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
    raise UserError(
      f"{' and '.join(shapes)} are [n, d], of one shape, not {' and '.join(map(str, shapes.values()))}"
    )
