"""The arrays of a data set and the places of related examples: what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Array, UserError, named_leaves
from contrastax.labels import NONE
from contrastax.pairwise.inputs import check_kept
from contrastax.views.images import check_range, check_type


@dataclasses.dataclass(frozen=True, eq=False)
class Related:
  """Further examples that come with each example, such as its positives or its mined negatives.

  places: integers [size] or [size, k], the numbers of the related examples; −1 is none. fields: the
    names of the fields that are gathered; None is all.
  """

  places: Array | np.ndarray
  fields: tuple[str, ...] | None = None


def leaves(tree: Any) -> list[tuple[str, Any]]:
  """The arrays of a tree with their paths, such as `tokens/ids`; a list or None is a leaf."""
  return named_leaves(tree, is_leaf=lambda node: node is None or isinstance(node, list))


def check_fields(arrays: Any) -> int:
  """The number of examples.

  Raises:
    UserError: `arrays` are not arrays, or trees of arrays, by name; an array is not of real numbers
      or booleans; the lengths differ.
  """
  if not (isinstance(arrays, Mapping) and arrays):
    kind = "none" if isinstance(arrays, Mapping) else type(arrays).__name__
    raise UserError(f"a data set is arrays by name, such as {{'image': images}}; found {kind}")
  if "index" in arrays:
    raise UserError("the source gives each example its index; no array may be called 'index'")
  for name, tree in arrays.items():
    if not leaves(tree):
      raise UserError(f"the field {name!r} has no array; leave it out")
  found = leaves(dict(arrays))
  for path, values in found:
    _check_values(path, values)
  sizes = {path: len(values) for path, values in found}
  if len(set(sizes.values())) > 1:
    raise UserError(f"arrays of one data set have one length, not {sizes}")
  size = found[0][1].shape[0]
  if not size:
    raise UserError(f"a data set has 1 example or more; found 0 in {', '.join(sizes)}")
  return size


def check_related(related: Any, arrays: Mapping[str, Any], size: int) -> dict[str, Related]:
  """The places, int32, and the names of the fields, sorted, of each kind of related examples.

  Raises:
    UserError: places that are not integers from −1 to `size` − 1, one row for each example; a field
      that the data lack; a field of the batch would have the name of another one.
  """
  if not isinstance(related, Mapping):
    raise UserError(f"related must be places by name, not {type(related).__name__}")
  found, taken = {}, {*arrays, "index"}
  for name, given in related.items():
    given = given if isinstance(given, Related) else Related(given)
    fields = tuple(sorted(arrays if given.fields is None else given.fields))
    if lacking := [field for field in fields if field not in arrays]:
      raise UserError(
        f"related {name!r}: the data have no field {lacking[0]!r}; they have {', '.join(arrays)}"
      )
    places = np.asarray(given.places)
    if places.dtype.kind not in "iu" or places.ndim not in (1, 2) or len(places) != size:
      raise UserError(
        f"related {name!r} must be integers [{size}] or [{size}, k], the numbers of examples, not "
        f"{places.dtype} {list(places.shape)}"
      )
    if places.size and not NONE <= places.min() <= places.max() < size:
      wrong = places.min() if places.min() < NONE else places.max()
      raise UserError(f"related {name!r} holds {wrong}; a place is 0 to {size - 1}, or -1 for none")
    for new in (f"{name}_{field}" for field in (*fields, "index")):
      if new in taken:
        raise UserError(f"related {name!r}: the batch already has a field {new!r}; rename one")
      taken.add(new)
    found[name] = Related(places.astype(np.int32), fields)
  return found


def _check_values(name, values):
  if not isinstance(values, np.ndarray | jax.Array):
    raise UserError(f"array {name!r} is {type(values).__name__}; pass np.asarray(…)")
  dtype = values.dtype
  real = jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
  if not (real or dtype == jnp.bool_):
    number = "; number its values by np.unique(…, return_inverse=True)[1]"
    fix = number if dtype.kind in "OSTU" else ""
    raise UserError(f"array {name!r} must be real numbers or booleans; found {dtype}{fix}")
  if not values.ndim:
    raise UserError(f"array {name!r} has no axis of examples; found shape []")
  if name == "image" and values.ndim == 4:
    check_type("array 'image'", values)
    check_range("array 'image'", values)
  if isinstance(values, np.ndarray):
    check_kept(f"array {name!r}", values)
