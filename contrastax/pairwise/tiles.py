"""One tile, and the evaluation of all pairs as a single tile.

`pairwise.reduce` passes anchors and candidates as `TileData`. Each evaluation is written in terms
of `evaluate_tile`, which computes the channels of a block of anchors and a block of candidates.
If roles are exchanged, it also computes the channels with the candidates as anchors, from the same
scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastax.core import Array
from contrastax.pairwise.reduction import Reduction
from contrastax.pairwise.tile_order import Roles

Reductions = tuple[tuple[str, Reduction], ...]
Results = dict[str, Any]
"""The results (or states) of reductions by channel."""


class TileData(NamedTuple):
  """The arrays that tiles are cut from, for the anchors or for one group of candidates.

  Args:
    vectors: the vectors as the score prepared them, a tree.
    side: the sides of the vectors in their own role.
    exchanged: the sides in the other role; {} if roles are not exchanged.
    position: int32, the number of each vector among all candidates; −1 for padding.
  """

  vectors: Any
  side: Any
  exchanged: Any
  position: Array


class GroupSpec(NamedTuple):
  """The static properties of a group.

  Args:
    per_anchor: whether the group is a set per anchor.
    own: whether the candidates are the anchors, and the score is symmetric.
    padded: whether the group has padding, or the anchors have padding and roles are exchanged.
    travels: whether the group is divided over the ring.
  """

  per_anchor: bool
  own: bool
  padded: bool
  travels: bool


@dataclasses.dataclass(frozen=True)
class EvalSpec:
  """The static properties of an evaluation.

  Args:
    combine: `Score.combine` of the score.
    channels: the channels; see `pairwise.reduce`.
    reductions: the name of a channel and its reduction, for each result.
    both: whether the scores are also reduced with exchanged roles.
    group_specs: one for each group.
    ring: (mesh axis, number of devices), or None on one device.
  """

  combine: Callable[..., Any]
  channels: Callable[..., Mapping[str, Any]]
  reductions: Reductions
  both: bool
  group_specs: tuple[GroupSpec, ...]
  ring: tuple[str, int] | None = None


def dense(
  spec: EvalSpec, anchors: TileData, groups: tuple[TileData, ...], score_params: Any, shared: Any
) -> tuple[Results, list[Results | None]]:
  """Evaluates all pairs at once. JAX computes the derivatives.

  Args:
    spec: the evaluation.
    anchors: the anchors, arrays [n, …].
    groups: the candidates, arrays [m, …] or, for a set per anchor, [n, k, …].
    score_params: the parameters of the score.
    shared: the arrays that are common to all pairs.

  Returns:
    {channel: [n]}, and for each group {channel: [m]} with the roles exchanged, or None.
  """
  anchor_states, all_group_states = empty_states(spec, anchors), []
  for group_spec, group in zip(spec.group_specs, groups, strict=True):
    roles = "both" if is_exchanged(spec, group_spec) else "one"
    own, exchanged = evaluate_tile(
      spec, group_spec, roles, spec.reductions, anchors, group, score_params, shared
    )
    positions = candidate_positions(group_spec, group)
    anchor_states = add_tile(spec, anchor_states, own, positions, 1)
    if exchanged is None:
      all_group_states.append(None)
    else:
      empty = empty_states(spec, group)
      states = add_tile(spec, empty, exchanged, anchors.position[:, None], 0)
      all_group_states.append(states)
  return finish_all(spec, anchor_states, all_group_states)


def evaluate_tile(
  spec: EvalSpec,
  group_spec: GroupSpec,
  roles: Roles,
  reductions: Reductions,
  anchors: TileData,
  candidates: TileData,
  score_params: Any,
  shared: Any,
  exchanged_reductions: Reductions | None = None,
) -> tuple[Results, Results | None]:
  """Computes the quantities of one tile.

  Returns:
    The quantities of `reductions`. With the roles "both", also the quantities of
    `exchanged_reductions` (None: the same) with the candidates as anchors. They have the same
    layout: channels are elementwise, so the sides broadcast along the other axis, and no array is
    transposed.
  """
  similarity = spec.combine(score_params, anchors.vectors, candidates.vectors)
  like, *_ = jax.tree.leaves(similarity)  # a score may be a tuple of arrays
  as_candidates, as_anchors = candidates.side, candidates.exchanged
  if group_spec.own:  # `candidates` are the data of the anchors, so both roles are exchanged
    as_candidates, as_anchors = as_anchors, as_candidates

  def quantities(reductions, anchor, candidate, is_pair):
    channels = spec.channels(similarity, anchor, candidate, shared)

    def fill(x, identity):
      x = jnp.broadcast_to(x, like.shape).astype(like.dtype)
      return jnp.where(is_pair, x, identity) if group_spec.padded else x

    return {
      name: jax.tree.map(fill, channels[name], reduction.identity) for name, reduction in reductions
    }

  if group_spec.per_anchor:
    return quantities(reductions, _expand(anchors.side, 1), as_candidates, True), None
  is_pair = (candidates.position >= 0)[None]
  own = quantities(reductions, _expand(anchors.side, 1), _expand(as_candidates, 0), is_pair)
  if roles != "both":
    return own, None
  if exchanged_reductions is not None:
    reductions = exchanged_reductions
  is_pair = (anchors.position >= 0)[:, None]
  as_anchors, as_candidates = _expand(as_anchors, 0), _expand(anchors.exchanged, 1)
  return own, quantities(reductions, as_anchors, as_candidates, is_pair)


def is_exchanged(spec: EvalSpec, group_spec: GroupSpec) -> bool:
  """Whether the scores of a group are also reduced with the candidates as anchors."""
  return spec.both and not group_spec.per_anchor


def empty_states(spec: EvalSpec, rows: TileData) -> Results:
  """Returns the states of rows without pairs, in at least float32."""
  dtype = jnp.promote_types(jnp.result_type(*jax.tree.leaves(rows.vectors)), jnp.float32)
  like = jnp.zeros_like(rows.position, dtype=dtype)
  return {name: reduction.empty(like) for name, reduction in spec.reductions}


def add_tile(
  spec: EvalSpec, states: Results, quantities: Results, positions: Array, axis: int
) -> Results:
  """Merges the states with the state of one tile."""
  return {
    name: reduction.merge(states[name], reduction.from_tile(quantities[name], positions, axis))
    for name, reduction in spec.reductions
  }


def finish_all(
  spec: EvalSpec, anchor_states: Results, all_group_states: list[Results | None]
) -> tuple[Results, list[Results | None]]:
  """Returns the results of the states of the anchors, and of the states of each group."""

  def finish(states):
    return {name: reduction.finish(states[name]) for name, reduction in spec.reductions}

  results = finish(anchor_states)
  return results, [None if states is None else finish(states) for states in all_group_states]


def candidate_positions(group_spec: GroupSpec, candidates: TileData) -> Array:
  """Returns the positions of the candidates in a shape that broadcasts against the tile."""
  return candidates.position if group_spec.per_anchor else candidates.position[None]


def _expand(side: Mapping[str, Array], axis: int) -> dict[str, Array]:
  return {name: jnp.expand_dims(values, axis) for name, values in side.items()}
