"""The inputs of an evaluation: every function prepares vectors, labels and options here.

In an evaluation a label is the name of a class, whatever its value: −1 is a class as well.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from contrastax.core import UserError

LARGEST = float(np.finfo(np.float32).max)


def known_vectors(x: ArrayLike, name: str = "features", *, axes: str = "[n, d]") -> np.ndarray:
  """Vectors as a NumPy array of float32 or float64.

  Args:
    x: anything that converts to an array. Integers, bools and half precision become float32.
    name: the argument's name, for the error.
    axes: the axes that x must have, written as "[n, d]".

  Returns:
    The array, with x's shape. Every entry is finite in float32.

  Raises:
    UserError for another rank, an empty axis, entries that are no real numbers, a traced array,
    and an entry that is NaN, infinite or beyond float32's range. The error names the first row.
  """
  array = _array(x, name)
  array = array.astype(_checked_type(array.shape, array.dtype, name, axes), copy=False)
  bad = ~(np.abs(array) <= LARGEST)  # a NaN is not ≤ anything
  if bad.any():
    row = int(np.argmax(bad.any(tuple(range(1, array.ndim)))))
    value = array[row][bad[row]][0]
    raise UserError(
      f"row {row} of {name} has the value {value:g}; {name} must be finite in float32: remove or "
      "correct such rows"
    )
  return array


def known_split(features: ArrayLike, test_features: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """`known_vectors` of training and test features: of one dimension, promoted to one type."""
  train, test = known_vectors(features), known_vectors(test_features, "test_features")
  if train.shape[1] != test.shape[1]:
    raise UserError(
      f"features have {train.shape[1]} dimensions and test_features {test.shape[1]}; take both "
      "from one encoder"
    )
  dtype = np.result_type(train, test)
  return train.astype(dtype, copy=False), test.astype(dtype, copy=False)


def vectors(x: ArrayLike, name: str = "x", *, axes: str = "[n, d]") -> jax.Array:
  """Vectors as a JAX array of float32 or more; for functions that may run under `jax.jit`.

  The arguments and errors are those of `known_vectors`. The values of a traced array are not
  known, so NaN and infinity are refused only where x is not traced.
  """
  if not isinstance(x, Tracer):
    return jnp.asarray(known_vectors(x, name, axes=axes))
  return x.astype(_checked_type(x.shape, x.dtype, name, axes))


def class_numbers(
  labels: ArrayLike, count: int, name: str = "labels"
) -> tuple[np.ndarray, np.ndarray]:
  """(names, numbers): the classes that there are, sorted, and the class number of each example.

  Args:
    labels: [n]: integers below 2^63, bools or strings.
    count: n, the number of examples.
    name: the argument's name, for the error.

  Returns:
    names [c], of the labels' type; numbers [n] int32, so that names[numbers] are the labels.

  Raises:
    UserError for labels of another type or shape, and for missing ones (None, NaN).
  """
  values = label_values(labels, count, name)
  names, numbers = np.unique(values, return_inverse=True)
  given = np.asarray(labels).dtype
  names = names.astype(given) if values.dtype.kind == "i" and given.kind != "O" else names
  return names, numbers.astype(np.int32)


def numbers_among(
  names: np.ndarray, labels: ArrayLike, count: int, name: str = "test_labels"
) -> np.ndarray:
  """Class numbers [n] int32 of other examples, by the names of `class_numbers`; −1: not among them.

  Raises UserError as `class_numbers`, and where one side has numbers and the other strings.
  """
  names, values = label_values(names, len(names)), label_values(labels, count, name)
  if names.dtype.kind != values.dtype.kind:
    kinds = {"i": "integers", "U": "strings", "S": "bytes"}
    raise UserError(
      f"labels are {kinds[names.dtype.kind]} and {name} {kinds[values.dtype.kind]}; give both in "
      "one type"
    )
  at = np.searchsorted(names, values).clip(max=len(names) - 1)
  return np.where(names[at] == values, at, -1).astype(np.int32)


def label_values(labels: ArrayLike, count: int, name: str = "labels") -> np.ndarray:
  """Labels [n] as an array of int64, str or bytes; the errors are those of `class_numbers`."""
  array = _array(labels, name)
  if isinstance(labels, list | tuple) and array.dtype.kind in "USO":
    array = np.array(labels, object)  # NumPy would turn ["a", None] into strings
  if array.ndim != 1:
    fix = f"; for a column take {name}[:, 0], for one-hot rows {name}.argmax(1)"
    fix = fix if array.ndim == 2 else "; give one label for each example"
    raise UserError(f"{name} must be [n], not {list(array.shape)}{fix}")
  if not count:
    raise UserError(f"{name} are empty; give at least one example")
  if len(array) != count:
    raise UserError(f"{count} examples need {count} {name}, not {len(array)}; give one for each")
  if array.dtype.kind == "O":
    return _of_objects(array, name)
  if array.dtype.kind in "TUS":
    return np.array(array.tolist()) if array.dtype.kind == "T" else array
  if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.integer):
    fix = f": convert them with {name}.astype(int)" if _is_float(array.dtype) else ""
    raise UserError(f"{name} must be integers, bools or strings, not {array.dtype}{fix}")
  if array.dtype.kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
    raise UserError(f"{name} must be below 2^63, not {array.max()}; number the classes")
  return array.astype(np.int64)


def check_positive_number(name: str, value: Any) -> None:
  """Raises UserError where an option is no finite number above 0; a traced one is not judged."""
  if isinstance(value, Tracer):
    return
  try:
    number = float("nan" if isinstance(value, bool | str) or np.ndim(value) else value)
  except (TypeError, ValueError):
    number = float("nan")
  if not 0 < number < float("inf"):
    raise UserError(f"{name} must be a finite number above 0, not {value!r}")


def _array(x, name):
  if isinstance(x, Tracer):
    raise UserError(f"{name} is traced; call this function outside jax.jit, with known arrays")
  try:
    return np.asarray(x)
  except (TypeError, ValueError):
    raise UserError(f"{name} is no array; give an array or lists of equal length") from None


def _checked_type(shape, dtype, name, axes):
  """The float type in which to compute with an array of that shape and type."""
  if len(shape) != axes.count(",") + 1:
    raise UserError(f"{name} must be {axes}, not {list(shape)}")
  if 0 in shape:
    raise UserError(f"{name} is empty: its shape is {list(shape)}; give at least one vector {axes}")
  if dtype.kind == "b" or jnp.issubdtype(dtype, jnp.integer):
    return np.dtype(np.float32)
  if _is_float(dtype):
    return np.dtype(np.float64 if dtype.itemsize >= 8 else np.float32)
  raise UserError(f"{name} must be real numbers, not {dtype}; convert to float32")


def _is_float(dtype):
  return jnp.issubdtype(dtype, jnp.floating)


def _of_objects(array, name):
  """Labels in an array of Python objects: all str, all bytes, or all integers."""
  for kind, dtype in ((str, "U"), (bytes, "S"), (int | np.integer | np.bool_, np.int64)):
    if not isinstance(array[0], kind):
      continue
    other = [at for at, value in enumerate(array) if not isinstance(value, kind)]
    if other:
      break
    try:
      return np.array(list(array), dtype)
    except OverflowError:
      raise UserError(f"{name} must be below 2^63; number the classes") from None
  else:
    other = [0]
  raise UserError(
    f"row {other[0]} of {name} is {array[other[0]]!r}; labels are all integers, bools, or all strings"
  )
