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
from contrastax.pairwise.checks import check, check_closures, check_parts
from contrastax.pairwise.derivatives import without_forward_mode
from contrastax.pairwise.inputs import numbers
from contrastax.pairwise.plan import Plan, even
from contrastax.pairwise.reductions import Reduction
from contrastax.pairwise.scores.precision import promoted
from contrastax.pairwise.tiles import EvalSpec, GroupSpec, TileData, dense, tiled


def reduce(
  channels: Callable[..., Mapping[str, jax.Array]],
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
    score: the similarity, with `score_params`.
    reductions: {channel: reduction}; channels that are not named cost nothing, and results that
      are not differentiated (`lax.stop_gradient`) cost no backward pass.
    shared: traced arrays that all pairs see.
    both: also exchange the roles, on the same scores: every candidate of a shared group
      is an anchor, and the anchors are its candidates.
    same_set: the first group's vectors are the anchors' own, which are read in their place.
    plan: how it is evaluated.

  Returns:
    {channel: [n]}; with `both`, a pair of that and a list with one {channel: [m]} per
    group, None for a set per anchor.

  Vectors of several types are promoted as JAX promotes them, integers to float32. The result of an
  anchor whose vector has a NaN is NaN, and so is that of one that meets a NaN.

  Raises:
    UserError, in one line, for shapes that do not fit, an empty group, sides that differ,
    a traced value where it cannot enter, a batch that the plan's mesh does not divide, what holds
    no numbers, integers that JAX would cut to 32 bits, a mesh of Explicit axes.
  """
  check_parts(channels, score, reductions, plan)
  anchors, groups = _prepared(anchors, groups)
  found, columns = _evaluate(
    channels, score, tuple(reductions.items()), both, same_set, plan, anchors, groups,
    score_params, shared,
  )  # fmt: skip
  return (found, columns) if both else found


def _prepared(anchors, groups):
  """Anchors and groups as arrays of JAX, the vectors of one floating type."""

  def checked(owner, group):
    side = {k: numbers(f"side {k!r} of {owner}", x) for k, x in group.side.items()}
    return Group(numbers(f"the vectors of {owner}", group.vectors), side)

  every = [checked("the anchors", anchors)]
  every += [checked(f"group {at}", group) for at, group in enumerate(groups)]
  vectors = promoted(*(group.vectors for group in every))
  anchors, *groups = (Group(x, group.side) for x, group in zip(vectors, every, strict=True))
  return anchors, tuple(groups)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _evaluate(
  channels, score, reductions, both, same_set, plan, anchors, groups, score_params, shared
):
  found, columns = _of_pairs(
    channels, score, reductions, both, same_set, plan, anchors, groups, score_params, shared
  )
  if both:
    columns = [
      c and _or_nan(reductions, c, group.vectors) for c, group in zip(columns, groups, strict=True)
    ]
  return _or_nan(reductions, found, anchors.vectors), columns


def _or_nan(reductions, results, vectors):
  """The results, NaN where the row's own vector is, even if it meets no pair; with a NaN gradient."""
  wide = jnp.promote_types(vectors.dtype, jnp.float32)
  nothing = jax.lax.stop_gradient((0 * vectors).astype(wide).sum(-1))  # 0, or NaN
  nothing = nothing * (1 + vectors[..., 0])  # whose gradient is 0, or NaN
  differentiable = {name for name, reduction in reductions if reduction.differentiable}
  return {
    name: jax.tree.map(lambda x: x + nothing.astype(x.dtype), result)
    if name in differentiable
    else result
    for name, result in results.items()
  }


def _of_pairs(
  channels, score, reductions, both, same_set, plan, anchors, groups, score_params, shared
):
  check(anchors, groups, same_set, score, score_params)
  check_closures(channels, score, anchors, groups, score_params, shared)
  n = anchors.vectors.shape[0]
  block = plan.blocks(n, sum(g.vectors.shape[-2] for g in groups), both)
  rest = channels, score, reductions, both, same_set, block
  if block is None or plan.devices == 1:
    return _evaluate_local(*rest, None, anchors, groups, score_params, shared)

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
  ring = functools.partial(_evaluate_local, *rest, (axis, devices, travels))
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


def _evaluate_local(
  channels, score, reductions, both, same_set, block, ring, anchors, groups, score_params, shared
):
  """The evaluation of what lies on this device, dense or in tiles; with `ring`, of its part."""
  axis, devices, travels = ring or (None, 1, (False,) * len(groups))
  n = anchors.vectors.shape[0]
  own = same_set and not both and block is not None and score.symmetric

  def numbered(size, first, divided):
    """The numbers of candidates among all of all devices."""
    places = first + jnp.arange(size, dtype=jnp.int32)
    return places + jax.lax.axis_index(axis) * size if divided else places

  exchanged = groups[0].side if own else anchors.side if both else {}
  a = TileData(anchors.vectors, anchors.side, exchanged, numbered(n, 0, bool(ring)))
  sets, first = [], 0
  for at, (group, divided) in enumerate(zip(groups, travels, strict=True)):
    m = group.vectors.shape[-2]
    vectors = anchors.vectors if same_set and at == 0 else group.vectors
    place = numbered(m, first, divided)
    if group.per_anchor:
      sets.append(TileData(vectors, group.side, {}, jnp.broadcast_to(place, (n, m))))
    else:
      sets.append(TileData(vectors, group.side, group.side if both else {}, place))
    first += m * (devices if divided else 1)

  def prepared(rows, anchor):
    return rows._replace(vectors=score.prepare(score_params, rows.vectors, anchor))

  if block is None:
    kinds = tuple(GroupSpec(group.per_anchor, False, False, False) for group in groups)
    spec = EvalSpec(score.combine, channels, reductions, both, kinds)
    sets = tuple(prepared(s, False) for s in sets)
    return dense(spec, prepared(a, True), sets, score_params, shared)

  blocks, kinds = even(n, block[0]), []
  a = _cut(a, *blocks)
  for at, (group, divided) in enumerate(zip(groups, travels, strict=True)):
    mine, m = own and at == 0, group.vectors.shape[0]
    cut = blocks if group.per_anchor or mine else even(m, block[1])
    ragged = cut[0] * cut[1] != m or (both and blocks[0] * blocks[1] != n)
    kinds.append(GroupSpec(group.per_anchor, mine, ragged and not group.per_anchor, divided))
    sets[at] = None if mine else _cut(sets[at], *cut)
  if ring:
    varying = functools.partial(_varying, axis=axis)
    a, sets, score_params, shared = jax.tree.map(varying, (a, sets, score_params, shared))
  sets = tuple(s and prepared(s, False) for s in sets)
  spec = EvalSpec(score.combine, channels, reductions, both, tuple(kinds), ring and (axis, devices))
  given = without_forward_mode((prepared(a, True), sets, score_params, shared))
  found, columns = tiled(spec, *given)
  sizes = [group.vectors.shape[0] for group in groups]
  return _joined(found, n), [c and _joined(c, m) for c, m in zip(columns, sizes, strict=True)]


def _cut(rows: TileData, number, size):
  """[number · size, …] as [number, size, …], padded with copies of the first row.

  Not with zeros: a zero vector has no cosine gradient, and 0 · NaN is NaN.
  """

  def cut(x, fill=None):
    missing = number * size - x.shape[0]
    if missing:
      first = x[:1] if fill is None else jnp.full_like(x[:1], fill)
      x = jnp.concatenate([x, jnp.broadcast_to(first, (missing, *x.shape[1:]))])
    return x.reshape(number, size, *x.shape[1:])

  return TileData(*jax.tree.map(cut, rows[:-1]), cut(rows.place, -1))


def _joined(blocks, size):
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], blocks)


def _varying(x, axis):
  """x as a value that may differ from device to device; the transpose of this is the sum."""
  varying = jax.typeof(x).mat.varying
  return x if axis in varying else jax.lax.pcast(x, axis, to="varying")
