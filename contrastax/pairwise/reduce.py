"""The engine: reductions over all pairs of anchors and candidates, stated once.

A loss says which pair quantities it needs (its channels) and how each is reduced. How
that is evaluated is said by a plan, and changes nothing but time and memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from contrastax.core import Group, Score, UserError
from contrastax.pairwise.plan import Plan, even
from contrastax.pairwise.tiles import Kind, Set, Spec, dense, tiled


def reduce(
  channels: Callable[..., Mapping[str, jax.Array]],
  anchors: Group,
  groups: Sequence[Group],
  *,
  score: Score,
  rows: Mapping[str, Any],
  score_params: Any = (),
  shared: Any = (),
  both: bool = False,
  same_set: bool = False,
  plan: Plan = Plan(),
):
  """Reduces pair quantities over all candidates of each anchor.

  With s_ij = score(anchor i, candidate j) and x_ij = channels(s_ij, side_i, side_j, shared),
  returns R_j x_ij for each channel and its reduction R; j runs over all groups.

  Args:
    channels: `(similarity, anchor side, candidate side, shared) -> {name: quantity}` (for
      `softmax_mean` a pair of quantities), elementwise: similarity is [n, m] (or [n, k], or a
      tile of these) and sides come shaped to broadcast against it. A module-level function or
      a frozen dataclass of Python values: it is the key under which the evaluation is
      compiled. What is traced enters by sides, `score_params` or `shared`.
    anchors: vectors [n, d] and their sides.
    groups: candidates, each [m, d] or, a set per anchor, [n, k, d].
    score: where vectors meet, with `score_params`.
    rows: {channel: reduction}; channels that are not named cost nothing, and results that
      are not differentiated (`lax.stop_gradient`) cost no backward pass.
    shared: traced arrays that all pairs see.
    both: also exchange the roles, on the same scores: every candidate of a shared group
      is an anchor, and the anchors are its candidates.
    same_set: the first group's vectors are the anchors' own, which are read in their place.
    plan: how it is evaluated.

  Returns:
    {channel: [n]}; with `both`, a pair of that and a list with one {channel: [m]} per
    group, None for a set per anchor.

  Raises:
    UserError, in one line, for shapes that do not fit, an empty group, sides that differ,
    a traced value where it cannot enter, a batch that the plan's mesh does not divide.
  """
  for part in (channels, score):
    _check_hashable(part)
  found, columns = _evaluate(
    channels, score, tuple(rows.items()), both, same_set, plan, anchors, tuple(groups),
    score_params, shared,
  )  # fmt: skip
  return (found, columns) if both else found


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _evaluate(channels, score, rows, both, same_set, plan, anchors, groups, score_params, shared):
  _check(anchors, groups, same_set, score, score_params)
  _check_closures(channels, score, anchors, groups, score_params, shared)
  n = anchors.vectors.shape[0]
  block = plan.blocks(n, sum(g.vectors.shape[-2] for g in groups))
  rest = channels, score, rows, both, same_set, block
  if block is None or plan.devices == 1:
    return _here(*rest, None, anchors, groups, score_params, shared)

  axis, devices = plan.axis, plan.devices
  if n % devices:
    raise UserError(
      f"{n} anchors, of shape {anchors.vectors.shape}, are not divided by the {devices} devices of "
      f"axis {axis!r}; take a multiple of {devices}"
    )
  # A group that the ring does not divide stays whole on every device, and does not travel.
  travels = tuple(not g.per_anchor and g.vectors.shape[0] % devices == 0 for g in groups)
  for group, moves in zip(groups, travels, strict=True):
    if both and not (moves or group.per_anchor):
      raise UserError(
        f"{group.vectors.shape[0]} candidates, of shape {group.vectors.shape}, are not divided by the "
        f"{devices} devices of axis {axis!r}, which both directions need"
      )
  whole, divided = PartitionSpec(), PartitionSpec(axis)
  ring = functools.partial(_here, *rest, (axis, devices, travels))
  return jax.shard_map(
    ring,
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


def _here(
  channels, score, rows, both, same_set, block, ring, anchors, groups, score_params, shared
):
  """The evaluation of what lies on this device, dense or in tiles; with `ring`, of its part."""
  axis, devices, travels = ring or (None, 1, (False,) * len(groups))
  own = block is not None and same_set and not both and getattr(score, "symmetric", False)

  def numbered(rows, first, divided):
    """The numbers of candidates among all of all devices."""
    places = first + jnp.arange(rows, dtype=jnp.int32)
    return places + jax.lax.axis_index(axis) * rows if divided else places

  n, first, sets = anchors.vectors.shape[0], 0, []
  exchanged = groups[0].side if own else anchors.side if both else {}
  a = Set(anchors.vectors, anchors.side, exchanged, numbered(n, 0, bool(ring)))
  for at, (group, divided) in enumerate(zip(groups, travels, strict=True)):
    m = group.vectors.shape[-2]
    place = numbered(m, first, divided)
    first += m * (devices if divided else 1)
    vectors = anchors.vectors if same_set and at == 0 else group.vectors
    if group.per_anchor:
      sets.append(Set(vectors, group.side, {}, jnp.broadcast_to(place, (n, m))))
    else:
      sets.append(Set(vectors, group.side, group.side if both else {}, place))

  if block is None:
    kinds = tuple(Kind(g.per_anchor, False, False, False) for g in groups)
  else:
    blocks, kinds, cuts = even(n, block[0]), [], []
    for at, (group, divided) in enumerate(zip(groups, travels, strict=True)):
      mine, m = own and at == 0, group.vectors.shape[0]
      cut = blocks if group.per_anchor or mine else even(m, block[1])
      padded = (cut[0] * cut[1] != m and not group.per_anchor) or (
        blocks[0] * blocks[1] != n and (both or mine)
      )
      kinds.append(Kind(group.per_anchor, mine, padded, divided))
      cuts.append(cut)
    a = _cut(a, *blocks)
    sets = [None if k.own else _cut(s, *cut) for s, k, cut in zip(sets, kinds, cuts, strict=True)]
  if ring:
    a, sets, score_params, shared = jax.tree.map(
      functools.partial(_varying, axis=axis), (a, sets, score_params, shared)
    )
  once = functools.partial(getattr(score, "once", _as_they_are), score_params)
  a = a._replace(vectors=once(a.vectors, True))
  sets = tuple(s and s._replace(vectors=once(s.vectors, False)) for s in sets)
  ring = (axis, devices) if ring else None
  spec = Spec(getattr(score, "meet", score), channels, rows, both, tuple(kinds), ring)
  if block is None:
    return dense(spec, a, sets, score_params, shared)
  found, columns = tiled(spec, a, sets, score_params, shared)
  sizes = [g.vectors.shape[0] for g in groups]
  return _joined(found, n), [c and _joined(c, m) for c, m in zip(columns, sizes, strict=True)]


def _as_they_are(params, vectors, anchor):
  return vectors


def _cut(rows: Set, number, size):
  """[number · size, …] as [number, size, …], padded with copies of the first row.

  Not with zeros: a zero vector has no cosine gradient, and 0 · NaN is NaN.
  """

  def cut(x, fill=None):
    missing = number * size - x.shape[0]
    if missing:
      first = x[:1] if fill is None else jnp.full_like(x[:1], fill)
      x = jnp.concatenate([x, jnp.broadcast_to(first, (missing, *x.shape[1:]))])
    return x.reshape(number, size, *x.shape[1:])

  return Set(*jax.tree.map(cut, rows[:-1]), cut(rows.place, -1))


def _joined(blocks, size):
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], blocks)


def _varying(x, axis):
  """x as a value that may differ from device to device; the transpose of this is the sum."""
  varying = jax.typeof(x).mat.varying
  return x if axis in varying else jax.lax.pcast(x, axis, to="varying")


def _check(anchors, groups, same_set, score, score_params):
  if jax.sharding.get_abstract_mesh().manual_axes:
    raise UserError(
      "inside shard_map a loss would see its own device's pairs only; call it outside, on the "
      "whole batch, with plan=Plan(mesh=mesh)"
    )
  shape = anchors.vectors.shape
  if len(shape) != 2 or not shape[0]:
    raise UserError(f"anchors are [n, d] with n > 0, not {shape}")
  if not groups:
    raise UserError("reduce: no candidate group; an anchor needs at least its keys")
  _check_sides("the anchors", anchors)
  for at, group in enumerate(groups):
    theirs = group.vectors.shape
    if len(theirs) not in (2, 3) or (group.per_anchor and theirs[0] != shape[0]):
      raise UserError(
        f"group {at} is [m, d] or, a set per anchor, [n, k, d]; it is {theirs}, the anchors {shape}"
      )
    if not theirs[-2]:
      raise UserError(f"group {at} is empty: candidates {theirs}, anchors {shape}")
    if group.side.keys() != groups[0].side.keys():
      raise UserError(
        f"groups of one call carry the same sides: {sorted(groups[0].side)} and {sorted(group.side)}"
      )
    _check_sides(f"group {at}", group)
    found = jax.eval_shape(score, score_params, anchors.vectors, group.vectors).shape
    if found != (shape[0], theirs[-2]):
      raise UserError(
        f"the score of anchors {shape} and candidates {theirs} is {found}, not {(shape[0], theirs[-2])}"
      )
  if same_set and groups[0].vectors.shape != shape:
    raise UserError(
      f"same_set says that the keys are the anchors, but their shapes are "
      f"{groups[0].vectors.shape} and {shape}"
    )


def _check_sides(owner, group):
  leading = group.vectors.shape[:-1]
  for name, values in group.side.items():
    if jnp.shape(values)[: len(leading)] != leading:
      raise UserError(
        f"side {name!r} of {owner} has shape {jnp.shape(values)}, the vectors {group.vectors.shape}"
      )


def _check_hashable(part):
  try:
    hash(part)
  except TypeError:
    raise UserError(
      f"{type(part).__name__} holds an array; channels and scores are functions or frozen "
      f"dataclasses of Python values, and arrays enter by a side, score_params or shared"
    ) from None


def _check_closures(channels, score, anchors, groups, score_params, shared):
  """A traced value that a channel or score closes over would be lost in the backward pass."""

  def tile(anchors, group, score_params, shared):
    similarity = score(score_params, anchors.vectors, group.vectors)
    a = {name: jnp.expand_dims(x, 1) for name, x in anchors.side.items()}
    c = group.side if group.per_anchor else {name: x[None] for name, x in group.side.items()}
    return channels(similarity, a, c, shared)

  for value in jax.make_jaxpr(tile)(anchors, groups[0], score_params, shared).consts:
    if isinstance(value, jax.core.Tracer):
      raise UserError(
        f"channels or score close over a traced value of shape {value.shape}; hand it in by a side "
        f"(one per anchor or candidate), by score_params or by shared"
      )
