"""What all methods share: networks applied in turn, and their moving average.

A method names its networks in the order in which they are applied (`trained`), and those of
them that have a moving average, the targets (`averaged`). Both are entries of its parameters and
state; the averages are `state["target"]`, with parameters and a state of their own.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp

from contrastax import schedules
from contrastax.core import UserError, named
from contrastax.evaluation import embedding_std
from contrastax.pairwise import unit
from contrastax.views import draw_views


def init(method, key, batch):
  """Parameters and state of the networks; a target begins as a copy of both."""
  x = draw_views(method.views, named(key, "views"), batch["image"], batch["index"])[0]
  params, state = init_chain(method, method.trained, key, x)
  if method.averaged:
    # Copies: a step consumes its state, and cannot consume one buffer twice.
    state["target"] = {
      "params": {name: jax.tree.map(jnp.copy, params[name]) for name in method.averaged},
      "state": {name: jax.tree.map(jnp.copy, state[name]) for name in method.averaged},
    }
  return params, state


def init_chain(method, names, key, x):
  """Parameters and state of the networks `names`, the first of which is given x."""
  params, state = {}, {}
  for name in names:
    network = getattr(method, name)
    own = network.init(named(key, name), x)
    params[name], state[name] = own
    x, _ = jax.eval_shape(functools.partial(network.apply, key=key, train=True), *own, x)
  return params, state


def two_views(method, batch, key):
  """Two random views of each example of the batch."""
  views = draw_views(method.views, key, batch["image"], batch["index"])
  if len(views) != 2:
    raise UserError(
      f"{type(method).__name__} contrasts two views, not {len(views)}; give views one recipe or two"
    )
  return views


def large_and_small_views(method, batch, key):
  """Views of each example, the first two of one size: those that targets are made of."""
  views = draw_views(method.views, key, batch["image"], batch["index"])
  sizes = [f"{h}×{w}" for _, h, w, _ in map(jnp.shape, views)]
  if len(views) < 2 or sizes[0] != sizes[1]:
    raise UserError(
      f"{type(method).__name__} makes targets of its first two views, which are to be of one "
      f"size, not {', '.join(sizes[:2])}; views.multi_crop gives them so"
    )
  return views


def forward(method, names, params, state, xs, key):
  """Inputs xs, one per view, through the networks `names` in turn: (outputs, one per view; state).

  Views of one shape pass together, in one BatchNorm batch of all devices; those of another
  size after them. Each view's rows are in the order of the batch.
  """
  state = dict(state)
  for name in names:
    network, outputs = getattr(method, name), []
    for shape, views in itertools.groupby(xs, key=jnp.shape):
      views = list(views)
      own = named(key, f"{name} {shape}")
      x = jnp.concatenate(views)
      y, state[name] = network.apply(params[name], state[name], x, key=own, train=True)
      outputs += jnp.split(y, len(views))
    xs = outputs
  return xs, state


def targets(method, state, xs, key):
  """The views through the moving averages, without gradient: (outputs, state)."""
  target = state["target"]
  zs, own = forward(
    method, method.averaged, target["params"], target["state"], xs, named(key, "target")
  )
  return jax.lax.stop_gradient(zs), {**state, "target": {**target, "state": own}}


def follow(method, params, state, step):
  """A method's `advance`: θ' ← m θ' + (1 − m) θ, m its `momentum` at this step.

  Parameters alone: BatchNorm's running statistics are those of what the targets have seen.
  """
  m = schedules.at(method.momentum, step)
  online = {name: params[name] for name in method.averaged}
  moved = ema(state["target"]["params"], online, m)
  return {**state, "target": {**state["target"], "params": moved}}


def freeze(params, name, frozen):
  """The parameters, those of one network without gradient where `frozen`, a traced bool, holds."""
  still = jax.tree.map(lambda x: jnp.where(frozen, jax.lax.stop_gradient(x), x), params[name])
  return {**params, name: still}


def stay(method, params, state, step):
  """The `advance` of a method that has nothing to move after the optimiser's step."""
  return state


def ema(average, new, momentum):
  """m average + (1 − m) new, leaf by leaf, in each leaf's own type."""

  def move(a, b):
    return (a + (1 - momentum) * (b - a)).astype(a.dtype)

  return jax.tree.map(move, average, new)


def summary(loss, z1, z2):
  """The metrics of a method without negatives, from two views [n, d] of its examples.

  `similarity`: their mean cosine; `embedding_std`: as in `contrast.objective`, of z1.
  """
  z1, z2 = jax.lax.stop_gradient((z1, z2))
  similarity = (unit(z1) * unit(z2)).sum(1).mean()
  return {"loss": loss, "similarity": similarity, "embedding_std": embedding_std(z1)}
