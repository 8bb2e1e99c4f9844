"""The order in which blocks of anchors meet blocks of candidates, on one device and around a ring."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
from jax import lax


class _Phase(NamedTuple):
  """One visit of the candidates that are here: which tiles, and in which roles.

  tiles: "all"; "diagonal": block i of anchors and of candidates; "triangle": the candidates
  are the very anchors of this device, and each unordered pair of blocks meets once.
  roles: "one", or "both": as the candidates' anchors as well. moves: they then travel on.
  """

  tiles: str
  roles: str
  moves: bool


def _phases(spec, kind):
  """(phase, how often), such that every pair of an anchor and a candidate is met once.

  The anchors' own set, whose score is symmetric: each unordered pair of tiles is visited
  once, and exchanged. Around a ring this halves the way too; with an even number of
  devices the last stop is opposite, where both sides come and each serves its own rows.
  """
  if kind.per_anchor:
    return [(_Phase("diagonal", "one", False), 1)]
  if not kind.own:
    roles = "both" if spec.both else "one"
    return [(_Phase("all", roles, kind.travels), spec.ring[1] if kind.travels else 1)]
  phases = [(_Phase("triangle", "both", kind.travels), 1)]
  if kind.travels:
    devices = spec.ring[1]
    phases.append((_Phase("all", "both", True), (devices - 1) // 2))
    phases.append((_Phase("all", "one", False), 1 - devices % 2))
  return phases


def visit_tiles(spec, kind, process_tile, anchors, candidates, visitor, state):
  """Visits all tiles; returns the state, what belongs to the candidates being back at home.

  The state: what belongs to the anchors, [blocks, …]; to the candidates, [blocks, …]; to
  none of them. Where candidates travel, theirs and the visitor (what `process_tile` needs to know
  of them) move on together, one device a hop.
  """
  sizes, hops = (anchors.place.shape[0], candidates.place.shape[0]), 0
  for phase, times in _phases(spec, kind):

    def stop(_, carry, phase=phase):
      visitor, state = carry
      mine, theirs, rest = _visit(phase, sizes, process_tile, visitor, state)
      if phase.moves:
        visitor, theirs = _move(spec, 1, (visitor, theirs))
      return visitor, (mine, theirs, rest)

    if times == 1:
      visitor, state = stop(0, (visitor, state))
    elif times > 1:
      visitor, state = lax.fori_loop(0, times, stop, (visitor, state))
    hops += times * phase.moves
  mine, theirs, rest = state
  if kind.travels and hops % spec.ring[1]:
    theirs = _move(spec, -hops, theirs)
  return mine, theirs, rest


def _visit(phase, sizes, process_tile, visitor, state):
  """mine[i], theirs[j], rest = process_tile(…, i, j, …) for all tiles of a phase.

  Row by row, with mine[i] in hand: a buffer that is read and written in two places at
  every tile would be copied as a whole at every tile.
  """

  def tile(roles, i, j, carry):
    mine_i, theirs, rest = carry
    mine_i, theirs_j, rest = process_tile(roles, i, j, visitor, (mine_i, at(theirs, j), rest))
    return mine_i, _put(theirs, j, theirs_j), rest

  def row(i, carry):
    mine, theirs, rest = carry
    mine_i = at(mine, i)
    if phase.tiles == "diagonal":
      mine_i, theirs, rest = tile("one", i, i, (mine_i, theirs, rest))
    elif phase.tiles == "triangle":
      mine_i, _, rest = process_tile("itself", i, i, visitor, (mine_i, (), rest))
      along = functools.partial(tile, "both", i)
      mine_i, mine, rest = lax.fori_loop(i + 1, sizes[1], along, (mine_i, mine, rest))
    else:
      along = functools.partial(tile, phase.roles, i)
      mine_i, theirs, rest = lax.fori_loop(0, sizes[1], along, (mine_i, theirs, rest))
    return _put(mine, i, mine_i), theirs, rest

  return lax.fori_loop(0, sizes[0], row, state)


def _move(spec, hops, tree):
  axis, devices = spec.ring
  to = [(device, (device + hops) % devices) for device in range(devices)]
  return jax.tree.map(lambda x: lax.ppermute(x, axis, to), tree)


def at(tree, i):
  """Block i of every array."""
  return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 0, keepdims=False), tree)


def _put(tree, i, new):
  return jax.tree.map(lambda x, v: lax.dynamic_update_index_in_dim(x, v, i, 0), tree, new)
