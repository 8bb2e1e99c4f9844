"""Checks of the arguments of evaluations: vectors, labels and options.

In an evaluation a label with any value is the name of a class. So −1 is a class too.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from contrastax.core import Array, UserError

LARGEST = float(np.finfo(np.float32).max)


def known_vectors(x: ArrayLike, name: str = "features", *, axes: str = "[n, d]") -> np.ndarray:
  """Returns vectors as a NumPy array of float32 or float64.

  Args:
    x: anything that converts to an array. Integers, bools and half precision become float32.
    name: name of the argument, for error messages.
    axes: the axes that x must have, written as "[n, d]".

  Returns:
    An array with the shape of x, finite in float32.

  Raises:
    UserError: x is traced, has another number of axes, an empty axis, or entries that are not real
      numbers, or an entry is NaN, infinite or outside the range of float32. The message contains
      the first such row.
  """
  array = _array(x, name)
  array = array.astype(_checked_type(array.shape, array.dtype, name, axes), copy=False)
  bad = ~(np.abs(array) <= LARGEST)  # The comparison is false for NaN.
  if bad.any():
    row = int(np.argmax(bad.any(tuple(range(1, array.ndim)))))
    value = array[row][bad[row]][0]
    raise UserError(
      f"row {row} of {name} has the value {value:g}; {name} must be finite in float32; remove or "
      "correct such rows"
    )
  return array


def known_split(features: ArrayLike, test_features: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Applies `known_vectors` to training and test features, and promotes them to one type.

  Raises:
    UserError: the features are invalid, or have different dimensions.
  """
  train, test = known_vectors(features), known_vectors(test_features, "test_features")
  if train.shape[1] != test.shape[1]:
    raise UserError(
      f"features have {train.shape[1]} dimensions, but test_features have {test.shape[1]}; use one "
      "encoder for both"
    )
  dtype = np.result_type(train, test)
  return train.astype(dtype, copy=False), test.astype(dtype, copy=False)


def vectors(x: ArrayLike, name: str = "x", *, axes: str = "[n, d]") -> Array:
  """Returns vectors as a JAX array of float32 or wider. It can be used inside `jax.jit`.

  The arguments and errors are those of `known_vectors`. The values of a traced array are unknown, so
  its NaN and infinity are not detected.
  """
  if not isinstance(x, Tracer):
    return jnp.asarray(known_vectors(x, name, axes=axes))
  return x.astype(_checked_type(x.shape, x.dtype, name, axes))


def class_numbers(
  labels: ArrayLike, count: int, name: str = "labels"
) -> tuple[np.ndarray, np.ndarray]:
  """Numbers the classes of examples.

  Args:
    labels: [n], integers below 2⁶³, bools or strings.
    count: n, the number of examples.
    name: name of the argument, for error messages.

  Returns:
    (names, numbers): the sorted names of the classes [c], in the type of the labels, and the number
    of each example's class [n], int32. names[numbers] are the labels.

  Raises:
    UserError: labels have another type or shape, or are missing (None, NaN).
  """
  values = label_values(labels, count, name)
  names, numbers = np.unique(values, return_inverse=True)
  dtype = np.asarray(labels).dtype
  names = names.astype(dtype) if values.dtype.kind == "i" and dtype.kind != "O" else names
  return names, numbers.astype(np.int32)


def numbers_among(
  names: np.ndarray, labels: ArrayLike, count: int, name: str = "test_labels"
) -> np.ndarray:
  """Returns the class numbers of other examples.

  Args:
    names: the names of the classes, from `class_numbers`.
    labels: [n], labels of the other examples.
    count: n, the number of these examples.
    name: name of the argument, for error messages.

  Returns:
    [n], int32. −1 means that the class is not among the names.

  Raises:
    UserError: labels are invalid, or `names` and `labels` have different types.
  """
  names, values = label_values(names, len(names)), label_values(labels, count, name)
  if names.dtype.kind != values.dtype.kind:
    kinds = {"i": "integers", "U": "strings", "S": "bytes"}
    raise UserError(
      f"labels are {kinds[names.dtype.kind]}, but {name} are {kinds[values.dtype.kind]}; use one type "
      "for both"
    )
  numbers = np.searchsorted(names, values).clip(max=len(names) - 1)
  return np.where(names[numbers] == values, numbers, -1).astype(np.int32)


def label_values(labels: ArrayLike, count: int, name: str = "labels") -> np.ndarray:
  """Returns labels [n] as an array of int64, str or bytes.

  The arguments and errors are those of `class_numbers`.
  """
  array = _array(labels, name)
  if isinstance(labels, list | tuple) and array.dtype.kind in "USO":
    array = np.array(labels, object)  # NumPy would convert ["a", None] to strings.
  if array.ndim != 1:
    fix = f"; use {name}[:, 0] for a column, {name}.argmax(1) for one-hot rows"
    fix = fix if array.ndim == 2 else "; give one label for each example"
    raise UserError(f"{name} must be [n], not {list(array.shape)}{fix}")
  if not count:
    raise UserError(f"{name} are empty; give at least one example")
  if len(array) != count:
    raise UserError(f"{count} examples need {count} {name}, not {len(array)}; give one for each")
  if array.dtype.kind == "O":
    return _object_labels(array, name)
  if array.dtype.kind in "TUS":
    return np.array(array.tolist()) if array.dtype.kind == "T" else array
  if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.integer):
    fix = f": convert them with {name}.astype(int)" if _is_float(array.dtype) else ""
    raise UserError(f"{name} must be integers, bools or strings, not {array.dtype}{fix}")
  if array.dtype.kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
    raise UserError(f"{name} must be below 2^63, not {array.max()}; number the classes")
  return array.astype(np.int64)


def check_positive_number(name: str, value: Any) -> None:
  """Raises UserError unless an option is a finite number above 0, or traced."""
  if isinstance(value, Tracer):
    return
  try:
    number = float("nan" if isinstance(value, bool | str) or np.ndim(value) else value)
  except (TypeError, ValueError):
    number = float("nan")
  if not 0 < number < float("inf"):
    raise UserError(f"{name} must be a finite number above 0, not {value!r}")


def _array(x: Any, name: str) -> np.ndarray:
  if isinstance(x, Tracer):
    raise UserError(f"{name} is traced; call this function outside jax.jit")
  try:
    return np.asarray(x)
  except (TypeError, ValueError):
    raise UserError(f"{name} is not an array; give an array or lists of equal length") from None


def _checked_type(shape: tuple[int, ...], dtype: np.dtype, name: str, axes: str) -> np.dtype:
  """Returns the float type of the computation for an array of that shape and type."""
  if len(shape) != axes.count(",") + 1:
    raise UserError(f"{name} must be {axes}, not {list(shape)}")
  if 0 in shape:
    raise UserError(f"{name} is empty: its shape is {list(shape)}; give at least one vector {axes}")
  if dtype.kind == "b" or jnp.issubdtype(dtype, jnp.integer):
    return np.dtype(np.float32)
  if _is_float(dtype):
    return np.dtype(np.float64 if dtype.itemsize >= 8 else np.float32)
  raise UserError(f"{name} must be real numbers, not {dtype}; convert to float32")


def _is_float(dtype: np.dtype) -> bool:
  return jnp.issubdtype(dtype, jnp.floating)


def _object_labels(array: np.ndarray, name: str) -> np.ndarray:
  """Converts labels in an array of Python objects: all str, all bytes, or all integers."""
  for kind, dtype in ((str, "U"), (bytes, "S"), (int | np.integer | np.bool_, np.int64)):
    if not isinstance(array[0], kind):
      continue
    other = [row for row, value in enumerate(array) if not isinstance(value, kind)]
    if other:
      break
    try:
      return np.array(list(array), dtype)
    except OverflowError:
      raise UserError(f"{name} must be below 2^63; number the classes") from None
  else:
    other = [0]
  raise UserError(
    f"row {other[0]} of {name} is {array[other[0]]!r}; labels must all be integers, bools or strings"
  )
