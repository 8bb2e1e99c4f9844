"""The evaluation of reductions in tiles, with a gradient that computes the tiles again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from contrastax.core import Array
from contrastax.pairwise import leaves
from contrastax.pairwise.derivatives import without_transpose
from contrastax.pairwise.tile_order import read_block, visit_tiles
from contrastax.pairwise.tiles import (
  EvalSpec,
  Reductions,
  Results,
  TileData,
  add_tile,
  candidate_positions,
  empty_states,
  evaluate_tile,
  finish_all,
  is_exchanged,
)


def _tiled(
  spec: EvalSpec,
  anchors: TileData,
  groups: tuple[TileData | None, ...],
  score_params: Any,
  shared: Any,
) -> tuple[Results, list[Results | None]]:
  """Evaluates all pairs in tiles, in memory that is linear in the number of vectors.

  Only the states of the reductions are stored, and the backward pass computes every tile again. It
  computes nothing for arrays that are constant, and nothing for results that are not
  differentiated.

  Args:
    spec: the evaluation.
    anchors: the anchors in blocks, arrays [blocks, size, …].
    groups: the candidates in blocks; None for a group that is `own`.
    score_params: the parameters of the score.
    shared: the arrays that are common to all pairs.

  Returns:
    The results in the structure of `dense`, in blocks [blocks, size].
  """
  return _forward(spec, anchors, groups, score_params, shared)[0]


tiled = jax.custom_vjp(_tiled, nondiff_argnums=(0,))


def _forward(spec, anchors, groups, score_params, shared):
  """Returns the results, and the states that they were computed from."""
  anchor_states, all_group_states = empty_states(spec, anchors), []
  for group_spec, group in zip(spec.group_specs, groups, strict=True):

    def process_tile(roles, i, j, visitor, state, group_spec=group_spec):
      anchor_states, candidate_states, _ = state
      a, c = read_block(anchors, i), read_block(visitor, j)
      own, exchanged = evaluate_tile(
        spec, group_spec, roles, spec.reductions, a, c, score_params, shared
      )
      if exchanged is not None:
        candidate_states = add_tile(spec, candidate_states, exchanged, a.position[:, None], 0)
      positions = candidate_positions(group_spec, c)
      return add_tile(spec, anchor_states, own, positions, 1), candidate_states, ()

    candidates = anchors if group_spec.own else group
    exchanges = is_exchanged(spec, group_spec)
    travels = group_spec.own and group_spec.travels
    candidate_states = empty_states(spec, candidates) if exchanges or travels else ()
    anchor_states, candidate_states, _ = visit_tiles(
      spec,
      group_spec,
      process_tile,
      anchors,
      candidates,
      candidates,
      (anchor_states, candidate_states, ()),
    )
    if travels:  # the candidates are the anchors, so their states belong to the same rows
      anchor_states = {
        name: reduction.merge(anchor_states[name], candidate_states[name])
        for name, reduction in spec.reductions
      }
    all_group_states.append(candidate_states if exchanges else None)
  results = finish_all(spec, anchor_states, all_group_states)
  return results, (anchor_states, all_group_states)


def _forward_rule(spec, *primals):
  values = jax.tree.map(lambda primal: primal.value, primals)
  selections = [
    [_encode_flag(primal.perturbed) for primal in jax.tree.leaves(part)] for part in primals
  ]
  results, states = _forward(spec, *values)
  return results, (values, states, selections)


def _backward_rule(spec, residuals, cotangents):
  values, (anchor_states, all_group_states), selections = residuals
  anchors, groups, score_params, shared = values
  anchor_cotangents, all_group_cotangents = cotangents
  anchors_selection, groups_selection, params_selection, shared_selection = (
    tuple(map(_decode_flag, part)) for part in selections
  )
  common_selection = params_selection + shared_selection
  anchor_grads = leaves.zeros(anchors, anchors_selection)
  common_grads = leaves.zeros((score_params, shared), common_selection)
  wanted, anchor_residuals = _wanted(spec, anchor_states, anchor_cotangents)
  remaining, group_grads = iter(groups_selection), []
  for group_spec, group, states, state_cotangents in zip(
    spec.group_specs, groups, all_group_states, all_group_cotangents, strict=True
  ):
    if group_spec.own:
      candidates, selection = anchors, anchors_selection
      exchanged_wanted, candidate_residuals = wanted, anchor_residuals
    else:
      candidates, selection = group, tuple(next(remaining) for _ in jax.tree.leaves(group))
      exchanged_wanted, candidate_residuals = (
        _wanted(spec, states, state_cotangents) if states else ((), ())
      )

    def process_tile(
      roles,
      i,
      j,
      visitor,
      sums,
      group_spec=group_spec,
      selection=selection,
      exchanged_wanted=exchanged_wanted,
    ):
      candidates, candidate_residuals = visitor
      anchor_grads, candidate_grads, common_grads = sums

      def tile(a, c, common):
        params, shared = common
        return evaluate_tile(
          spec, group_spec, roles, wanted, a, c, params, shared, exchanged_wanted
        )

      a, c, common = read_block(anchors, i), read_block(candidates, j), (score_params, shared)
      (own, exchanged), tile_vjp = leaves.vjp(
        tile, (a, anchors_selection), (c, selection), (common, common_selection)
      )
      positions = candidate_positions(group_spec, c)
      g_own = _reductions_vjp(wanted, own, positions, read_block(anchor_residuals, i), 1)
      g_exchanged = None
      if exchanged is not None:
        g_exchanged = _reductions_vjp(
          exchanged_wanted, exchanged, a.position[:, None], read_block(candidate_residuals, j), 0
        )
      from_a, from_c, from_common = tile_vjp((g_own, g_exchanged))
      anchor_grads = leaves.plus(anchor_grads, from_a)
      common_grads = leaves.plus(common_grads, from_common)
      if roles == "itself":  # the candidates are the same block of anchors
        return leaves.plus(anchor_grads, from_c), candidate_grads, common_grads
      return anchor_grads, leaves.plus(candidate_grads, from_c), common_grads

    separate = not group_spec.own or group_spec.travels
    candidate_grads = leaves.zeros(candidates, selection) if separate else []
    anchor_grads, candidate_grads, common_grads = visit_tiles(
      spec,
      group_spec,
      process_tile,
      anchors,
      candidates,
      (candidates, candidate_residuals),
      (anchor_grads, candidate_grads, common_grads),
    )
    if group_spec.own and group_spec.travels:
      anchor_grads = leaves.plus(anchor_grads, candidate_grads)
    group_grads.append(
      None if group_spec.own else leaves.cotangent(candidate_grads, group, selection)
    )
  return without_transpose(
    (
      leaves.cotangent(anchor_grads, anchors, anchors_selection),
      tuple(group_grads),
      *leaves.cotangent(common_grads, (score_params, shared), common_selection),
    )
  )


tiled.defvjp(_forward_rule, _backward_rule, symbolic_zeros=True)


# Which arrays are differentiated is known in the forward pass and needed in the backward pass. Each
# flag is passed on as the shape of an empty array. A Python value would be part of the tree
# structure of the residuals. JAX keeps one such structure for a traced function, whichever of its
# arguments are differentiated. So if two calls shared a trace, one of them could get the gradients
# of the wrong arrays.


def _encode_flag(flag: bool) -> Array:
  return jnp.zeros((0, int(flag)))


def _decode_flag(empty: Array) -> bool:
  return empty.shape[-1] == 1


def _wanted(
  spec: EvalSpec, states: Results, cotangents: Mapping[str, Any]
) -> tuple[Reductions, tuple[Results, Results]]:
  """Selects the reductions whose results are differentiated.

  Returns:
    These reductions, and (their states, the cotangents of their results).
  """
  wanted = tuple(
    (name, reduction)
    for name, reduction in spec.reductions
    if reduction.differentiable
    and not all(isinstance(g, SymbolicZero) for g in jax.tree.leaves(cotangents[name]))
  )

  def instantiate(g: Any) -> Array:
    if isinstance(g, SymbolicZero):
      # `SymbolicZero` has no types for these attributes.
      return jnp.zeros(g.shape, g.dtype)  # pyright: ignore[reportArgumentType]
    return g

  return wanted, (
    {name: states[name] for name, _ in wanted},
    {name: jax.tree.map(instantiate, cotangents[name]) for name, _ in wanted},
  )


def _reductions_vjp(
  reductions: Reductions,
  quantities: Results,
  positions: Array,
  residuals: tuple[Results, Results],
  axis: int,
) -> Results:
  """Returns the cotangents of a tile's quantities, in their shapes and types."""
  states, cotangents = residuals

  def like(g, x):
    return jnp.broadcast_to(g, x.shape).astype(x.dtype)

  grads = {
    name: reduction.vjp(quantities[name], positions, states[name], cotangents[name], axis)
    for name, reduction in reductions
  }
  return jax.tree.map(like, grads, quantities)
