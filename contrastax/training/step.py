"""The train step: one pure function, compiled once over a mesh.

The batch is sharded and the state replicated, but for tables of a row for each example, which are
divided. So every mean, every BatchNorm statistic and every loss is over the global batch whatever
the number of devices.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from contrastax.core import Batch, Method, TrainState, UserError, key_for
from contrastax.training.mesh import layout, make_mesh, replicated, sharded


def init(
  method: Method,
  optimizer: optax.GradientTransformation,
  batch: Batch,
  *,
  seed: int = 0,
  mesh: Mesh | None = None,
) -> TrainState:
  """The state before the first step, the same on any mesh.

  Raises UserError where the batch has an example that the method's `examples` do not count.
  """
  _check_index(method, batch)
  state = _init(method, optimizer, seed, batch)
  return jax.device_put(state, layout(state, mesh or make_mesh()))


def _check_index(method, batch):
  """Once: in a compiled step nothing can say so, but that a loss which keeps tables becomes NaN."""
  examples, largest = getattr(method, "examples", 0), int(jnp.max(batch["index"]))
  if 0 < examples <= largest:
    raise UserError(
      f"the batch has the example {largest:,}, and the method's examples are {examples:,}; give it "
      "examples=…, the size of the data"
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _init(method, optimizer, seed, batch):
  params, state = method.init(key_for(seed, "init"), batch)
  parts = TrainState(jnp.int32(0), jnp.uint32(seed), params, state, optimizer.init(params))
  # Concrete types: a weak one would change after the first step and compile it again.
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), parts)


def make_train_step(
  method: Method, optimizer: optax.GradientTransformation, mesh: Mesh | None = None
):
  """`step(state, batch) -> (state, metrics)`, jitted; the given state is consumed (donated).

  The batch is divided among the devices of `mesh`, all by default, which must divide its size.
  """
  mesh = mesh or make_mesh()

  def step(ts: TrainState, batch: Batch):
    key = key_for(ts.seed, "step", ts.step)
    gradient = jax.value_and_grad(method.objective, has_aux=True)
    (_, (state, metrics)), grads = gradient(ts.params, ts.state, batch, key)
    updates, opt_state = optimizer.update(grads, ts.opt_state, ts.params)
    params = optax.apply_updates(ts.params, updates)
    state = method.advance(params, state, ts.step)
    metrics = {**metrics, "gradient_norm": optax.tree.norm(grads)}
    after = TrainState(ts.step + 1, ts.seed, params, state, opt_state)
    return jax.lax.with_sharding_constraint(after, layout(after, mesh)), metrics

  return jax.jit(
    step,
    donate_argnums=0,
    in_shardings=(None, sharded(mesh)),
    out_shardings=(None, replicated(mesh)),
  )
