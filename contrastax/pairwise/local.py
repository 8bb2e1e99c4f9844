"""The evaluation of all pairs on one device, or of one device's part of the pairs in a ring."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastax.core import Array, Group, Score
from contrastax.pairwise.derivatives import without_forward_mode
from contrastax.pairwise.plan import even
from contrastax.pairwise.tiled import tiled
from contrastax.pairwise.tiles import EvalSpec, GroupSpec, Reductions, Results, TileData, dense


class Ring(NamedTuple):
  """The ring of devices of an evaluation.

  Args:
    axis: the mesh axis.
    devices: the number of devices on the axis.
    travels: for each group, whether it is divided over the devices, and so travels around the ring.
  """

  axis: str
  devices: int
  travels: tuple[bool, ...]


def evaluate_local(
  channels: Callable[..., Mapping[str, Any]],
  score: Score,
  reductions: Reductions,
  both: bool,
  same_set: bool,
  block: tuple[int, int] | None,
  ring: Ring | None,
  anchors: Group,
  groups: tuple[Group, ...],
  score_params: Any,
  shared: Any,
) -> tuple[Results, list[Results | None]]:
  """Evaluates the pairs of the vectors on this device.

  Args:
    channels: the channels, see `pairwise.reduce`.
    score: the similarity.
    reductions: the name of a channel and its reduction, for each result.
    both: whether the scores are also reduced with exchanged roles, see `pairwise.reduce`.
    same_set: whether the first group consists of the anchors themselves.
    block: the largest tile, or None for a dense evaluation.
    ring: the ring of devices, or None on one device.
    anchors: the anchors on this device, [n, d].
    groups: the candidates on this device. Those that are divided over the ring visit all devices.
    score_params: the parameters of the score.
    shared: the arrays that are common to all pairs.

  Returns:
    {channel: [n]}, and for each group {channel: [m]} with the roles exchanged, or None.
  """
  travels = ring.travels if ring else (False,) * len(groups)
  n = anchors.vectors.shape[0]
  own = same_set and not both and block is not None and score.symmetric

  def positions_of(size, first, ring):
    """Returns the positions of candidates among the candidates of all devices."""
    positions = first + jnp.arange(size, dtype=jnp.int32)
    return positions + jax.lax.axis_index(ring.axis) * size if ring else positions

  exchanged = groups[0].side if own else anchors.side if both else {}
  anchor_data = TileData(anchors.vectors, anchors.side, exchanged, positions_of(n, 0, ring))
  data: list[TileData] = []
  first = 0
  for i, (group, divided) in enumerate(zip(groups, travels, strict=True)):
    m = group.vectors.shape[-2]
    vectors = anchors.vectors if same_set and i == 0 else group.vectors
    position = positions_of(m, first, ring if divided else None)
    if group.per_anchor:
      data.append(TileData(vectors, group.side, {}, jnp.broadcast_to(position, (n, m))))
    else:
      data.append(TileData(vectors, group.side, group.side if both else {}, position))
    first += m * ring.devices if ring and divided else m

  def prepare(rows, anchor):
    return rows._replace(vectors=score.prepare(score_params, rows.vectors, anchor))

  if block is None:
    group_specs = tuple(GroupSpec(group.per_anchor, False, False, False) for group in groups)
    spec = EvalSpec(score.combine, channels, reductions, both, group_specs)
    prepared = tuple(prepare(each, False) for each in data)
    return dense(spec, prepare(anchor_data, True), prepared, score_params, shared)

  blocks, group_specs = even(n, block[0]), []
  anchor_data = _to_blocks(anchor_data, *blocks)
  block_data: list[TileData | None] = []
  for i, (group, divided) in enumerate(zip(groups, travels, strict=True)):
    is_own, m = own and i == 0, group.vectors.shape[0]
    group_blocks = blocks if group.per_anchor or is_own else even(m, block[1])
    padded = group_blocks[0] * group_blocks[1] != m or (both and blocks[0] * blocks[1] != n)
    group_specs.append(
      GroupSpec(group.per_anchor, is_own, padded and not group.per_anchor, divided)
    )
    block_data.append(None if is_own else _to_blocks(data[i], *group_blocks))
  if ring:
    varying = functools.partial(_varying, axis=ring.axis)
    anchor_data, block_data, score_params, shared = (
      jax.tree.map(varying, tree) for tree in (anchor_data, block_data, score_params, shared)
    )
  prepared = tuple(None if each is None else prepare(each, False) for each in block_data)
  spec = EvalSpec(
    score.combine,
    channels,
    reductions,
    both,
    tuple(group_specs),
    (ring.axis, ring.devices) if ring else None,
  )
  arguments = without_forward_mode((prepare(anchor_data, True), prepared, score_params, shared))
  results, group_results = tiled(spec, *arguments)
  return _from_blocks(results, n), [
    None if each is None else _from_blocks(each, group.vectors.shape[0])
    for each, group in zip(group_results, groups, strict=True)
  ]


def _to_blocks(rows: TileData, number: int, size: int) -> TileData:
  """Divides [n, …] into blocks [number, size, …], padded with copies of the first row.

  The padding is not zero, because the cosine of a zero vector has no gradient, and 0 · NaN is NaN.
  """

  def divide(x, fill=None):
    missing = number * size - x.shape[0]
    if missing:
      first = x[:1] if fill is None else jnp.full_like(x[:1], fill)
      x = jnp.concatenate([x, jnp.broadcast_to(first, (missing, *x.shape[1:]))])
    return x.reshape(number, size, *x.shape[1:])

  vectors, side, exchanged = (
    jax.tree.map(divide, tree) for tree in (rows.vectors, rows.side, rows.exchanged)
  )
  return TileData(vectors, side, exchanged, divide(rows.position, -1))


def _from_blocks(blocks: Results, size: int) -> Results:
  """Joins blocks [number, size, …] and drops the padding."""
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], blocks)


def _varying(x: Array, axis: str) -> Array:
  """Marks x as a value that may differ between devices. The transpose sums over the devices."""
  varying = jax.typeof(x).mat.varying
  return x if axis in varying else jax.lax.pcast(x, axis, to="varying")
