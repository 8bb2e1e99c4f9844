"""Gradient transformations that the optimizers are made of."""

from __future__ import annotations

import functools
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from contrastax.core import Schedule, UserError

NUMBERED = re.compile(r"^(?P<network>.*?)/(?:blocks|stages)/(?P<number>\d+)/")
"""The path of a parameter in a block of a transformer or in a stage of a ResNet."""
LAST = re.compile(r"/(?:norm|attn_pool)/")
"""The path of a parameter of an encoder after its blocks."""

path_name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
"""Returns the path of a parameter as text, such as `encoder/layers/0/kernel`."""


def scale_by_layer(decay: float) -> optax.GradientTransformation:
  """Multiplies the update of layer l of an encoder by decay^(L − l).

  Layer 0 of a `vit` or a `text` is what precedes its blocks: patches, tokens and positions. Layer 0
  of a `resnet` is its stem. Block or stage i, from 1, is layer i, and L is the number of blocks or
  stages plus 1. The last LayerNorm, attention pooling and all other networks, such as the
  projection, are layer L. Their updates are unchanged.

  Args:
    decay: above 0 and at most 1.

  Returns:
    The transformation. Its `init` raises UserError if no parameter is in a block or a stage.

  References:
    Bao et al., BEiT, 2021, arXiv 2106.08254. He et al., MAE, 2021, arXiv 2111.06377, appendix A.
  """
  if not 0 < decay <= 1:
    raise UserError(f"layer_decay must be above 0 and at most 1, not {decay}")

  def init(params: Any) -> Any:
    layers_of(params)
    return optax.EmptyState()

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    distances = layers_of(updates)
    return jax.tree.map(lambda u, distance: u * decay**distance, updates, distances), state

  return optax.GradientTransformation(init, update)


def layers_of(params: Any) -> Any:
  """Returns a tree of L − l for the layer l of each parameter, see `scale_by_layer`.

  Raises:
    UserError: no parameter is in a block or a stage.
  """
  paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  matches = [match for match in map(NUMBERED.match, paths) if match]
  if not matches:
    raise UserError(
      "layer_decay needs a trained encoder with blocks or stages (vit, text or resnet), which this "
      "method does not have; remove layer_decay"
    )
  last: dict[str, int] = {}
  for match in matches:
    network = match["network"]
    last[network] = max(last.get(network, 0), int(match["number"]) + 2)

  def distance(path: Any, _: Any) -> int:
    name = path_name(path)
    if match := NUMBERED.match(name):
      return last[match["network"]] - int(match["number"]) - 1
    network = next((each for each in last if name.startswith(f"{each}/")), None)
    return 0 if network is None or LAST.search(name) else last[network]

  return jax.tree_util.tree_map_with_path(distance, params)


class _Count(NamedTuple):
  """The state of a transformation with a schedule.

  Args:
    count: the number of steps so far.
  """

  count: Any


def add_decayed_weights(weight_decay: float | Schedule, mask: Any) -> optax.GradientTransformation:
  """Adds the weights, times a number or a schedule, to the updates.

  Args:
    weight_decay: the factor of the weights, or its schedule.
    mask: a function from parameters to a tree of booleans, true for decay.
  """
  if not callable(weight_decay):
    return optax.add_decayed_weights(weight_decay, mask)

  def init(params: Any) -> _Count:
    return _Count(jnp.zeros((), jnp.int32))

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    factor = weight_decay(state.count)
    updates = jax.tree.map(lambda u, p: u + (factor * p).astype(u.dtype), updates, params)
    return updates, _Count(optax.safe_increment(state.count))

  return optax.masked(optax.GradientTransformation(init, update), mask)


def on_matrices(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """Applies a transformation of matrices to kernels [..., in, out] as matrices [... · in, out]."""

  def matrices(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.reshape(math.prod(leaf.shape[:-1]), -1), tree)

  def init(params: Any) -> Any:
    return inner.init(matrices(params))

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    flat, state = inner.update(matrices(updates), state, matrices(params))
    return jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), flat, updates), state

  return optax.GradientTransformation(init, update)
