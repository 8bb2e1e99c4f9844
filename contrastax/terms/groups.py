"""Groups of vectors, and what each vector carries, from what a method's networks returned."""

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
    vectors: the path of [n, k, d] (or [n, d], one per example).
    index: the path of [n, k], the numbers of the examples that they are, so that the relation
      recognizes an anchor's own positive among them; None: they are no examples.
    per_anchor: True: each anchor is compared with its own k; False: with all n k.
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
  """The group of one view's vectors [n, d], or of the n T vectors of [n, T, d].

  A vector carries whatever the batch has of its example in one number, such as its label, and its
  `guide`, and the entries `sides` of its view's side or of the batch. mask: [n, T], the side
  `weight` of the vectors.
  """
  batch = seen["batch"]
  index = batch["index"]
  side = {}
  for name, values in batch.items():
    # Of fields that are trees nothing is carried.
    if name == "label" and jnp.shape(values) == (len(index), 1):
      side[name] = signed(values[:, 0])
    elif isinstance(values, Array | np.ndarray) and (values.ndim == 1 or name == "guide"):
      side[name] = signed(values)
  own = seen.get("side", {}).get(view, {})
  for name in sides:
    if name not in own and name not in batch:
      raise UserError(f"sides: neither view {view} nor the batch has {name!r}")
    side[name] = own[name] if name in own else batch[name]
  side["view"] = jnp.full_like(index, view)
  if vectors.ndim == 3:
    n, t, d = vectors.shape
    vectors = vectors.reshape(n * t, d)
    side = {
      # What a view or the batch has of each vector is [n, t, …]; of each example it is repeated.
      name: values.reshape(n * t, *values.shape[2:])
      if name in sides and values.shape[:2] == (n, t)
      else jnp.repeat(values, t, axis=0)
      for name, values in side.items()
    }
    side["place"] = jnp.tile(jnp.arange(t, dtype=index.dtype), n)
  one = jnp.ones(len(vectors), vectors.dtype)
  if mask is not None:
    if mask.size != len(vectors):
      raise UserError(
        f"mask: {list(mask.shape)} is not one entry for each of the {len(vectors)} vectors; give [n, T]"
      )
    side["weight"] = mask.reshape(-1).astype(vectors.dtype)
  positive = one * side["weight"] if "weight" in side else one
  return Group(vectors, {**side, "as_positive": positive, "as_negative": 0 * one})


def of_given(seen: Mapping[str, Any], given: Given, keys: Group) -> Group:
  """Negatives as one group, shared by all anchors or of each anchor its own."""
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
  there = jnp.where(index >= 0, group.side["as_negative"], 0)
  return group.attach(index=index.astype(keys.side["index"].dtype), as_negative=there)
