"""Gradients of some leaves of trees: those that `chosen`, a tuple of bools, names."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def vjp(function, *arguments):
  """function's value at trees, and the pullback to the chosen leaves of each, given as (tree, chosen)."""
  flat = [(*jax.tree.flatten(tree), chosen) for tree, chosen in arguments]

  def of_chosen(*parts):
    trees = []
    for part, (leaves, structure, chosen) in zip(parts, flat, strict=True):
      part = iter(part)
      filled = [next(part) if m else leaf for leaf, m in zip(leaves, chosen, strict=True)]
      trees.append(jax.tree.unflatten(structure, filled))
    return function(*trees)

  return jax.vjp(of_chosen, *(_chosen(leaves, chosen) for leaves, _, chosen in flat))


def _chosen(tree, chosen):
  return [x for x, m in zip(jax.tree.leaves(tree), chosen, strict=True) if m]


def zeros(tree, chosen):
  """Sums in float32 at least: many small terms of half precision would not add up."""
  return [
    jnp.zeros_like(x, dtype=jnp.promote_types(x.dtype, jnp.float32)) for x in _chosen(tree, chosen)
  ]


def plus(sums, more):
  return [a + b.astype(a.dtype) for a, b in zip(sums, more, strict=True)]


def cotangent(sums, tree, chosen):
  leaves, structure = jax.tree.flatten(tree)
  sums = iter(sums)
  return jax.tree.unflatten(
    structure,
    [next(sums).astype(x.dtype) if m else None for x, m in zip(leaves, chosen, strict=True)],
  )
