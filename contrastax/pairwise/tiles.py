"""The evaluation of a reduction: dense, in tiles, and in tiles around a ring of devices.

`reduce` packs anchors and candidates into sets; here they meet. Everything is written
in terms of one function, `_tile`: the channels of a block of anchors against a block
of candidates, and, where the roles are exchanged as well, of the latter against the
former on the same scores.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastax.pairwise import leaves
from contrastax.pairwise.derivatives import without_transpose
from contrastax.pairwise.tile_order import at, visit_tiles


class TileData(NamedTuple):
  """What tiles are cut from.

  vectors: as the score prepared them, a tree. side: what they carry in their own role.
  exchanged: what they carry in the other role, {} where that is not asked for.
  place: int32, the vector's number among all candidates; −1: padding.
  """

  vectors: Any
  side: Any
  exchanged: Any
  place: jax.Array


class GroupSpec(NamedTuple):
  """What is known of a group before it is traced.

  own: the anchors' own set, with a symmetric score. padded: the group, or the anchors
  that are its candidates when roles are exchanged, have padding. travels: it is divided
  over the ring.
  """

  per_anchor: bool
  own: bool
  padded: bool
  travels: bool


@dataclasses.dataclass(frozen=True)
class EvalSpec:
  """All that is static in an evaluation.

  reductions: (channel, reduction). both: exchanged roles are results too. kinds: one for each
  group. ring: (mesh axis, devices) or None.
  """

  combine: Callable
  channels: Callable
  reductions: tuple[tuple[str, Any], ...]
  both: bool
  kinds: tuple[GroupSpec, ...]
  ring: tuple[str, int] | None = None


def dense(spec: EvalSpec, anchors: TileData, groups: tuple[TileData, ...], score_params, shared):
  """({channel: [n]}, one {channel: [m]} per group or None), differentiated by JAX."""
  rows, columns = _empty(spec, anchors), []
  for kind, group in zip(spec.kinds, groups, strict=True):
    roles = "both" if _both(spec, kind) else "one"
    own, exchanged = _tile(spec, kind, roles, spec.reductions, anchors, group, score_params, shared)
    rows = _add(spec, rows, own, _across(kind, group), 1)
    if exchanged is None:
      columns.append(None)
    else:
      columns.append(_add(spec, _empty(spec, group), exchanged, anchors.place[:, None], 0))
  return _finish(spec, rows), [c and _finish(spec, c) for c in columns]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def tiled(
  spec: EvalSpec, anchors: TileData, groups: tuple[TileData | None, ...], score_params, shared
):
  """As `dense`, of sets that are cut into blocks, [blocks, size, …]; a group that is `own` is None.

  Memory is linear: only the states of the reductions are kept, and the backward pass
  computes every tile again. It computes nothing for what needs no gradient: arrays that
  are constant, results that are not differentiated.
  """
  return _forward(spec, anchors, groups, score_params, shared)[0]


def _forward(spec, anchors, groups, score_params, shared):
  rows, columns = _empty(spec, anchors), []
  for kind, group in zip(spec.kinds, groups, strict=True):

    def process_tile(roles, i, j, visitor, state, kind=kind):
      mine, theirs, _ = state
      a, c = at(anchors, i), at(visitor, j)
      own, exchanged = _tile(spec, kind, roles, spec.reductions, a, c, score_params, shared)
      if roles == "both":
        theirs = _add(spec, theirs, exchanged, a.place[:, None], 0)
      return _add(spec, mine, own, _across(kind, c), 1), theirs, ()

    visitor = anchors if kind.own else group
    theirs = _empty(spec, visitor) if _both(spec, kind) or (kind.own and kind.travels) else ()
    rows, theirs, _ = visit_tiles(
      spec, kind, process_tile, anchors, visitor, visitor, (rows, theirs, ())
    )
    if kind.own and kind.travels:
      rows = {name: r.merge(rows[name], theirs[name]) for name, r in spec.reductions}
    columns.append(theirs if _both(spec, kind) else None)
  return (_finish(spec, rows), [c and _finish(spec, c) for c in columns]), (rows, columns)


def _forward_rule(spec, *primals):
  values = jax.tree.map(lambda primal: primal.value, primals)
  chosen = [[_told(primal.perturbed) for primal in jax.tree.leaves(part)] for part in primals]
  result, states = _forward(spec, *values)
  return result, (values, states, chosen)


def _backward_rule(spec, residuals, cotangents):
  values, (rows, columns), chosen = residuals
  anchors, groups, score_params, shared = values
  to_rows, to_columns = cotangents
  chosen = (tuple(map(_is_told, part)) for part in chosen)
  of_anchors, of_groups, of_params, of_shared = chosen
  of_common = of_params + of_shared
  to_anchors, to_common = (
    leaves.zeros(anchors, of_anchors),
    leaves.zeros((score_params, shared), of_common),
  )
  mine_wanted, given = _given(spec, rows, to_rows)
  of_groups, to_groups = iter(of_groups), []
  for kind, group, states, to_states in zip(spec.kinds, groups, columns, to_columns, strict=True):
    candidates = anchors if kind.own else group
    of_group = of_anchors
    if not kind.own:
      of_group = tuple(next(of_groups) for _ in jax.tree.leaves(group))
    theirs_wanted, theirs = mine_wanted, given
    if not kind.own:
      theirs_wanted, theirs = _given(spec, states, to_states) if states else ((), ())

    def process_tile(roles, i, j, visitor, sums, kind=kind, of_group=of_group, also=theirs_wanted):
      (candidates, theirs), (mine, to_candidates, to_common) = visitor, sums

      def tile(a, c, common):
        return _tile(spec, kind, roles, mine_wanted, a, c, *common, also)

      a, c, common = at(anchors, i), at(candidates, j), (score_params, shared)
      (own, exchanged), pull = leaves.vjp(tile, (a, of_anchors), (c, of_group), (common, of_common))
      g = _pull(mine_wanted, own, _across(kind, c), *at(given, i), 1), None
      if roles == "both":
        g = g[0], _pull(also, exchanged, a.place[:, None], *at(theirs, j), 0)
      from_a, from_c, from_common = pull(g)
      mine, to_common = leaves.plus(mine, from_a), leaves.plus(to_common, from_common)
      if roles == "itself":
        return leaves.plus(mine, from_c), to_candidates, to_common
      return mine, leaves.plus(to_candidates, from_c), to_common

    to_group = [] if kind.own and not kind.travels else leaves.zeros(candidates, of_group)
    to_anchors, to_group, to_common = visit_tiles(
      spec,
      kind,
      process_tile,
      anchors,
      candidates,
      (candidates, theirs),
      (to_anchors, to_group, to_common),
    )
    if kind.own and kind.travels:
      to_anchors = leaves.plus(to_anchors, to_group)
    to_groups.append(None if kind.own else leaves.cotangent(to_group, group, of_group))
  return without_transpose(
    (
      leaves.cotangent(to_anchors, anchors, of_anchors),
      tuple(to_groups),
      *leaves.cotangent(to_common, (score_params, shared), of_common),
    )
  )


tiled.defvjp(_forward_rule, _backward_rule, symbolic_zeros=True)


# What is differentiated is known in the forward pass and needed in the backward pass. It travels as
# the shape of an empty array. As a Python value it would be part of the residuals' tree, and JAX
# keeps one tree for a traced function, whatever it is differentiated by: of two calls that share a
# trace, one would get the gradient of the other's arrays.


def _told(flag):
  return jnp.zeros((0, int(flag)))


def _is_told(empty):
  return empty.shape[-1] == 1


def _tile(spec, kind, roles, rows, anchors, candidates, score_params, shared, exchanged_rows=None):
  """The quantities of `rows` for a tile, and in both roles those of the exchanged ones, or None.

  Channels are elementwise, so exchanged roles broadcast the other way: no transpose.
  """
  similarity = spec.combine(score_params, anchors.vectors, candidates.vectors)
  like, *_ = jax.tree.leaves(similarity)  # a score may be several
  # The anchors' own set, met as candidates, is in its other role.
  as_candidates, as_anchors = candidates.side, candidates.exchanged
  if kind.own:
    as_candidates, as_anchors = as_anchors, as_candidates

  def quantities(rows, anchor, candidate, there):
    found = spec.channels(similarity, anchor, candidate, shared)

    def fill(x, identity):
      x = jnp.broadcast_to(x, like.shape).astype(like.dtype)
      return jnp.where(there, x, identity) if kind.padded else x

    return {name: jax.tree.map(fill, found[name], r.identity) for name, r in rows}

  if kind.per_anchor:
    return quantities(rows, _along(anchors.side, 1), as_candidates, True), None
  there = (candidates.place >= 0)[None]
  own = quantities(rows, _along(anchors.side, 1), _along(as_candidates, 0), there)
  if roles != "both":
    return own, None
  rows = rows if exchanged_rows is None else exchanged_rows
  there = (anchors.place >= 0)[:, None]
  return own, quantities(rows, _along(as_anchors, 0), _along(anchors.exchanged, 1), there)


# States of all rows of a set, by channel.


def _both(spec, kind):
  return spec.both and not kind.per_anchor


def _empty(spec, rows: TileData):
  dtype = jnp.promote_types(jnp.result_type(*jax.tree.leaves(rows.vectors)), jnp.float32)
  like = jnp.zeros_like(rows.place, dtype=dtype)
  return {name: reduction.empty(like) for name, reduction in spec.reductions}


def _add(spec, states, quantities, places, axis):
  return {
    name: reduction.merge(states[name], reduction.from_tile(quantities[name], places, axis))
    for name, reduction in spec.reductions
  }


def _finish(spec, states):
  return {name: reduction.finish(states[name]) for name, reduction in spec.reductions}


def _given(spec, states, cotangents):
  """The rows of which a gradient is asked, and (their states, their cotangents)."""
  zero = jax.custom_derivatives.SymbolicZero
  rows = tuple(
    (name, reduction)
    for name, reduction in spec.reductions
    if reduction.differentiable
    and not all(isinstance(g, zero) for g in jax.tree.leaves(cotangents[name]))
  )

  def instantiate(g):
    return jnp.zeros(g.shape, g.dtype) if isinstance(g, zero) else g

  return rows, (
    {name: states[name] for name, _ in rows},
    {name: jax.tree.map(instantiate, cotangents[name]) for name, _ in rows},
  )


def _pull(rows, quantities, places, states, g, axis):
  def like(pulled, x):
    return jnp.broadcast_to(pulled, x.shape).astype(x.dtype)

  found = {
    name: reduction.vjp(quantities[name], places, states[name], g[name], axis)
    for name, reduction in rows
  }
  return jax.tree.map(like, found, quantities)


def _across(kind, candidates):
  """Their places, to broadcast against the tile."""
  return candidates.place if kind.per_anchor else candidates.place[None]


def _along(side, axis):
  return {name: jnp.expand_dims(values, axis) for name, values in side.items()}
