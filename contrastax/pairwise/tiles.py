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
from jax import lax


class Set(NamedTuple):
  """What tiles are cut from.

  vectors: as the score prepared them, a tree. side: what they carry in their own role.
  exchanged: what they carry in the other role, {} where that is not asked for.
  place: int32, the vector's number among all candidates; −1: padding.
  """

  vectors: Any
  side: Any
  exchanged: Any
  place: jax.Array


class Kind(NamedTuple):
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
class Spec:
  """All that is static in an evaluation.

  rows: (channel, reduction). both: exchanged roles are results too. kinds: one for each
  group. ring: (mesh axis, devices) or None.
  """

  meet: Callable
  channels: Callable
  rows: tuple[tuple[str, Any], ...]
  both: bool
  kinds: tuple[Kind, ...]
  ring: tuple[str, int] | None = None


def dense(spec: Spec, anchors: Set, groups: tuple[Set, ...], score_params, shared):
  """({channel: [n]}, one {channel: [m]} per group or None), differentiated by JAX."""
  rows, columns = _empty(spec, anchors), []
  for kind, group in zip(spec.kinds, groups, strict=True):
    roles = "both" if _both(spec, kind) else "one"
    own, exchanged = _tile(spec, kind, roles, spec.rows, anchors, group, score_params, shared)
    rows = _add(spec, rows, own, _across(kind, group), 1)
    if exchanged is None:
      columns.append(None)
    else:
      columns.append(_add(spec, _empty(spec, group), exchanged, anchors.place[:, None], 0))
  return _finish(spec, rows), [c and _finish(spec, c) for c in columns]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def tiled(spec: Spec, anchors: Set, groups: tuple[Set | None, ...], score_params, shared):
  """As `dense`, of sets that are cut into blocks, [blocks, size, …]; a group that is `own` is None.

  Memory is linear: only the states of the reductions are kept, and the backward pass
  computes every tile again. It computes nothing for what needs no gradient: arrays that
  are constant, results that are not differentiated.
  """
  return _forward(spec, anchors, groups, score_params, shared)[0]


def _forward(spec, anchors, groups, score_params, shared):
  rows, columns = _empty(spec, anchors), []
  for kind, group in zip(spec.kinds, groups, strict=True):

    def meet(roles, i, j, visitor, state, kind=kind):
      mine, theirs, _ = state
      a, c = _at(anchors, i), _at(visitor, j)
      own, exchanged = _tile(spec, kind, roles, spec.rows, a, c, score_params, shared)
      if roles == "both":
        theirs = _add(spec, theirs, exchanged, a.place[:, None], 0)
      return _add(spec, mine, own, _across(kind, c), 1), theirs, ()

    visitor = anchors if kind.own else group
    theirs = _empty(spec, visitor) if _both(spec, kind) or (kind.own and kind.travels) else ()
    rows, theirs, _ = _tour(spec, kind, meet, anchors, visitor, visitor, (rows, theirs, ()))
    if kind.own and kind.travels:
      rows = {name: r.merge(rows[name], theirs[name]) for name, r in spec.rows}
    columns.append(theirs if _both(spec, kind) else None)
  return (_finish(spec, rows), [c and _finish(spec, c) for c in columns]), (rows, columns)


def _forward_rule(spec, *primals):
  values = jax.tree.map(lambda primal: primal.value, primals)
  moving = tuple(tuple(primal.perturbed for primal in jax.tree.leaves(part)) for part in primals)
  result, states = _forward(spec, *values)
  return result, (values, states, _Static(moving))


def _backward_rule(spec, residuals, cotangents):
  values, (rows, columns), moving = residuals
  anchors, groups, score_params, shared = values
  to_rows, to_columns = cotangents
  of_anchors, of_groups, of_params, of_shared = moving.value
  of_common = of_params + of_shared
  to_anchors, to_common = _zeros(anchors, of_anchors), _zeros((score_params, shared), of_common)
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

    def meet(roles, i, j, visitor, sums, kind=kind, of_group=of_group, also=theirs_wanted):
      (candidates, theirs), (mine, to_candidates, to_common) = visitor, sums

      def tile(a, c, common):
        own, exchanged = _tile(spec, kind, roles, mine_wanted, a, c, *common, also)
        return own, exchanged

      a, c, common = _at(anchors, i), _at(candidates, j), (score_params, shared)
      (own, exchanged), pull = _vjp(tile, (a, of_anchors), (c, of_group), (common, of_common))
      g = _pull(mine_wanted, own, _across(kind, c), *_at(given, i), 1), None
      if roles == "both":
        g = g[0], _pull(also, exchanged, a.place[:, None], *_at(theirs, j), 0)
      from_a, from_c, from_common = pull(g)
      mine, to_common = _plus(mine, from_a), _plus(to_common, from_common)
      if roles == "itself":
        return _plus(mine, from_c), to_candidates, to_common
      return mine, _plus(to_candidates, from_c), to_common

    to_group = [] if kind.own and not kind.travels else _zeros(candidates, of_group)
    to_anchors, to_group, to_common = _tour(
      spec, kind, meet, anchors, candidates, (candidates, theirs), (to_anchors, to_group, to_common)
    )
    if kind.own and kind.travels:
      to_anchors = _plus(to_anchors, to_group)
    to_groups.append(None if kind.own else _cotangent(to_group, group, of_group))
  return (
    _cotangent(to_anchors, anchors, of_anchors),
    tuple(to_groups),
    *_cotangent(to_common, (score_params, shared), of_common),
  )


tiled.defvjp(_forward_rule, _backward_rule, symbolic_zeros=True)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Static:
  """Python values among a function's residuals."""

  value: Any


def _tile(spec, kind, roles, rows, anchors, candidates, score_params, shared, exchanged_rows=None):
  """The quantities of `rows` for a tile, and in both roles those of the exchanged ones, or None.

  Channels are elementwise, so exchanged roles broadcast the other way: no transpose.
  """
  similarity = spec.meet(score_params, anchors.vectors, candidates.vectors)
  # The anchors' own set, met as candidates, is in its other role.
  as_candidates, as_anchors = candidates.side, candidates.exchanged
  if kind.own:
    as_candidates, as_anchors = as_anchors, as_candidates

  def quantities(rows, anchor, candidate, there):
    found = spec.channels(similarity, anchor, candidate, shared)

    def fill(x, identity):
      x = jnp.broadcast_to(x, similarity.shape)
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


# The order in which blocks of anchors meet blocks of candidates.


class _Leg(NamedTuple):
  """One visit of the candidates that are here: which tiles, and in which roles.

  tiles: "all"; "diagonal": block i of anchors and of candidates; "triangle": the candidates
  are the very anchors of this device, and each unordered pair of blocks meets once.
  roles: "one", or "both": as the candidates' anchors as well. moves: they then travel on.
  """

  tiles: str
  roles: str
  moves: bool


def _itinerary(spec, kind):
  """(leg, how often), such that every pair of an anchor and a candidate is met once.

  The anchors' own set, whose score is symmetric: each unordered pair of tiles is visited
  once, and exchanged. Around a ring this halves the way too; with an even number of
  devices the last stop is opposite, where both sides come and each serves its own rows.
  """
  if kind.per_anchor:
    return [(_Leg("diagonal", "one", False), 1)]
  if not kind.own:
    roles = "both" if spec.both else "one"
    return [(_Leg("all", roles, kind.travels), spec.ring[1] if kind.travels else 1)]
  legs = [(_Leg("triangle", "both", kind.travels), 1)]
  if kind.travels:
    devices = spec.ring[1]
    legs.append((_Leg("all", "both", True), (devices - 1) // 2))
    legs.append((_Leg("all", "one", False), 1 - devices % 2))
  return legs


def _tour(spec, kind, meet, anchors, candidates, visitor, state):
  """Visits all tiles; returns the state, what belongs to the candidates being back at home.

  The state: what belongs to the anchors, [blocks, …]; to the candidates, [blocks, …]; to
  none of them. Where candidates travel, theirs and the visitor (what `meet` needs to know
  of them) move on together, one device a hop.
  """
  sizes, hops = (anchors.place.shape[0], candidates.place.shape[0]), 0
  for leg, times in _itinerary(spec, kind):

    def stop(_, carry, leg=leg):
      visitor, state = carry
      mine, theirs, rest = _visit(leg, sizes, meet, visitor, state)
      if leg.moves:
        visitor, theirs = _move(spec, 1, (visitor, theirs))
      return visitor, (mine, theirs, rest)

    if times == 1:
      visitor, state = stop(0, (visitor, state))
    elif times > 1:
      visitor, state = lax.fori_loop(0, times, stop, (visitor, state))
    hops += times * leg.moves
  mine, theirs, rest = state
  if kind.travels and hops % spec.ring[1]:
    theirs = _move(spec, -hops, theirs)
  return mine, theirs, rest


def _visit(leg, sizes, meet, visitor, state):
  """mine[i], theirs[j], rest = meet(…, i, j, …) for all tiles of a leg.

  Row by row, with mine[i] in hand: a buffer that is read and written in two places at
  every tile would be copied as a whole at every tile.
  """

  def tile(roles, i, j, carry):
    mine_i, theirs, rest = carry
    mine_i, theirs_j, rest = meet(roles, i, j, visitor, (mine_i, _at(theirs, j), rest))
    return mine_i, _put(theirs, j, theirs_j), rest

  def row(i, carry):
    mine, theirs, rest = carry
    mine_i = _at(mine, i)
    if leg.tiles == "diagonal":
      mine_i, theirs, rest = tile("one", i, i, (mine_i, theirs, rest))
    elif leg.tiles == "triangle":
      mine_i, _, rest = meet("itself", i, i, visitor, (mine_i, (), rest))
      along = functools.partial(tile, "both", i)
      mine_i, mine, rest = lax.fori_loop(i + 1, sizes[1], along, (mine_i, mine, rest))
    else:
      along = functools.partial(tile, leg.roles, i)
      mine_i, theirs, rest = lax.fori_loop(0, sizes[1], along, (mine_i, theirs, rest))
    return _put(mine, i, mine_i), theirs, rest

  return lax.fori_loop(0, sizes[0], row, state)


def _move(spec, hops, tree):
  axis, devices = spec.ring
  to = [(device, (device + hops) % devices) for device in range(devices)]
  return jax.tree.map(lambda x: lax.ppermute(x, axis, to), tree)


# States of all rows of a set, by channel.


def _both(spec, kind):
  return spec.both and not kind.per_anchor


def _empty(spec, rows: Set):
  dtype = jnp.promote_types(jnp.result_type(*jax.tree.leaves(rows.vectors)), jnp.float32)
  like = jnp.zeros_like(rows.place, dtype=dtype)
  return {name: reduction.empty(like) for name, reduction in spec.rows}


def _add(spec, states, quantities, places, axis):
  return {
    name: reduction.merge(states[name], reduction.of(quantities[name], places, axis))
    for name, reduction in spec.rows
  }


def _finish(spec, states):
  return {name: reduction.finish(states[name]) for name, reduction in spec.rows}


def _given(spec, states, cotangents):
  """The rows of which a gradient is asked, and (their states, their cotangents)."""
  zero = jax.custom_derivatives.SymbolicZero
  rows = tuple(
    (name, reduction)
    for name, reduction in spec.rows
    if hasattr(reduction, "pull")
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
    name: reduction.pull(quantities[name], places, states[name], g[name], axis)
    for name, reduction in rows
  }
  return jax.tree.map(like, found, quantities)


# Blocks of trees.


def _at(tree, i):
  return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 0, keepdims=False), tree)


def _put(tree, i, new):
  return jax.tree.map(lambda x, v: lax.dynamic_update_index_in_dim(x, v, i, 0), tree, new)


def _across(kind, candidates):
  """Their places, to broadcast against the tile."""
  return candidates.place if kind.per_anchor else candidates.place[None]


def _along(side, axis):
  return {name: jnp.expand_dims(values, axis) for name, values in side.items()}


# Gradients of some leaves of trees: those that `moving`, a tuple of bools, says.


def _vjp(function, *arguments):
  """function's value at trees, and the pullback to the moving leaves of each, given as (tree, moving)."""
  flat = [(*jax.tree.flatten(tree), moving) for tree, moving in arguments]

  def of_moving(*parts):
    trees = []
    for part, (leaves, structure, moving) in zip(parts, flat, strict=True):
      part = iter(part)
      filled = [next(part) if m else leaf for leaf, m in zip(leaves, moving, strict=True)]
      trees.append(jax.tree.unflatten(structure, filled))
    return function(*trees)

  return jax.vjp(of_moving, *(_moving(leaves, moving) for leaves, _, moving in flat))


def _moving(tree, moving):
  return [x for x, m in zip(jax.tree.leaves(tree), moving, strict=True) if m]


def _zeros(tree, moving):
  """Sums in float32 at least: many small terms of half precision would not add up."""
  return [
    jnp.zeros_like(x, dtype=jnp.promote_types(x.dtype, jnp.float32)) for x in _moving(tree, moving)
  ]


def _plus(sums, more):
  return [a + b.astype(a.dtype) for a, b in zip(sums, more, strict=True)]


def _cotangent(sums, tree, moving):
  leaves, structure = jax.tree.flatten(tree)
  sums = iter(sums)
  return jax.tree.unflatten(
    structure,
    [next(sums).astype(x.dtype) if m else None for x, m in zip(leaves, moving, strict=True)],
  )
