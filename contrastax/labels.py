"""Labels in training: the number of an example's class, or −1 for an example without a label.

An example without a label is nobody's positive and still a negative of the others. This holds for
all losses, relations and the online probe. Where labels are numbers with a distance, floats, NaN
stands for none. In `contrastax.evaluation` a label is the name of a class, whatever its value.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Array, UserError

NONE = -1


def has_label(label: Array) -> Array:
  """Which examples have a label, in the shape of `label`."""
  if jnp.issubdtype(label.dtype, jnp.floating):
    return ~jnp.isnan(label)
  if jnp.issubdtype(label.dtype, jnp.signedinteger):
    return label != NONE
  return jnp.ones(label.shape, bool)


def share_label(one: Array, other: Array) -> Array:
  """Which pairs have the same label, by labels that broadcast; an example without one has none."""
  return (one == other) & has_label(one)


def signed(label: Array) -> Array:
  """The labels in a type that has −1 and large numbers: booleans and integers become int32 at least.

  Floats, labels with a distance, stay as they are.
  """
  if jnp.issubdtype(label.dtype, jnp.floating) or label.dtype == jnp.int64:
    return label
  return label.astype(jnp.int32)


def class_numbers(labels: Any, n: int) -> Array:
  """Labels as an array of integers, [n]; what was equal before is equal after, −1 stays −1.

  Args:
    labels: integers of any type, or booleans, [n] or [n, 1]. Known integers that do not fit JAX's
      32 bits are numbered anew.
    n: how many.

  Raises:
    UserError: another shape, or labels that are neither integers nor booleans.
  """
  if not isinstance(labels, jax.Array):
    labels = np.asarray(labels)
  shape, dtype = labels.shape, labels.dtype
  if shape not in ((n,), (n, 1)):
    raise UserError(f"labels are one for each of {n} rows, [{n}], not {shape}")
  boolean = jnp.issubdtype(dtype, jnp.bool_)
  if not (jnp.issubdtype(dtype, jnp.integer) or boolean):
    raise UserError(
      f"labels are integers or booleans, not {dtype}; np.unique(labels, return_inverse=True)[1] "
      "numbers the classes"
    )
  labels = labels.reshape(n)
  if isinstance(labels, np.ndarray) and not boolean:
    kept = np.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
    if n and not kept.min <= labels.min() <= labels.max() <= kept.max:
      labels = np.where(labels == NONE, NONE, np.unique(labels, return_inverse=True)[1])
    labels = labels.astype(kept.dtype)
  return signed(jnp.asarray(labels))
