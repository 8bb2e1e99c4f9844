"""Conversion of Flax NNX modules to encoders, and argument checks that several encoders use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer

from contrastax.core import Array, Encoder, UserError
from contrastax.nouns import accepts, nearest


def from_nnx(build: Callable[..., nnx.Module], *, together: bool = True) -> Encoder:
  """Converts a Flax NNX module to an encoder.

  The parameters are the `nnx.Param`s of the module. The state consists of all other
  `nnx.Variable`s, such as the statistics of BatchNorm. Both are nested dicts. Dropout and other
  random layers use the `key` of `apply`. Without it `apply` raises ValueError in training.
  `train=False` means `module.eval()`.

  Args:
    build: `build(x, rngs) -> nnx.Module`. x is a `jax.ShapeDtypeStruct` with the shape and type of
      one input, without the batch axis, or a tree of these if inputs are trees. The module is
      called with a batch. It returns the embedding [n, d], or a mapping with `embedding` and other
      outputs. Its arrays must be `nnx.Variable`s; any other array as an attribute raises
      ValueError.
    together: see `core.Encoder`.

  Returns:
    The encoder.

  Raises:
    UserError: `build` is a module instead of a function that returns one. `init` raises it if
      `build` cannot be called with x and rngs.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from contrastax import encoders
    >>> encoder = encoders.from_nnx(lambda x, rngs: nnx.Linear(x.shape[-1], 64, rngs=rngs))
    >>> x = jnp.zeros((4, 10))
    >>> params, state = encoder.init(jax.random.key(0), x)
    >>> encoder.apply(params, state, x, key=None, train=False)[0].shape
    (4, 64)
  """
  if isinstance(build, nnx.Module):
    raise UserError(
      "from_nnx takes a function of x and rngs that returns a module, such as "
      f"lambda x, rngs: {type(build).__name__}(…), not a module"
    )

  def abstract(x, train):
    leaves, tree = jax.tree.flatten(x)
    return of_shapes(tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves), tree, train)

  @functools.cache
  def of_shapes(leaves, tree, train):
    one = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])

    # The graph definition is static, so `eval_shape` finds it without computing any array.
    def traced():
      module = _call_build(build, one, nnx.Rngs(0))
      for path, node in nnx.iter_graph(module):
        if isinstance(node, Tracer):
          where = ".".join(map(str, path))
          raise ValueError(f"the module's attribute {where} is an array; wrap it in nnx.Variable")
      return module

    module = nnx.eval_shape(traced)
    module.train() if train else module.eval()
    graph, _, randomness, _ = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return graph, randomness

  def init(key, x):
    abstract(x, True)  # raises if the module has arrays that are not variables
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x)
    module = _call_build(build, one, nnx.Rngs(key))
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
    _, _, _, state = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return y, _plain(state)

  return Encoder(init, apply, together)


def _call_build(build: Callable[..., nnx.Module], x: Any, rngs: nnx.Rngs) -> nnx.Module:
  try:
    return build(x, rngs)
  except TypeError as error:
    if accepts(build, x, rngs):
      raise
    name = getattr(build, "__name__", type(build).__name__)
    call = f"{name}(…, rngs=rngs)" if isinstance(build, type) else "Net(…, rngs=rngs)"
    fault = " ".join(str(error).split())
    raise UserError(
      f"from_nnx calls {name} with x and rngs, which it does not accept ({fault}); give a function of "
      f"these two, such as from_nnx(lambda x, rngs: {call})"
    ) from None


def _plain(state: nnx.State) -> dict[str, Any]:
  """Converts a state to nested dicts with string keys, like those of a restored checkpoint."""

  def with_text_keys(tree):
    if not isinstance(tree, dict):
      return tree
    return {str(k): with_text_keys(v) for k, v in tree.items()}

  return with_text_keys(nnx.to_pure_dict(state))


def _keyed(randomness: nnx.State, key: Array | None, train: bool) -> nnx.State:
  """Returns the random streams of the module, each with its own key folded from `key`."""
  streams, tree = jax.tree.flatten(randomness)
  if not streams:
    return randomness
  if key is None:
    if train:
      raise ValueError("this encoder is random in training; pass a key to apply")
    key = jax.random.key(0)
  values = [
    jax.random.fold_in(key, i)
    if jnp.issubdtype(s.dtype, jax.dtypes.prng_key)
    else jnp.zeros_like(s)
    for i, s in enumerate(streams)
  ]
  return jax.tree.unflatten(tree, values)


def check_widths(widths: Any) -> None:
  """Checks the widths of layers.

  Raises:
    UserError: they are not a tuple of positive integers.
  """
  valid = isinstance(widths, tuple | list) and [isinstance(w, int) and w > 0 for w in widths]
  if not valid or not all(valid):
    raise UserError(f"widths must be positive integers, such as (64, 128), not {widths!r}")


def check_image(encoder: str, x: jax.ShapeDtypeStruct) -> None:
  """Checks that one input is an image [h, w, c].

  Raises:
    UserError: the input has another number of axes.
  """
  if len(x.shape) != 3:
    shape = ", ".join(map(str, ("n", *x.shape)))
    raise UserError(f"{encoder} takes images [n, h, w, c], not inputs of shape [{shape}]")


def check_dtype(dtype: str | None) -> None:
  """Checks the name of a floating-point type.

  Raises:
    UserError: `dtype` is neither None nor such a name.
  """
  try:
    floating = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
  except TypeError:
    floating = False
  if not floating:
    raise UserError(f"dtype must be a floating-point type, such as 'bfloat16', not {dtype!r}")


def embedding(layers: Mapping[str, Array], hidden: tuple[str, ...]) -> Any:
  """Returns the outputs of an encoder, in float32 at least.

  Args:
    layers: the outputs of all layers by name, including `embedding`.
    hidden: the names of the hidden layers to return.

  Returns:
    The embedding, or, if `hidden` is not empty, a mapping of these layers and `embedding`.

  Raises:
    UserError: a name in `hidden` is not the name of a layer.
  """
  for name in hidden:
    if name not in layers:
      raise UserError(f"hidden: there is no layer {name!r}{nearest(name, list(layers))}")
  chosen = {name: layers[name] for name in (*hidden, "embedding")}
  chosen = {k: y.astype(jnp.promote_types(y.dtype, jnp.float32)) for k, y in chosen.items()}
  return chosen if hidden else chosen["embedding"]
