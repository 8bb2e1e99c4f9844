"""The engine: reductions over all pairs of anchors and candidates, stated once.

A loss says which pair quantities it needs (its channels) and how each is reduced; how
that is evaluated is decided here alone. This is the dense evaluation: it forms the
[n, m] matrix of each group, and is differentiated by JAX.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from contrastax.core import Group, Score


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
):
  """Reduces pair quantities over all candidates of each anchor.

  With s_ij = score(anchor i, candidate j) and x_ij = channels(s_ij, side_i, side_j, shared),
  returns R_j x_ij for each channel and its reduction R; j runs over all groups.

  Args:
    channels: `(similarity, anchor side, candidate side, shared) -> {name: quantity}` (for
      `softmax_mean` a pair of quantities), elementwise: similarity is [n, m] (or [n, k]) and sides come shaped to broadcast
      against it. A module-level function or a frozen dataclass of Python values: it is
      the key under which the evaluation is compiled.
    anchors: vectors [n, d] and their sides.
    groups: candidates, each [m, d] or, a set per anchor, [n, k, d].
    score: where vectors meet, with `score_params`.
    rows: {channel: reduction}; channels that are not named cost nothing.
    shared: traced arrays that all pairs see.
    both: also exchange the roles, on the same score: every candidate of a shared group
      is an anchor, and the anchors are its candidates.
    same_set: the first group's vectors are the anchors' own.

  Returns:
    {channel: [n]}; with `both`, a pair of that and a list with one {channel: [m]} per
    group, None for a set per anchor.
  """
  _check(anchors, groups, same_set)
  return _dense(
    channels, score, tuple(rows.items()), both, anchors, tuple(groups), score_params, shared
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _dense(channels, score, rows, both, anchors, groups, score_params, shared):
  def tile(similarity, a, c):
    quantities = channels(similarity, a, c, shared)
    return {
      name: jax.tree.map(lambda x: jnp.broadcast_to(x, similarity.shape), quantities[name])
      for name, _ in rows
    }

  scores = [score(score_params, anchors.vectors, group.vectors) for group in groups]
  start = jnp.zeros(anchors.vectors.shape[0], scores[0].dtype)
  states = {name: reduction.init(start) for name, reduction in rows}
  for group, similarity in zip(groups, scores, strict=True):
    candidates = group.side if group.per_anchor else _along(group.side, 0)
    part = tile(similarity, _along(anchors.side, 1), candidates)
    states = {name: r.add(states[name], part[name], 1) for name, r in rows}
  result = {name: r.finish(states[name]) for name, r in rows}
  if not both:
    return result

  columns = []
  for group, similarity in zip(groups, scores, strict=True):
    if group.per_anchor:
      columns.append(None)
      continue
    # Channels are elementwise, so exchanged roles broadcast the other way: no transpose.
    part = tile(similarity, _along(group.side, 0), _along(anchors.side, 1))
    start = jnp.zeros(group.vectors.shape[0], similarity.dtype)
    columns.append({name: r.finish(r.add(r.init(start), part[name], 0)) for name, r in rows})
  return result, columns


def _along(side, axis):
  return {name: jnp.expand_dims(values, axis) for name, values in side.items()}


def _check(anchors, groups, same_set):
  chex.assert_rank(anchors.vectors, 2)
  n, d = anchors.vectors.shape
  chex.assert_tree_shape_prefix(anchors.side, (n,), custom_message="sides of the anchors")
  if not groups:
    raise ValueError("reduce: no candidate group; an anchor needs at least its keys")
  for group in groups:
    chex.assert_rank(group.vectors, {2, 3})
    leading = (n,) if group.per_anchor else ()
    chex.assert_shape(group.vectors, (*leading, None, d))
    if group.side.keys() != groups[0].side.keys():
      raise ValueError(
        f"groups of one call carry the same sides: {sorted(groups[0].side)} and {sorted(group.side)}"
      )
    for name, values in group.side.items():
      chex.assert_tree_shape_prefix(values, group.vectors.shape[:-1], custom_message=name)
  if same_set and groups[0].vectors.shape != anchors.vectors.shape:
    raise ValueError(
      f"same_set says that the keys are the anchors, but their shapes are "
      f"{groups[0].vectors.shape} and {anchors.vectors.shape}"
    )
