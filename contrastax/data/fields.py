"""The fields of a data set and its related examples, and their checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Array, UserError, named_leaves
from contrastax.data.columns import Column
from contrastax.data.dataset import Dataset
from contrastax.labels import NONE
from contrastax.pairwise.inputs import check_kept
from contrastax.views.images import check_range, check_type


@dataclasses.dataclass(frozen=True, eq=False)
class Related:
  """Related examples of each example, such as its positives or its mined negatives.

  Args:
    places: integers [size] or [size, k], the indices of the related examples; −1 means none.
    fields: names of the fields of the related examples that are added to a batch. None means all.

  Example:
    >>> import numpy as np
    >>> from contrastax import data
    >>> arrays = {"x": np.arange(4.0), "y": np.arange(4)}
    >>> hard = data.Related(np.array([1, 0, 3, 2]), fields=("x",))
    >>> source = data.Resident(arrays, order=data.in_order(4), related={"hard": hard})
    >>> print(source.batch(0)["hard_x"])
    [1. 0. 3. 2.]
  """

  places: Array | np.ndarray
  fields: tuple[str, ...] | None = None


def leaves(tree: Any) -> list[tuple[str, Any]]:
  """Returns the leaves of a tree with their paths, such as `tokens/ids`.

  A list or None counts as a leaf, so that the checks reject it.
  """
  return named_leaves(tree, is_leaf=lambda node: node is None or isinstance(node, list))


def check_fields(arrays: Any) -> int:
  """Checks the fields of a data set and returns the number of examples.

  Raises:
    UserError: `arrays` is not a mapping from names to arrays or trees of arrays, an array does not
      hold real numbers or booleans, or the lengths differ.
  """
  if not (isinstance(arrays, Mapping) and arrays):
    kind = "none" if isinstance(arrays, Mapping) else type(arrays).__name__
    fix = ": pass its train or test" if isinstance(arrays, Dataset) else ""
    raise UserError(
      f"the data must be a dict of arrays by name, such as {{'image': images}}; found {kind}{fix}"
    )
  if "index" in arrays:
    raise UserError("the source adds a field 'index'; rename the array 'index'")
  for name, tree in arrays.items():
    if not leaves(tree):
      raise UserError(f"the field {name!r} has no array; leave it out")
  arrays_by_path = leaves(dict(arrays))
  for path, values in arrays_by_path:
    _check_values(path, values)
  sizes = {path: len(values) for path, values in arrays_by_path}
  if len(set(sizes.values())) > 1:
    raise UserError(f"the arrays of a data set must have equal lengths, not {sizes}")
  size = arrays_by_path[0][1].shape[0]
  if not size:
    raise UserError(f"a data set must have 1 example or more; found 0 in {', '.join(sizes)}")
  return size


def check_related(related: Any, arrays: Mapping[str, Any], size: int) -> dict[str, Related]:
  """Checks related examples and returns them with int32 indices and sorted names of fields.

  Raises:
    UserError: the indices are not integers from −1 to `size` − 1 with one row per example, a field
      is missing in the data, or two fields of a batch would have the same name.
  """
  if not isinstance(related, Mapping):
    raise UserError(f"related must be a dict of indices by name, not {type(related).__name__}")
  checked, names = {}, {*arrays, "index"}
  for name, value in related.items():
    value = value if isinstance(value, Related) else Related(value)
    fields = tuple(sorted(arrays if value.fields is None else value.fields))
    if missing := [field for field in fields if field not in arrays]:
      raise UserError(
        f"related {name!r}: the data have no field {missing[0]!r}; they have {', '.join(arrays)}"
      )
    places = np.asarray(value.places)
    if places.dtype.kind not in "iu" or places.ndim not in (1, 2) or len(places) != size:
      raise UserError(
        f"related {name!r} must be integers [{size}] or [{size}, k], the indices of examples, not "
        f"{places.dtype} {list(places.shape)}"
      )
    if places.size and not NONE <= places.min() <= places.max() < size:
      wrong = places.min() if places.min() < NONE else places.max()
      raise UserError(
        f"related {name!r} contains {wrong}; an index must be 0 to {size - 1}, or -1 for none"
      )
    for new in (f"{name}_{field}" for field in (*fields, "index")):
      if new in names:
        raise UserError(f"related {name!r}: the batch already has a field {new!r}; rename one")
      names.add(new)
    checked[name] = Related(places.astype(np.int32), fields)
  return checked


def _check_values(name: str, values: Any) -> None:
  if isinstance(values, Column):
    return
  if not isinstance(values, np.ndarray | jax.Array):
    raise UserError(f"array {name!r} is {type(values).__name__}; pass np.asarray(…)")
  dtype = values.dtype
  real = jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
  if not (real or dtype == jnp.bool_):
    encode = (
      "; number its values by np.unique(…, return_inverse=True)[1] if they are labels, or encode "
      "texts as bytes [n, length], uint8, as in the how-to page on pairs of images and texts"
    )
    fix = encode if dtype.kind in "OSTU" else ""
    raise UserError(f"array {name!r} must be real numbers or booleans; found {dtype}{fix}")
  if not values.ndim:
    raise UserError(f"array {name!r} must have an axis of examples; found shape []")
  if name == "image" and values.ndim == 4:
    check_type("array 'image'", values)
    check_range("array 'image'", values)
  if isinstance(values, np.ndarray):
    check_kept(f"array {name!r}", values)
