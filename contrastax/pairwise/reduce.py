"""The entry point of the engine: `reduce`.

A loss consists of the quantities of each pair that it needs (its channels), and of a reduction for
each channel. A plan selects how they are evaluated, which changes only time and memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from contrastax.core import Array, Group, Score, UserError
from contrastax.pairwise.checks import check, check_closures, check_parts
from contrastax.pairwise.inputs import numbers
from contrastax.pairwise.local import Ring, evaluate_local
from contrastax.pairwise.plan import Plan
from contrastax.pairwise.reduction import Reduction
from contrastax.pairwise.scores.precision import promoted
from contrastax.pairwise.tiles import Results


@overload
def reduce(
  channels: Callable[..., Mapping[str, Any]],
  anchors: Group,
  groups: Sequence[Group],
  *,
  score: Score,
  reductions: Mapping[str, Reduction],
  score_params: Any = ...,
  shared: Any = ...,
  both: Literal[False] = ...,
  same_set: bool = ...,
  plan: Plan = ...,
) -> dict[str, Any]: ...


@overload
def reduce(
  channels: Callable[..., Mapping[str, Any]],
  anchors: Group,
  groups: Sequence[Group],
  *,
  score: Score,
  reductions: Mapping[str, Reduction],
  score_params: Any = ...,
  shared: Any = ...,
  both: Literal[True],
  same_set: bool = ...,
  plan: Plan = ...,
) -> tuple[dict[str, Any], list[dict[str, Any] | None]]: ...


def reduce(
  channels: Callable[..., Mapping[str, Any]],
  anchors: Group,
  groups: Sequence[Group],
  *,
  score: Score,
  reductions: Mapping[str, Reduction],
  score_params: Any = (),
  shared: Any = (),
  both: bool = False,
  same_set: bool = False,
  plan: Plan = Plan(),
) -> dict[str, Any] | tuple[dict[str, Any], list[dict[str, Any] | None]]:
  """Reduces quantities of pairs over all candidates of each anchor.

      s_ij = score(anchor i, candidate j)
      x_ij = channels(s_ij, side_i, side_j, shared)
      result_i = R_j x_ij, for each channel and its reduction R; j runs over all groups

  Vectors of several types are promoted as JAX promotes them, and integers to float32. The result of
  an anchor is NaN if its vector has a NaN, or if one of its quantities is NaN.

  Args:
    channels: `(similarity, anchor side, candidate side, shared) -> {name: quantity}`, elementwise.
      The quantity of `softmax_mean` is a pair of arrays. The similarity is [n, m], [n, k] or a tile
      of these, and the sides have shapes that broadcast against it. The channels must be a function
      defined in a module, or a frozen dataclass of Python values, because the cache of compiled
      evaluations uses them as a key. Traced values are passed as sides, `score_params` or `shared`.
    anchors: vectors [n, d] and their sides.
    groups: candidates, each [m, d] or, for a set per anchor, [n, k, d].
    score: the similarity.
    reductions: the reduction of each channel by name. Channels without a reduction cost nothing.
      Results that are not differentiated (`jax.lax.stop_gradient`) cost no backward pass.
    score_params: the parameters of the score.
    shared: arrays that are common to all pairs. They may be traced.
    both: whether to also reduce the same scores with exchanged roles: each candidate of a shared
      group is then an anchor, and the anchors are its candidates.
    same_set: whether the first group consists of the anchors themselves. The vectors of the anchors
      are then used instead of those of the group.
    plan: how the reductions are computed.

  Returns:
    {channel: [n]}. With `both`, a pair: that dictionary, and a list with {channel: [m]} for each
    shared group and None for each set per anchor.

  Raises:
    UserError: shapes do not fit, a group is empty, sides differ, channels or score close over a
      traced value, the batch cannot be divided equally over the devices of the plan's mesh, an
      array does not contain numbers, an integer does not fit into JAX's 32 bits, or a mesh has
      Explicit axes.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.core import Group
    >>> from contrastax.pairwise import cosine, max_, reduce
    >>> def similarity(s, anchor_side, candidate_side, shared):
    ...   return {"similarity": s}
    >>> anchors, candidates = Group(jnp.eye(3)[:2], {}), Group(jnp.eye(3), {})
    >>> reductions = {"similarity": max_}
    >>> results = reduce(similarity, anchors, [candidates], score=cosine(), reductions=reductions)
    >>> print(results["similarity"])
    [1. 1.]
  """
  check_parts(channels, score, reductions, plan)
  anchors, checked_groups = _as_arrays(anchors, groups)
  results, group_results = _evaluate(
    channels, score, tuple(reductions.items()), both, same_set, plan, anchors, checked_groups,
    score_params, shared,
  )  # fmt: skip
  return (results, group_results) if both else results


def _as_arrays(anchors: Group, groups: Sequence[Group]) -> tuple[Group, tuple[Group, ...]]:
  """Converts all arrays to arrays of JAX, and the vectors to one floating type."""

  def convert(owner, group):
    side = {k: numbers(f"side {k!r} of {owner}", x) for k, x in group.side.items()}
    return Group(numbers(f"the vectors of {owner}", group.vectors), side)

  all_groups = [convert("the anchors", anchors)]
  all_groups += [convert(f"group {i}", group) for i, group in enumerate(groups)]
  vectors = promoted(*(group.vectors for group in all_groups))
  anchors, *groups = (Group(x, group.side) for x, group in zip(vectors, all_groups, strict=True))
  return anchors, tuple(groups)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _evaluate(
  channels, score, reductions, both, same_set, plan, anchors, groups, score_params, shared
):
  results, group_results = _evaluate_pairs(
    channels, score, reductions, both, same_set, plan, anchors, groups, score_params, shared
  )
  if both:
    group_results = [
      None if each is None else _with_nan(reductions, each, group.vectors)
      for each, group in zip(group_results, groups, strict=True)
    ]
  return _with_nan(reductions, results, anchors.vectors), group_results


def _with_nan(
  reductions: tuple[tuple[str, Reduction], ...], results: Results, vectors: Array
) -> Results:
  """Makes the result and the gradient of a row NaN where the row's own vector has a NaN.

  Without this, a row whose pairs are all ignored would hide the NaN.
  """
  wide = jnp.promote_types(vectors.dtype, jnp.float32)
  zero = jax.lax.stop_gradient((0 * vectors).astype(wide).sum(-1))  # 0, or NaN
  zero = zero * (1 + vectors[..., 0])  # the same value, with the gradient 0, or NaN
  differentiable = {name for name, reduction in reductions if reduction.differentiable}
  return {
    name: jax.tree.map(lambda x: x + zero.astype(x.dtype), result)
    if name in differentiable
    else result
    for name, result in results.items()
  }


def _evaluate_pairs(
  channels, score, reductions, both, same_set, plan, anchors, groups, score_params, shared
):
  """Evaluates all pairs on one device, or starts the evaluation of each device's part."""
  check(anchors, groups, same_set, score, score_params)
  check_closures(channels, score, anchors, groups, score_params, shared)
  n = anchors.vectors.shape[0]
  block = plan.blocks(n, sum(g.vectors.shape[-2] for g in groups), both)
  static = channels, score, reductions, both, same_set, block
  if block is None or plan.devices == 1:
    return evaluate_local(*static, None, anchors, groups, score_params, shared)

  axis, devices = plan.axis, plan.devices
  if n % devices:
    raise UserError(
      f"{n} anchors, of shape {anchors.vectors.shape}, cannot be divided over the {devices} "
      f"devices of axis {axis!r}; use a multiple of {devices}"
    )
  # A group whose size is not a multiple of the number of devices is not divided.
  travels = tuple(not g.per_anchor and g.vectors.shape[0] % devices == 0 for g in groups)
  for group, divided in zip(groups, travels, strict=True):
    if both and not (divided or group.per_anchor):
      raise UserError(
        f"{group.vectors.shape[0]} candidates, of shape {group.vectors.shape}, cannot be divided "
        f"over the {devices} devices of axis {axis!r}, which both directions need; use a multiple of "
        f"{devices}"
      )
  whole, divided = PartitionSpec(), PartitionSpec(axis)
  evaluate_part = functools.partial(evaluate_local, *static, Ring(axis, devices, travels))
  return jax.shard_map(
    evaluate_part,
    mesh=plan.mesh,
    in_specs=(
      divided,
      tuple(divided if g.per_anchor or t else whole for g, t in zip(groups, travels, strict=True)),
      whole,
      whole,
    ),
    out_specs=(divided, divided),
    axis_names={axis},
  )(anchors, groups, score_params, shared)
