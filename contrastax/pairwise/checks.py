"""What a user of `reduce` can get wrong, each said in one line."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax.core import Score, UserError, check_kind
from contrastax.pairwise.plan import Plan
from contrastax.pairwise.reductions import Reduction


def check(anchors, groups, same_set, score, score_params):
  if jax.sharding.get_abstract_mesh().manual_axes:
    raise UserError(
      "inside shard_map a loss would see its own device's pairs only; call it outside, on the "
      "whole batch, with plan=Plan(mesh=mesh)"
    )
  shape = anchors.vectors.shape
  if len(shape) != 2 or 0 in shape:
    raise UserError(f"anchors are [n, d] with n > 0 and d > 0, not {shape}")
  if not groups:
    raise UserError("reduce: no candidate group; an anchor needs at least its keys")
  _check_sides("the anchors", anchors)
  for at, group in enumerate(groups):
    theirs = group.vectors.shape
    if len(theirs) not in (2, 3) or (group.per_anchor and theirs[0] != shape[0]):
      raise UserError(
        f"group {at} is [m, d] or, a set per anchor, [n, k, d]; it is {theirs}, the anchors {shape}"
      )
    if 0 in theirs:
      raise UserError(f"group {at} is empty: candidates {theirs}, anchors {shape}")
    if group.side.keys() != groups[0].side.keys():
      raise UserError(
        f"groups of one call carry the same sides, and only one of group 0 and group {at} has "
        f"{', '.join(map(repr, sorted(group.side.keys() ^ groups[0].side.keys())))}; a source that "
        "attaches a side stands to the right of all that bring candidates"
      )
    _check_sides(f"group {at}", group)
    scores = jax.eval_shape(score, score_params, anchors.vectors, group.vectors)
    for found in jax.tree.leaves(scores):
      if found.shape != (shape[0], theirs[-2]):
        raise UserError(
          f"the score of anchors {shape} and candidates {theirs} is {found.shape}, "
          f"not {(shape[0], theirs[-2])}"
        )
  if same_set and groups[0].vectors.shape != shape:
    raise UserError(
      f"same_set says that the keys are the anchors, but their shapes are "
      f"{groups[0].vectors.shape} and {shape}"
    )


def _check_sides(owner, group):
  leading = group.vectors.shape[:-1]
  for name, values in group.side.items():
    if jnp.shape(values)[: len(leading)] != leading:
      raise UserError(
        f"side {name!r} of {owner} has shape {jnp.shape(values)}, the vectors {group.vectors.shape}"
      )


def check_relation(relation):
  """That a relation is a function or an instance."""
  if isinstance(relation, type):
    raise UserError(f"{relation.__name__} is a class; give an instance, {relation.__name__}()")
  if not callable(relation) or isinstance(relation, Score):
    raise UserError(
      "relation must be a function (anchor side, candidate side, similarity) -> Pairs, such as "
      f"relations.same_example(), not {relation!r}"
    )


def check_parts(channels, score, rows, plan):
  """That these are of their kinds, and that they can be compared."""
  if not isinstance(plan, Plan):
    raise UserError(f'plan is a pairwise.Plan, such as Plan(block="dense"), not {plan!r}')
  check_kind("score", score, Score, "pairwise.cosine()")
  for name, reduction in rows.items():
    check_kind(f"the reduction of {name!r}", reduction, Reduction, "pairwise.sum_")
  for part in (channels, score):
    try:
      hash(part)
    except TypeError:
      raise UserError(
        f"{type(part).__name__} holds an array; channels are functions or frozen "
        f"dataclasses of Python values, scores too, and arrays enter by a side, score_params or shared"
      ) from None


def check_closures(channels, score, anchors, groups, score_params, shared):
  """A traced value that a channel or score closes over would be lost in the backward pass."""

  def tile(anchors, group, score_params, shared):
    similarity = score(score_params, anchors.vectors, group.vectors)
    a = {name: jnp.expand_dims(x, 1) for name, x in anchors.side.items()}
    c = group.side if group.per_anchor else {name: x[None] for name, x in group.side.items()}
    return channels(similarity, a, c, shared)

  for value in jax.make_jaxpr(tile)(anchors, groups[0], score_params, shared).consts:
    if isinstance(value, jax.core.Tracer):
      raise UserError(
        f"channels or score close over a traced value of shape {value.shape}; hand it in by a side "
        f"(one per anchor or candidate), by score_params or by shared"
      )
