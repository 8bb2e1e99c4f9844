"""Checks of the arguments of `reduce`. Each error is one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from contrastax.core import Group, Score, UserError, check_kind, class_error
from contrastax.pairwise.plan import Plan
from contrastax.pairwise.reduction import Reduction


def check(
  anchors: Group, groups: Sequence[Group], same_set: bool, score: Score, score_params: Any
) -> None:
  """Checks the shapes and sides of anchors and groups, and the shape of the score.

  Args:
    anchors: the anchors, [n, d].
    groups: the candidates, each [m, d] or [n, k, d].
    same_set: whether the first group consists of the anchors themselves.
    score: the similarity.
    score_params: the parameters of the score.

  Raises:
    UserError: the arguments do not fit each other, or the call is inside `jax.shard_map`.
  """
  if jax.sharding.get_abstract_mesh().manual_axes:
    raise UserError(
      "inside shard_map a loss would have the pairs of one device only; call it outside, on the "
      "whole batch, with plan=Plan(mesh=mesh)"
    )
  shape = anchors.vectors.shape
  if len(shape) != 2 or 0 in shape:
    raise UserError(f"anchors must be [n, d] with n > 0 and d > 0, not {shape}")
  if not groups:
    raise UserError("there is no candidate group; pass at least the keys of the anchors")
  _check_sides("the anchors", anchors)
  for i, group in enumerate(groups):
    group_shape = group.vectors.shape
    if len(group_shape) not in (2, 3) or (group.per_anchor and group_shape[0] != shape[0]):
      raise UserError(
        f"group {i} must be [m, d] or, as a set per anchor, [n, k, d]; its shape is {group_shape}, "
        f"and the shape of the anchors is {shape}"
      )
    if 0 in group_shape:
      raise UserError(
        f"group {i} is empty; its shape is {group_shape}, and the anchors are {shape}"
      )
    if group.side.keys() != groups[0].side.keys():
      different = ", ".join(map(repr, sorted(group.side.keys() ^ groups[0].side.keys())))
      raise UserError(
        f"the groups of one call must have the same sides; only one of group 0 and group {i} has "
        f"{different}; put a source that attaches a side to the right of all sources of candidates"
      )
    _check_sides(f"group {i}", group)
    scores = jax.eval_shape(score, score_params, anchors.vectors, group.vectors)
    for each in jax.tree.leaves(scores):
      if each.shape != (shape[0], group_shape[-2]):
        raise UserError(
          f"the score of anchors {shape} and candidates {group_shape} must be "
          f"{(shape[0], group_shape[-2])}, not {each.shape}"
        )
  if same_set and groups[0].vectors.shape != shape:
    raise UserError(
      f"with same_set the keys are the anchors, but their shapes are {groups[0].vectors.shape} "
      f"and {shape}"
    )


def _check_sides(owner: str, group: Group) -> None:
  leading = group.vectors.shape[:-1]
  for name, values in group.side.items():
    if jnp.shape(values)[: len(leading)] != leading:
      raise UserError(
        f"side {name!r} of {owner} has shape {jnp.shape(values)}, but the vectors have shape "
        f"{group.vectors.shape}"
      )


def check_relation(relation: Any) -> None:
  """Checks that a relation is a function or an instance.

  Args:
    relation: the value that was passed as a relation.

  Raises:
    UserError: the value is a class or a score, or cannot be called.
  """
  if isinstance(relation, type):
    raise class_error(relation)
  if not callable(relation) or isinstance(relation, Score):
    raise UserError(
      "relation must be a function (anchor side, candidate side, similarity) -> Pairs, such as "
      f"relations.same_example(), not {relation!r}"
    )


def check_parts(channels: Any, score: Any, reductions: Mapping[str, Any], plan: Any) -> None:
  """Checks the kinds of the parts of `reduce`, and that channels and score are hashable.

  Args:
    channels: the channels, a function or a frozen dataclass.
    score: the similarity.
    reductions: the reductions by channel.
    plan: how the reductions are computed.

  Raises:
    UserError: a part is of another kind, or has an array as a field.
  """
  if not isinstance(plan, Plan):
    raise UserError(f'plan must be a pairwise.Plan, such as Plan(block="dense"), not {plan!r}')
  check_kind("score", score, Score, "pairwise.cosine()")
  for name, reduction in reductions.items():
    check_kind(f"the reduction of {name!r}", reduction, Reduction, "pairwise.sum_")
  for part in (channels, score):
    try:
      hash(part)
    except TypeError:
      raise UserError(
        f"{type(part).__name__} has an array as a field; make channels and scores functions or "
        "frozen dataclasses of Python values, and pass arrays as a side, score_params or shared"
      ) from None


def check_closures(
  channels: Callable[..., Any],
  score: Score,
  anchors: Group,
  groups: Sequence[Group],
  score_params: Any,
  shared: Any,
) -> None:
  """Checks that channels and score do not close over a traced value.

  The backward pass of an evaluation in tiles would not compute the gradient of such a value.

  Args:
    channels: the channels.
    score: the similarity.
    anchors: the anchors.
    groups: the candidates.
    score_params: the parameters of the score.
    shared: the arrays that are common to all pairs.

  Raises:
    UserError: channels or score close over a traced value.
  """

  def tile(anchors, group, score_params, shared):
    similarity = score(score_params, anchors.vectors, group.vectors)
    a = {name: jnp.expand_dims(x, 1) for name, x in anchors.side.items()}
    c = group.side if group.per_anchor else {name: x[None] for name, x in group.side.items()}
    return channels(similarity, a, c, shared)

  for value in jax.make_jaxpr(tile)(anchors, groups[0], score_params, shared).consts:
    if isinstance(value, Tracer):
      raise UserError(
        f"channels or score close over a traced value of shape {value.shape}; pass it as a side "
        "(one value per anchor or candidate), as score_params or as shared"
      )
