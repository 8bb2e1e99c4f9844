"""Labels in training: the number of an example's class, or −1 for an example without a label.

An example without a label is a positive of no anchor, and a negative of all other examples. This
holds for all losses, relations and the online probe. Labels with a distance are floats, and NaN
means no label. In `contrastax.evaluation` a label with any value is the name of a class.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Array, UserError

NONE = -1


def has_label(label: Array) -> Array:
  """Returns which examples have a label, as an array of the shape of `label`."""
  if jnp.issubdtype(label.dtype, jnp.floating):
    return ~jnp.isnan(label)
  if jnp.issubdtype(label.dtype, jnp.signedinteger):
    return label != NONE
  return jnp.ones(label.shape, bool)


def share_label(one: Array, other: Array) -> Array:
  """Returns which pairs have the same label. Examples without a label share it with no example.

  Args:
    one: labels.
    other: labels that broadcast against `one`.
  """
  return (one == other) & has_label(one)


def signed(label: Array | np.ndarray) -> Array:
  """Converts labels to a type that can represent −1.

  Booleans and integers become int32; int64 and floats, which are labels with a distance, keep their
  type.
  """
  label = jnp.asarray(label)
  if jnp.issubdtype(label.dtype, jnp.floating) or label.dtype == jnp.int64:
    return label
  return label.astype(jnp.int32)


def class_numbers(labels: Any, n: int) -> Array:
  """Converts labels to an array of integers [n].

  Equal labels remain equal, and −1 remains −1.

  Args:
    labels: integers of any type, or booleans, [n] or [n, 1]. Concrete integers that do not fit into
      JAX's 32 bits are renumbered.
    n: the number of labels.

  Returns:
    The labels, [n].

  Raises:
    UserError: the labels have another shape, or are neither integers nor booleans.

  Example:
    >>> from contrastax.labels import class_numbers
    >>> print(class_numbers([[7], [2], [7]], 3))
    [7 2 7]
  """
  if not isinstance(labels, jax.Array):
    labels = np.asarray(labels)
  shape, dtype = labels.shape, labels.dtype
  if shape not in ((n,), (n, 1)):
    raise UserError(f"labels must be one for each of {n} rows, [{n}], not {shape}")
  boolean = jnp.issubdtype(dtype, jnp.bool_)
  if not (jnp.issubdtype(dtype, jnp.integer) or boolean):
    raise UserError(
      f"labels must be integers or booleans, not {dtype}; "
      "np.unique(labels, return_inverse=True)[1] numbers the classes"
    )
  labels = labels.reshape(n)
  if isinstance(labels, np.ndarray) and not boolean:
    widest = np.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
    if n and not widest.min <= labels.min() <= labels.max() <= widest.max:
      labels = np.where(labels == NONE, NONE, np.unique(labels, return_inverse=True)[1])
    labels = labels.astype(widest.dtype)
  return signed(labels)
