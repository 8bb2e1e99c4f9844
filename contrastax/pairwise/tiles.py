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
import numpy as np
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

  rows: (channel, reduction, whether its gradient is wanted). both: exchanged roles are
  results too. kinds: one for each group. ring: (mesh axis, devices) or None.
  """

  meet: Callable
  channels: Callable
  rows: tuple[tuple[str, Any, bool], ...]
  both: bool
  kinds: tuple[Kind, ...]
  ring: tuple[str, int] | None = None


def dense(spec: Spec, anchors: Set, groups: tuple[Set, ...], score_params, shared):
  """({channel: [n]}, one {channel: [m]} per group or None), differentiated by JAX."""
  rows, columns = _empty(spec, anchors), []
  for kind, group in zip(spec.kinds, groups, strict=True):
    exchange = spec.both and not kind.per_anchor
    own, exchanged = _tile(spec, kind, exchange, spec.rows, anchors, group, score_params, shared)
    rows = _add(spec, rows, own, _across(kind, group), 1)
    if exchange:
      columns.append(_add(spec, _empty(spec, group), exchanged, anchors.place[:, None], 0))
    else:
      columns.append(None)
  return _finish(spec, rows), [c and _finish(spec, c) for c in columns]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def tiled(spec: Spec, anchors: Set, groups: tuple[Set | None, ...], score_params, shared):
  """As `dense`, of sets that are cut into blocks, [blocks, size, …]; a group that is `own` is None.

  Memory is linear: only the states of the reductions are kept, and the backward pass
  computes every tile again.
  """
  return _forward(spec, anchors, groups, score_params, shared)[0]


def _forward(spec, anchors, groups, score_params, shared):
  rows, columns = _empty(spec, anchors), []
  for kind, group in zip(spec.kinds, groups, strict=True):

    def meet(roles, i, j, visitor, state, kind=kind):
      mine, theirs, _ = state
      a, c = _at(anchors, i), _candidates(kind, visitor, j)
      exchange = roles == "both"
      own, exchanged = _tile(spec, kind, exchange, spec.rows, a, c, score_params, shared)
      if exchange:
        theirs = _add(spec, theirs, exchanged, a.place[:, None], 0)
      return _add(spec, mine, own, _across(kind, c), 1), theirs, ()

    visitor = anchors if kind.own else group
    exchange = kind.travels if kind.own else spec.both and not kind.per_anchor
    theirs = _empty(spec, visitor) if exchange else ()
    rows, theirs, _ = _tour(spec, kind, meet, anchors, visitor, visitor, (rows, theirs, ()))
    if kind.own and theirs:
      rows = {name: r.merge(rows[name], theirs[name]) for name, r, _ in spec.rows}
    columns.append(theirs if spec.both and exchange else None)
  finished = _finish(spec, rows), [c and _finish(spec, c) for c in columns]
  return finished, (anchors, groups, score_params, shared, rows, columns)


def _backward(spec, residuals, cotangents):
  anchors, groups, score_params, shared, rows, columns = residuals
  to_rows, to_columns = cotangents
  wanted = tuple(row for row in spec.rows if row[2])
  given = _only(wanted, rows), _only(wanted, to_rows)
  to_anchors, to_shared, to_groups = _zeros(anchors), _zeros((score_params, shared)), []
  for kind, group, of, to in zip(spec.kinds, groups, columns, to_columns, strict=True):

    def meet(roles, i, j, visitor, sums, kind=kind):
      (candidates, theirs), (mine, to_candidates, to_shared) = visitor, sums
      a, c = _at(anchors, i), _candidates(kind, candidates, j)
      exchange = roles == "both"
      tile = functools.partial(_tile, spec, kind, exchange, wanted)
      (own, exchanged), pull = jax.vjp(tile, a, c, score_params, shared)
      g = _pull(wanted, own, _across(kind, c), *_at(given, i), 1), None
      if exchange:
        g = g[0], _pull(wanted, exchanged, a.place[:, None], *_at(theirs, j), 0)
      from_a, from_c, *rest = pull(g)
      from_c = _swapped(from_c) if kind.own else from_c
      mine, to_shared = _plus(mine, from_a), _plus(to_shared, rest)
      if roles == "itself":
        return _plus(mine, from_c), to_candidates, to_shared
      return mine, _plus(to_candidates, from_c), to_shared

    candidates = anchors if kind.own else group
    theirs = given if kind.own else (_only(wanted, of), _only(wanted, to)) if of else ()
    sums = to_anchors, _zeros(candidates) if kind.travels or not kind.own else [], to_shared
    to_anchors, to_group, to_shared = _tour(
      spec, kind, meet, anchors, candidates, (candidates, theirs), sums
    )
    if kind.own and kind.travels:
      to_anchors = [a + b for a, b in zip(to_anchors, to_group, strict=True)]
    to_groups.append(None if kind.own else _cotangent(to_group, group))
  return (
    _cotangent(to_anchors, anchors),
    tuple(to_groups),
    *_cotangent(to_shared, (score_params, shared)),
  )


tiled.defvjp(_forward, _backward)


def _tile(spec, kind, exchange, rows, anchors, candidates, score_params, shared):
  """The quantities of `rows` for a tile, and with `exchange` those of exchanged roles, or None.

  Channels are elementwise, so exchanged roles broadcast the other way: no transpose.
  """
  similarity = spec.meet(score_params, anchors.vectors, candidates.vectors)

  def quantities(anchor, candidate, there):
    found = spec.channels(similarity, anchor, candidate, shared)

    def fill(x, identity):
      x = jnp.broadcast_to(x, similarity.shape)
      return jnp.where(there, x, identity) if kind.padded else x

    of_rows = {name: jax.tree.map(fill, found[name], r.identity) for name, r, _ in rows}
    return {
      name: of_rows[name] if wanted else lax.stop_gradient(of_rows[name])
      for name, _, wanted in rows
    }

  if kind.per_anchor:
    own = quantities(_along(anchors.side, 1), candidates.side, True)
  else:
    there = (candidates.place >= 0)[None]
    own = quantities(_along(anchors.side, 1), _along(candidates.side, 0), there)
  if not exchange:
    return own, None
  there = (anchors.place >= 0)[:, None]
  return own, quantities(_along(candidates.exchanged, 0), _along(anchors.exchanged, 1), there)


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


def _empty(spec, rows: Set):
  dtype = jnp.promote_types(jnp.result_type(*jax.tree.leaves(rows.vectors)), jnp.float32)
  like = jnp.zeros_like(rows.place, dtype=dtype)
  return {name: reduction.empty(like) for name, reduction, _ in spec.rows}


def _add(spec, states, quantities, places, axis):
  return {
    name: reduction.merge(states[name], reduction.of(quantities[name], places, axis))
    for name, reduction, _ in spec.rows
  }


def _finish(spec, states):
  return {name: reduction.finish(states[name]) for name, reduction, _ in spec.rows}


def _pull(rows, quantities, places, states, g, axis):
  def of(x, like):
    return jnp.broadcast_to(x, like.shape).astype(like.dtype)

  found = {
    name: reduction.pull(quantities[name], places, states[name], g[name], axis)
    for name, reduction, _ in rows
  }
  return jax.tree.map(of, found, quantities)


def _only(rows, named):
  return {name: named[name] for name, *_ in rows}


# Blocks of trees, and sums of cotangents, which only floating leaves have.


def _at(tree, i):
  return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 0, keepdims=False), tree)


def _put(tree, i, new):
  return jax.tree.map(lambda x, v: lax.dynamic_update_index_in_dim(x, v, i, 0), tree, new)


def _candidates(kind, visitor, j):
  """Block j of the candidates; of the anchors' own set it is a block of anchors in the other role."""
  return _swapped(_at(visitor, j)) if kind.own else _at(visitor, j)


def _swapped(anchors):
  return Set(anchors.vectors, anchors.exchanged, anchors.side, anchors.place)


def _across(kind, candidates):
  """Their places, to broadcast against the tile."""
  return candidates.place if kind.per_anchor else candidates.place[None]


def _along(side, axis):
  return {name: jnp.expand_dims(values, axis) for name, values in side.items()}


def _floating(tree):
  return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def _zeros(tree):
  """Sums in float32 at least: many small terms of half precision would not add up."""
  return [jnp.zeros_like(x, dtype=jnp.promote_types(x.dtype, jnp.float32)) for x in _floating(tree)]


def _plus(sums, cotangents):
  return [a + b.astype(a.dtype) for a, b in zip(sums, _floating(cotangents), strict=True)]


def _more(sums, i, cotangents):
  return _put(sums, i, _plus(_at(sums, i), cotangents))


def _cotangent(sums, tree):
  sums = iter(sums)

  def of(x):
    if jnp.issubdtype(x.dtype, jnp.inexact):
      return next(sums).astype(x.dtype)
    return np.zeros(x.shape, jax.dtypes.float0)

  return jax.tree.map(of, tree)
