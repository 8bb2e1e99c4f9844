"""The order in which pairs of blocks are visited, on one device and around a ring of devices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
from jax import lax

if TYPE_CHECKING:
  from contrastax.pairwise.tiles import EvalSpec, GroupSpec, TileData

Roles = Literal["one", "both", "itself"]
"""How a tile is reduced. "one": over its candidates, for its anchors. "both": also over its
anchors, for its candidates. "itself": as "one", for a tile whose candidates are its anchors."""


class _Phase(NamedTuple):
  """One visit of the candidates that are on the device.

  Args:
    tiles: "all": every pair of blocks. "diagonal": block i of the anchors with block i of the
      candidates. "triangle": each unordered pair of blocks once; the candidates are the anchors of
      this device.
    roles: the roles of each tile.
    moves: whether the candidates move to the next device afterwards.
  """

  tiles: Literal["all", "diagonal", "triangle"]
  roles: Roles
  moves: bool


def _phases(spec: EvalSpec, group_spec: GroupSpec) -> list[tuple[_Phase, int]]:
  """Returns phases and their repetitions, so that each pair of vectors is visited once.

  If the candidates are the anchors and the score is symmetric, each unordered pair of tiles is
  computed once and reduced in both roles. Around a ring, the candidates then travel half of the
  ring only. With an even number of devices, the last visit is between opposite devices. Both of
  them compute these tiles, and each reduces them for its own anchors only.
  """
  if group_spec.per_anchor:
    return [(_Phase("diagonal", "one", False), 1)]
  devices = spec.ring[1] if spec.ring else 1
  if not group_spec.own:
    roles = "both" if spec.both else "one"
    return [(_Phase("all", roles, group_spec.travels), devices if group_spec.travels else 1)]
  phases = [(_Phase("triangle", "both", group_spec.travels), 1)]
  if group_spec.travels:
    phases.append((_Phase("all", "both", True), (devices - 1) // 2))
    phases.append((_Phase("all", "one", False), 1 - devices % 2))
  return phases


def visit_tiles(
  spec: EvalSpec,
  group_spec: GroupSpec,
  process_tile: Callable[..., Any],
  anchors: TileData,
  candidates: TileData,
  visitor: Any,
  state: tuple[Any, Any, Any],
) -> tuple[Any, Any, Any]:
  """Applies a function to every tile of one group.

  Candidates that are divided over a ring travel together with their part of the state and with the
  visitor, one device at a time. At the end, their part of the state is on their own device again.

  Args:
    spec: the evaluation.
    group_spec: the group.
    process_tile: `(roles, i, j, visitor, (block i of the anchors' part, block j of the candidates'
      part, common part)) -> the new three parts`.
    anchors: blocks of anchors; only their number matters here.
    candidates: blocks of candidates; only their number matters here.
    visitor: the arrays of the candidates that `process_tile` reads, [blocks, …].
    state: the anchors' part, [blocks, …]; the candidates' part, [blocks, …]; the common part.

  Returns:
    The state after all tiles.
  """
  sizes, hops = (anchors.position.shape[0], candidates.position.shape[0]), 0
  for phase, times in _phases(spec, group_spec):

    def visit(_, carry, phase=phase):
      visitor, state = carry
      anchor_part, candidate_part, common = _visit(phase, sizes, process_tile, visitor, state)
      if phase.moves:
        visitor, candidate_part = _move(spec, 1, (visitor, candidate_part))
      return visitor, (anchor_part, candidate_part, common)

    if times == 1:
      visitor, state = visit(0, (visitor, state))
    elif times > 1:
      visitor, state = lax.fori_loop(0, times, visit, (visitor, state))
    hops += times * phase.moves
  anchor_part, candidate_part, common = state
  if group_spec.travels and spec.ring and hops % spec.ring[1]:
    candidate_part = _move(spec, -hops, candidate_part)
  return anchor_part, candidate_part, common


def _visit(
  phase: _Phase,
  sizes: tuple[int, int],
  process_tile: Callable[..., Any],
  visitor: Any,
  state: tuple[Any, Any, Any],
) -> tuple[Any, Any, Any]:
  """Applies `process_tile` to all tiles of a phase, row by row.

  Block i of the anchors' part is a separate loop variable while its row is processed. If the loop
  over the tiles read and wrote two blocks of one buffer, XLA would copy the whole buffer at every
  tile.
  """

  def tile(roles, i, j, carry):
    anchor_block, candidate_part, common = carry
    candidate_block = read_block(candidate_part, j)
    anchor_block, candidate_block, common = process_tile(
      roles, i, j, visitor, (anchor_block, candidate_block, common)
    )
    return anchor_block, _write_block(candidate_part, j, candidate_block), common

  def row(i, carry):
    anchor_part, candidate_part, common = carry
    block = read_block(anchor_part, i)
    if phase.tiles == "diagonal":
      block, candidate_part, common = tile("one", i, i, (block, candidate_part, common))
    elif phase.tiles == "triangle":
      block, _, common = process_tile("itself", i, i, visitor, (block, (), common))
      # The candidates are the anchors, so their part of the state is the anchors' part.
      tile_of_row = functools.partial(tile, "both", i)
      block, anchor_part, common = lax.fori_loop(
        i + 1, sizes[1], tile_of_row, (block, anchor_part, common)
      )
    else:
      tile_of_row = functools.partial(tile, phase.roles, i)
      block, candidate_part, common = lax.fori_loop(
        0, sizes[1], tile_of_row, (block, candidate_part, common)
      )
    return _write_block(anchor_part, i, block), candidate_part, common

  return lax.fori_loop(0, sizes[0], row, state)


def _move(spec: EvalSpec, hops: int, tree: Any) -> Any:
  """Sends every array to the device that is `hops` further along the ring."""
  assert spec.ring is not None
  axis, devices = spec.ring
  to = [(device, (device + hops) % devices) for device in range(devices)]
  return jax.tree.map(lambda x: lax.ppermute(x, axis, to), tree)


def read_block(tree: Any, i: Any) -> Any:
  """Returns block i of every array."""
  return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 0, keepdims=False), tree)


def _write_block(tree: Any, i: Any, block: Any) -> Any:
  """Replaces block i of every array."""
  return jax.tree.map(lambda x, v: lax.dynamic_update_index_in_dim(x, v, i, 0), tree, block)
