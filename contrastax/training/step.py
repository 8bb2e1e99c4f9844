"""The train step: one pure function, compiled once over a mesh.

The batch is sharded and the state replicated, except for tables with a row for each example, which
are divided. So every mean, every BatchNorm statistic and every loss is over the global batch
whatever the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from contrastax.compilation import quick_jit
from contrastax.core import (
  Batch,
  Method,
  TrainState,
  UserError,
  check_seed,
  key_for,
  named_leaves,
)
from contrastax.pairwise.inputs import check_mesh, numbers
from contrastax.training.mesh import automatic, make_mesh, replicated, sharded, state_sharding

ACCUMULATED = (
  "the optimizer accumulates gradients, which a train step refuses: a contrastive loss is not the "
  "sum of its micro-batches' losses, and moving averages, queues and temperatures would move in each "
  "of them; for a large batch in little memory give the method encoder=encoders.chunked(encoder, n), of an "
  "encoder with BatchNorm chunked(encoder, n, batch_norm='per chunk')"
)


def init(
  method: Method,
  optimizer: optax.GradientTransformation,
  batch: Batch,
  *,
  seed: int = 0,
  mesh: Mesh | None = None,
) -> TrainState:
  """The state before the first step, the same on any mesh.

  Args:
    method: one of `contrastax.methods`, or a method of your own.
    optimizer: an optax optimizer that moves the parameters in every step.
    batch: the first batch of a source, with the entry `index`.
    seed: 0 to 2³² − 1; with the step's number it determines all random numbers of a run.
    mesh: a mesh with an axis `data`; all devices by default.

  Returns:
    The state that `make_train_step(method, optimizer, mesh)` takes.

  Raises:
    UserError: an argument that is not so, an optimizer that accumulates gradients over steps
      (`optax.MultiSteps`), or a batch with an example that the method's `examples` do not count.
  """
  _check_parts(method, optimizer)
  seed, mesh = check_seed(seed), automatic(make_mesh() if mesh is None else mesh)
  _check_index(method, batch)
  for path, values in named_leaves(dict(batch)):
    if jnp.ndim(values) < 4:  # images have a check of their own
      numbers(f"the batch's {path!r}", values)
  _check_axes(batch)
  state = _init(method, optimizer, seed, batch)
  _check_steps(state.opt_state)
  return jax.device_put(state, state_sharding(state, mesh))


@quick_jit(static_argnums=(0, 1, 2))
def _init(method, optimizer, seed, batch):
  params, state = method.init(key_for(seed, "init"), batch)
  parts = TrainState(jnp.int32(0), jnp.uint32(seed), params, state, optimizer.init(params))
  # Concrete types: a weak one would change after the first step and compile it again.
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), parts)


def make_train_step(
  method: Method, optimizer: optax.GradientTransformation, mesh: Mesh | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, Mapping[str, jax.Array]]]:
  """The train step of a method, jitted.

  Args:
    method, optimizer: those that `init` was given. A method with `step(optimizer, plain)` replaces
      the ordinary step, `plain`; what it returns is compiled in the same way.
    mesh: a mesh with an axis `data`, whose length divides the batch; all devices by default.

  Returns:
    `step(state, batch) -> (state, metrics)`; the given state is consumed (donated).

  Raises:
    UserError: as `init` does; for an optimizer that accumulates gradients, and for a wrong result of
      the method's own step, when `step` is called.
  """
  _check_parts(method, optimizer)
  mesh = automatic(make_mesh() if mesh is None else mesh)

  def plain(ts: TrainState, batch: Batch):
    key = key_for(ts.seed, "step", ts.step)
    gradient = jax.value_and_grad(method.objective, has_aux=True)
    (_, (state, metrics)), grads = gradient(ts.params, ts.state, batch, key)
    updates, opt_state = optimizer.update(grads, ts.opt_state, ts.params)
    params = optax.apply_updates(ts.params, updates)
    state = method.advance(params, state, ts.step)
    metrics = {**metrics, "gradient_norm": optax.tree.norm(grads)}
    return TrainState(ts.step + 1, ts.seed, params, state, opt_state), metrics

  own = _own_step(method)
  whole = plain if own is None else _counted(own(optimizer, plain))

  def step(ts: TrainState, batch: Batch):
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


def _own_step(method):
  """The method's `step`, the one optional part of `core.Method`; None where it has none."""
  own = getattr(method, "step", None)
  if own is not None and not callable(own):
    raise UserError(
      f"method.step must be a function (optimizer, plain) -> step, not {type(own).__name__}; leave "
      "it out for the ordinary step"
    )
  return own


def _counted(whole):
  """A method's own step, its result checked. It counts as one step, however often it calls `plain`."""
  if not callable(whole):
    raise UserError(
      "method.step(optimizer, plain) must return a function (train state, batch) -> (train state, "
      f"metrics), not {type(whole).__name__}"
    )

  def step(ts, batch):
    result = whole(ts, batch)
    good = isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], TrainState)
    if not (good and isinstance(result[1], Mapping) and "loss" in result[1]):
      raise UserError(
        "the function of method.step must return (TrainState, metrics), and 'loss' among the metrics"
      )
    after, metrics = result
    for name, value in metrics.items():
      if isinstance(value, str) or np.ndim(value):
        found = repr(value) if isinstance(value, str) else f"{value.dtype} {[*np.shape(value)]}"
        raise UserError(f"the metric {name!r} of method.step must be a scalar, not {found}")
    if jax.tree.structure(after) != jax.tree.structure(ts):
      raise UserError(
        "the function of method.step must return a TrainState of the structure that it was given; "
        "its params, state or opt_state have another one"
      )
    for (name, new), old in zip(named_leaves(after), jax.tree.leaves(ts), strict=True):
      found, given = ((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in (new, old))
      if found != given:
        raise UserError(
          f"method.step turned {name}, {given[1]} {[*given[0]]}, into {found[1]} {[*found[0]]}"
        )
    return after._replace(step=ts.step + 1, seed=ts.seed), metrics

  return step


def _check_parts(method, optimizer):
  """That these are a method and an optimizer."""
  missing = [name for name in ("init", "objective", "advance") if not _has(method, name)]
  if isinstance(method, type) or missing:
    found = f"the class {method.__name__}" if isinstance(method, type) else type(method).__name__
    raise UserError(
      f"method must be an instance with init, objective and advance, not {found}; "
      "methods.SimCLR(…) is one"
    )
  _own_step(method)
  try:
    hash(method)
  except TypeError as error:
    raise UserError(
      f"method must be hashable ({error}); give its parts tuples in place of lists"
    ) from None
  if isinstance(optimizer, optax.MultiSteps):
    raise UserError(ACCUMULATED)
  if isinstance(optimizer, type) or not (_has(optimizer, "init") and _has(optimizer, "update")):
    raise UserError(
      "optimizer must be an optax.GradientTransformation, such as optax.adamw(1e-3), not "
      f"{getattr(optimizer, '__name__', type(optimizer).__name__)}"
    )


def _has(thing, name):
  return callable(getattr(thing, name, None))


def _check_index(method, batch):
  """Once: in a compiled step nothing can say so, but that a loss which keeps tables becomes NaN."""
  if not (isinstance(batch, Mapping) and "index" in batch):
    found = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
    raise UserError(
      f"batch must have arrays by name and 'index' among them, not {found or 'nothing'}; "
      "data.Resident gives such batches"
    )
  index = numbers("the batch's 'index'", batch["index"])
  if index.ndim != 1 or not index.size or not jnp.issubdtype(index.dtype, jnp.integer):
    raise UserError(f"the batch's 'index' is integers [n], not {index.dtype} {list(index.shape)}")
  examples, largest = getattr(method, "examples", 0), int(np.asarray(index).max())
  if 0 < examples <= largest:
    raise UserError(
      f"the batch has the example {largest:,}, and the method's examples are {examples:,}; give it "
      "examples=…, the size of the data"
    )


def _check_steps(opt_state):
  """Refuses an optimizer, however it is wrapped, that does not move the parameters in each step."""
  kinds = optax.MultiStepsState | optax.ApplyEvery
  nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kinds))
  if any(isinstance(node, kinds) for node in nodes):
    raise UserError(ACCUMULATED)


def _check_axes(batch):
  """Refuses explicit axes, which would reach every operation of a method."""
  check_mesh("the step, by jax.set_mesh,", jax.sharding.get_abstract_mesh())
  for path, values in named_leaves(dict(batch)):
    check_mesh(f"the batch's {path!r}", jax.typeof(values).sharding.mesh)
