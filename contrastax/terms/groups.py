"""Builds groups of vectors and their sides from the outputs of a method's networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from contrastax.core import Array, Group, UserError
from contrastax.labels import signed
from contrastax.negatives.sources import synthetic_candidates
from contrastax.paths import pick


@dataclasses.dataclass(frozen=True)
class Given:
  """Negatives that come with the data, such as the hard negatives of a question.

  Args:
    vectors: the path of the vectors [n, k, d], or [n, d] for one per example.
    index: the path of their example numbers [n, k], by which the relation excludes the anchor's own
      positive. None: the negatives are not examples of the data set.
    per_anchor: whether an anchor is compared with its own k negatives only, and not with all n·k.

  Example:
    >>> from contrastax.terms import Contrast, Given
    >>> term = Contrast(anchors="question", keys="passage", given=(Given("hard_passage"),))
  """

  vectors: str
  index: str | None = None
  per_anchor: bool = False


def of_examples(
  seen: Mapping[str, Any],
  vectors: Array,
  view: int,
  sides: tuple[str, ...] = (),
  mask: Array | None = None,
) -> Group:
  """Builds the group of the vectors of one view.

  The sides of the group are the fields of the batch that have one number per example, such as
  `label`, the field `guide`, the arrays named in `sides`, and `view`.

  Args:
    seen: the outputs of the networks and the batch.
    vectors: [n, d], one per example, or [n, T, d], T per example.
    view: the number of the view.
    sides: names of further arrays [n, …] or [n, T, …], from the side of the view or the batch.
    mask: [n, T], the weight of each vector, its side `weight`.

  Returns:
    The group of the n or n·T vectors.

  Raises:
    UserError: an array named in `sides` is missing, or the mask has another size.
  """
  batch = seen["batch"]
  index = batch["index"]
  side: dict[str, Array] = {}
  for name, values in batch.items():  # fields that are trees are skipped
    if name == "label" and jnp.shape(values) == (len(index), 1):
      side[name] = signed(values[:, 0])
    elif isinstance(values, Array | np.ndarray) and (values.ndim == 1 or name == "guide"):
      side[name] = signed(values)
  view_side = seen.get("side", {}).get(view, {})
  for name in sides:
    if name not in view_side and name not in batch:
      raise UserError(f"sides: neither view {view} nor the batch has {name!r}")
    side[name] = view_side[name] if name in view_side else batch[name]
  side["view"] = jnp.full_like(index, view)
  if vectors.ndim == 3:
    n, t, d = vectors.shape
    vectors = vectors.reshape(n * t, d)
    side = {
      # Arrays [n, t, …] have an entry per vector; arrays [n, …] are repeated for each vector.
      name: values.reshape(n * t, *values.shape[2:])
      if name in sides and values.shape[:2] == (n, t)
      else jnp.repeat(values, t, axis=0)
      for name, values in side.items()
    }
    side["place"] = jnp.tile(jnp.arange(t, dtype=index.dtype), n)
  ones = jnp.ones(len(vectors), vectors.dtype)
  if mask is not None:
    if mask.size != len(vectors):
      raise UserError(
        f"mask must have one entry for each of the {len(vectors)} vectors, [n, T], not {list(mask.shape)}"
      )
    side["weight"] = mask.reshape(-1).astype(vectors.dtype)
  positive = ones * side["weight"] if "weight" in side else ones
  return Group(vectors, {**side, "as_positive": positive, "as_negative": 0 * ones})


def of_given(seen: Mapping[str, Any], given: Given, keys: Group) -> Group:
  """Builds the group of given negatives.

  Args:
    seen: the outputs of the networks.
    given: the paths of the negatives.
    keys: the keys, whose sides determine the names and types of the negatives' sides.

  Returns:
    A group [n·k, d] that all anchors share, or [n, k, d] with `given.per_anchor`.
  """
  (vectors,) = pick(seen, given.vectors).values()
  vectors = vectors[:, None] if vectors.ndim == 2 else vectors
  index = None
  if given.index is not None:
    (index,) = pick(seen, given.index).values()
    index = index.reshape(vectors.shape[:2])
  if not given.per_anchor:
    vectors = vectors.reshape(-1, vectors.shape[-1])
    index = None if index is None else index.reshape(-1)
  group = synthetic_candidates(vectors, keys)
  if index is None:
    return group
  as_negative = jnp.where(index >= 0, group.side["as_negative"], 0)
  return group.attach(index=index.astype(keys.side["index"].dtype), as_negative=as_negative)
