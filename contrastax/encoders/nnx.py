"""A Flax NNX module as a pure `Encoder`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from contrastax.core import Encoder, UserError
from contrastax.nouns import nearest


def from_nnx(build: Callable[..., nnx.Module], *, together: bool = True) -> Encoder:
  """The encoder whose network is `build(x, rngs)`, an `nnx.Module` called with x.

  `x` carries the shape and dtype of one input (without the batch axis), for layers that
  need them:
  `from_nnx(lambda x, rngs: nnx.Linear(x.shape[-1], 64, rngs=rngs))`.
  Where inputs are a tree of arrays, so is x. The module returns the embedding [n, d], or a mapping
  with `embedding` and other outputs. together: see `core.Encoder`.

  Parameters are the module's `nnx.Param`s, state every other `nnx.Variable` (BatchNorm's
  statistics), both as plain nested dicts; a bare array as an attribute is a ValueError.
  Dropout and the like draw from the `key` given to `apply`; without one such a module
  raises ValueError in training. `train=False` means `module.eval()`.
  """

  def abstract(x, train):
    leaves, tree = jax.tree.flatten(x)
    return of_shapes(tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves), tree, train)

  @functools.cache
  def of_shapes(leaves, tree, train):
    one = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])

    # The graph definition is static, and found without computing anything.
    def traced():
      module = build(one, nnx.Rngs(0))
      for path, node in nnx.iter_graph(module):
        if isinstance(node, jax.core.Tracer):
          where = ".".join(map(str, path))
          raise ValueError(f"the module's attribute {where} is an array; wrap it in nnx.Variable")
      return module

    module = nnx.eval_shape(traced)
    module.train() if train else module.eval()
    graph, _, randomness, _ = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return graph, randomness

  def init(key, x):
    abstract(x, True)  # refuses what cannot be a pure function
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x)
    module = build(one, nnx.Rngs(key))
    _, params, _, state = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return _plain(params), _plain(state)

  def apply(params, state, x, *, key=None, train):
    graph, randomness = abstract(x, train)
    module = nnx.merge(
      graph,
      nnx.restore_int_paths(params),
      _keyed(randomness, key, train),
      nnx.restore_int_paths(state),
      copy=True,
    )
    y = module(x)
    return y, _plain(nnx.split(module, nnx.Param, nnx.RngState, ...)[3])

  return Encoder(init, apply, together)


def _plain(state):
  """Nested dicts with text keys: the same before and after a checkpoint."""

  def texts(tree):
    return {str(k): texts(v) for k, v in tree.items()} if isinstance(tree, dict) else tree

  return texts(nnx.to_pure_dict(state))


def _keyed(randomness, key, train):
  """The module's random streams, each with its own key folded from `key`."""
  streams, tree = jax.tree.flatten(randomness)
  if streams and key is None:
    if train:
      raise ValueError("this encoder draws random numbers in training: give apply a key")
    key = jax.random.key(0)
  values = [
    jax.random.fold_in(key, i)
    if jnp.issubdtype(s.dtype, jax.dtypes.prng_key)
    else jnp.zeros_like(s)
    for i, s in enumerate(streams)
  ]
  return jax.tree.unflatten(tree, values)


def check_widths(widths) -> None:
  """Raises UserError unless `widths` are the positive sizes of layers."""
  each = isinstance(widths, tuple | list) and [isinstance(w, int) and w > 0 for w in widths]
  if not each or not all(each):
    raise UserError(f"widths must be positive integers, such as (64, 128), not {widths!r}")


def check_image(encoder: str, x) -> None:
  """Raises UserError unless one input `x` is an image [h, w, c]."""
  if len(x.shape) != 3:
    found = ", ".join(map(str, ("n", *x.shape)))
    raise UserError(f"{encoder} takes images [n, h, w, c], not inputs of shape [{found}]")


def check_dtype(dtype) -> None:
  """Raises UserError unless `dtype` is None or names a floating-point type."""
  try:
    floating = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
  except TypeError:
    floating = False
  if not floating:
    raise UserError(f"dtype must be a floating-point type, such as 'bfloat16', not {dtype!r}")


def embedding(layers, hidden):
  """What an encoder returns of its `layers`, a mapping by name, in float32 at least.

  The last one, the embedding; with names of `hidden` layers a mapping of these and `embedding`.
  """
  for name in hidden:
    if name not in layers:
      raise UserError(f"hidden: there is no layer {name!r}{nearest(name, list(layers))}")
  chosen = {name: layers[name] for name in (*hidden, "embedding")}
  chosen = {k: y.astype(jnp.promote_types(y.dtype, jnp.float32)) for k, y in chosen.items()}
  return chosen if hidden else chosen["embedding"]
