"""The train step: a pure function that is compiled once for a mesh.

The batch is divided among the devices. The state is replicated, except for tables with one row per
example, which are divided. Means, BatchNorm statistics and losses are over the global batch, on any
number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from contrastax.compilation import quick_jit
from contrastax.core import (
  Array,
  Batch,
  Method,
  TrainState,
  UserError,
  check_seed,
  key_for,
  named_leaves,
)
from contrastax.data.orders import check_divisible
from contrastax.pairwise.inputs import check_mesh, numbers
from contrastax.training.mesh import automatic, make_mesh, replicated, sharded, state_sharding

Step = Callable[[TrainState, Batch], tuple[TrainState, Mapping[str, Array]]]

ACCUMULATED = (
  "the optimizer accumulates gradients, which a train step does not allow: a contrastive loss is not "
  "the sum of the losses of micro-batches, and moving averages, queues and temperatures would change "
  "in each micro-batch; for a large batch in little memory use "
  "encoder=encoders.chunked(encoder, n), or chunked(encoder, n, batch_norm='per chunk') for an "
  "encoder with BatchNorm"
)


def init(
  method: Method,
  optimizer: optax.GradientTransformation,
  batch: Batch,
  *,
  seed: int = 0,
  mesh: Mesh | None = None,
) -> TrainState:
  """Returns the state before the first step, which does not depend on the mesh.

  Args:
    method: a method, such as one of `contrastax.methods`.
    optimizer: an optax optimizer that changes the parameters in every step.
    batch: the first batch of a source, with the field `index`.
    seed: 0 to 2³² − 1. The seed and the step determine all random numbers of a run.
    mesh: a mesh with an axis `data`. The default is all devices.

  Returns:
    The state that `make_train_step(method, optimizer, mesh)` takes.

  Raises:
    UserError: an argument is invalid, the optimizer accumulates gradients over several steps
      (`optax.MultiSteps`), the batch has an example beyond the method's `examples`, or the devices
      do not divide the batch size.

  Example:
    >>> import jax
    >>> import numpy as np
    >>> import optax
    >>> from contrastax import encoders, methods, training, views
    >>> method = methods.SimCLR(
    ...   encoder=encoders.mlp((8,)),
    ...   projection=encoders.projection((8,), out=4),
    ...   views=views.affine_jitter(),
    ... )
    >>> batch = {"image": np.zeros((4, 6, 6, 1), np.uint8), "index": np.arange(4)}
    >>> state = training.init(method, optax.sgd(0.1), batch)
    >>> step = training.make_train_step(method, optax.sgd(0.1))
    >>> state, metrics = step(state, batch)
    >>> int(state.step), metrics["loss"].shape
    (1, ())
  """
  _check_parts(method, optimizer)
  seed, mesh = check_seed(seed), automatic(make_mesh() if mesh is None else mesh)
  _check_index(method, batch)
  # The compiled step cannot raise this: JAX checks the layout of its arguments before it.
  check_divisible(len(batch["index"]), mesh.shape["data"])
  for path, values in named_leaves(dict(batch)):
    if jnp.ndim(values) < 4:  # Views check images.
      numbers(f"the batch's {path!r}", values)
  _check_axes(batch)
  state = _init(method, optimizer, seed, batch)
  _check_steps(state.opt_state)
  return jax.device_put(state, state_sharding(state, mesh))


@quick_jit(static_argnums=(0, 1, 2))
def _init(
  method: Method, optimizer: optax.GradientTransformation, seed: int, batch: Batch
) -> TrainState:
  params, state = method.init(key_for(seed, "init"), batch)
  parts = TrainState(jnp.int32(0), jnp.uint32(seed), params, state, optimizer.init(params))
  # Weak types would change after the first step, which would then be compiled again.
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), parts)


def make_train_step(
  method: Method, optimizer: optax.GradientTransformation, mesh: Mesh | None = None
) -> jax.stages.Wrapped:
  """Returns the compiled train step of a method.

  Args:
    method: the method that was passed to `init`. If it has `step(optimizer, plain)`, the result of
      that function replaces the ordinary step, `plain`, and is compiled in the same way.
    optimizer: the optimizer that was passed to `init`.
    mesh: a mesh with an axis `data`, whose length divides the batch size. The default is all devices.

  Returns:
    The jitted function `step(state, batch) -> (state, metrics)`. The memory of the argument `state` is
    reused (donated).

  Raises:
    UserError: an argument is invalid. `step` raises it for an optimizer that accumulates gradients,
      and for an invalid result of the method's own step.
  """
  _check_parts(method, optimizer)
  mesh = automatic(make_mesh() if mesh is None else mesh)

  def plain(ts: TrainState, batch: Batch) -> tuple[TrainState, Mapping[str, Array]]:
    key = key_for(ts.seed, "step", ts.step)
    gradient = jax.value_and_grad(method.objective, has_aux=True)
    (_, (state, metrics)), grads = gradient(ts.params, ts.state, batch, key)
    updates, opt_state = optimizer.update(grads, ts.opt_state, ts.params)
    params = optax.apply_updates(ts.params, updates)
    state = method.advance(params, state, ts.step)
    metrics = {**metrics, "gradient_norm": optax.tree.norm(grads)}
    return TrainState(ts.step + 1, ts.seed, params, state, opt_state), metrics

  own = _own_step(method)
  whole = plain if own is None else _checked_step(own(optimizer, plain))

  def step(ts: TrainState, batch: Batch) -> tuple[TrainState, Mapping[str, Array]]:
    _check_axes(batch)
    _check_steps(ts.opt_state)
    after, metrics = whole(ts, batch)
    return jax.lax.with_sharding_constraint(after, state_sharding(after, mesh)), metrics

  return jax.jit(
    step,
    donate_argnums=0,
    in_shardings=(None, sharded(mesh)),
    out_shardings=(None, replicated(mesh)),
  )


def _own_step(method: Method) -> Callable[[optax.GradientTransformation, Step], Any] | None:
  """Returns the method's `step`, an optional part of `core.Method`, or None."""
  own = getattr(method, "step", None)
  if own is not None and not callable(own):
    raise UserError(
      f"method.step must be a function (optimizer, plain) -> step, not {type(own).__name__}; leave "
      "it out to use the ordinary step"
    )
  return own


def _checked_step(whole: Any) -> Step:
  """Returns a method's own step with checks of its result.

  It counts as one step, even if it calls `plain` several times.
  """
  if not callable(whole):
    raise UserError(
      "method.step(optimizer, plain) must return a function (train state, batch) -> (train state, "
      f"metrics), not {type(whole).__name__}"
    )

  def step(ts: TrainState, batch: Batch) -> tuple[TrainState, Mapping[str, Array]]:
    result: Any = whole(ts, batch)
    valid = isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], TrainState)
    if not (valid and isinstance(result[1], Mapping) and "loss" in result[1]):
      raise UserError(
        "the function of method.step must return (TrainState, metrics), with 'loss' in the metrics"
      )
    after, metrics = result
    for name, value in metrics.items():
      if isinstance(value, str) or np.ndim(value):
        found = repr(value) if isinstance(value, str) else f"{value.dtype} {[*np.shape(value)]}"
        raise UserError(f"the metric {name!r} of method.step must be a scalar, not {found}")
    if jax.tree.structure(after) != jax.tree.structure(ts):
      raise UserError(
        "the function of method.step must return a TrainState of the same structure; its params, state "
        "or opt_state have another one"
      )
    for (name, new), old in zip(named_leaves(after), jax.tree.leaves(ts), strict=True):
      found, expected = ((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in (new, old))
      if found != expected:
        raise UserError(
          f"method.step must keep shapes and types, but turned {name}, {expected[1]} "
          f"{[*expected[0]]}, into {found[1]} {[*found[0]]}"
        )
    return after._replace(step=ts.step + 1, seed=ts.seed), metrics

  return step


def _check_parts(method: Any, optimizer: Any) -> None:
  """Raises UserError unless these are a method and an optimizer."""
  missing = [name for name in ("init", "objective", "advance") if not _has(method, name)]
  if isinstance(method, type) or missing:
    found = f"the class {method.__name__}" if isinstance(method, type) else type(method).__name__
    raise UserError(
      "method must be an instance with init, objective and advance, such as methods.SimCLR(…), not "
      f"{found}"
    )
  _own_step(method)
  try:
    hash(method)
  except TypeError as error:
    raise UserError(
      f"method must be hashable ({error}); give its parts tuples instead of lists"
    ) from None
  if isinstance(optimizer, optax.MultiSteps):
    raise UserError(ACCUMULATED)
  if isinstance(optimizer, type) or not (_has(optimizer, "init") and _has(optimizer, "update")):
    raise UserError(
      "optimizer must be an optax.GradientTransformation, such as optax.adamw(1e-3), not "
      f"{getattr(optimizer, '__name__', type(optimizer).__name__)}"
    )


def _has(thing: Any, name: str) -> bool:
  return callable(getattr(thing, name, None))


def _check_index(method: Method, batch: Any) -> None:
  """Raises UserError unless the batch has a valid index.

  It is checked once, because a compiled step cannot raise an error; a table would return NaN.
  """
  if not (isinstance(batch, Mapping) and "index" in batch):
    found = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
    raise UserError(
      f"batch must be a dict of arrays that includes 'index', not {found or 'nothing'}; "
      "data.Resident returns such batches"
    )
  index = numbers("the batch's 'index'", batch["index"])
  if index.ndim != 1 or not index.size or not jnp.issubdtype(index.dtype, jnp.integer):
    raise UserError(
      f"the batch's 'index' must be integers [n], not {index.dtype} {list(index.shape)}"
    )
  examples, largest = getattr(method, "examples", 0), int(np.asarray(index).max())
  if 0 < examples <= largest:
    raise UserError(
      f"the batch has the example {largest:,}, but the method's examples are {examples:,}; give it "
      "examples=…, the size of the data"
    )


def _check_steps(opt_state: Any) -> None:
  """Raises UserError for an optimizer, wrapped or not, that skips the update in some steps."""
  kinds = optax.MultiStepsState | optax.ApplyEvery
  nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kinds))
  if any(isinstance(node, kinds) for node in nodes):
    raise UserError(ACCUMULATED)


def _check_axes(batch: Batch) -> None:
  """Raises UserError for a mesh with explicit axes, which methods do not support."""
  check_mesh("the step, by jax.set_mesh,", jax.sharding.get_abstract_mesh())
  for path, values in named_leaves(dict(batch)):
    check_mesh(f"the batch's {path!r}", jax.typeof(values).sharding.mesh)
