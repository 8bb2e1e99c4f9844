"""Vector-Jacobian products with respect to selected leaves of trees.

A selection is a tuple of bools, one for each leaf of a tree, in the order of `jax.tree.leaves`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from contrastax.core import Array

Selection = Sequence[bool]


def vjp(
  function: Callable[..., Any], *arguments: tuple[Any, Selection]
) -> tuple[Any, Callable[..., tuple[list[Array], ...]]]:
  """Evaluates a function of trees, and its VJP with respect to their selected leaves.

  Args:
    function: a function of as many trees as there are arguments.
    *arguments: each argument's tree and the selection of its leaves.

  Returns:
    The function's value at the trees, and a function of a cotangent of that value. The latter
    returns one list per tree: the cotangents of the tree's selected leaves.
  """
  flat = [(*jax.tree.flatten(tree), selection) for tree, selection in arguments]

  def function_of_selected(*parts):
    trees = []
    for part, (leaves, structure, selection) in zip(parts, flat, strict=True):
      part = iter(part)
      merged = [next(part) if s else leaf for leaf, s in zip(leaves, selection, strict=True)]
      trees.append(jax.tree.unflatten(structure, merged))
    return function(*trees)

  return jax.vjp(
    function_of_selected, *(_selected(leaves, selection) for leaves, _, selection in flat)
  )


def _selected(tree: Any, selection: Selection) -> list[Array]:
  return [x for x, s in zip(jax.tree.leaves(tree), selection, strict=True) if s]


def zeros(tree: Any, selection: Selection) -> list[Array]:
  """Returns zeros in the shapes of the selected leaves, the initial sums of their cotangents.

  The type is at least float32. In half precision, a sum of many small terms would stop growing.
  """
  return [
    jnp.zeros_like(x, dtype=jnp.promote_types(x.dtype, jnp.float32))
    for x in _selected(tree, selection)
  ]


def plus(sums: list[Array], terms: list[Array]) -> list[Array]:
  """Adds a term to each sum, in the type of the sum."""
  return [a + b.astype(a.dtype) for a, b in zip(sums, terms, strict=True)]


def cotangent(sums: list[Array], tree: Any, selection: Selection) -> Any:
  """Returns a tree of cotangents: the sums at the selected leaves, None at the others."""
  leaves, structure = jax.tree.flatten(tree)
  remaining = iter(sums)
  return jax.tree.unflatten(
    structure,
    [
      next(remaining).astype(x.dtype) if s else None for x, s in zip(leaves, selection, strict=True)
    ],
  )
