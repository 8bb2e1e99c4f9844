"""The device contract, measured: run in a process of its own, with eight host devices.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_ENABLE_X64=1 python tests/contract.py STEPS DEVICES…

Prints {case: {"apart": …, "moved": …}}: by how much parameters, state and metrics differ
at most between the first number of devices and the others, relative to each array's
largest entry, in float64; and which kinds of state moved.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from contrastax import data, encoders, losses, methods, temperatures, training, views
from contrastax.core import Encoder
from contrastax.pairwise import Plan

BATCH = 64


def wide(encoder):
  """The encoder with float64 parameters and state."""

  def init(key, x):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), encoder.init(key, x))

  return Encoder(init, encoder.apply)


def centred(mesh):
  """The mutant: an encoder that subtracts a mean, but over its device's own shard."""
  inner = encoders.mlp((32,))

  def local(x):
    return x - x.mean(0)

  def apply(params, state, x, *, key=None, train):
    data_axis = PartitionSpec("data")
    shifted = jax.shard_map(local, mesh=mesh, in_specs=data_axis, out_specs=data_axis)
    return inner.apply(params, state, shifted(x), key=key, train=train)

  return Encoder(inner.init, apply)


def cases(mesh):
  parts = {"projection": wide(encoders.projection((32,), 16)), "views": views.affine_jitter()}
  tau = temperatures.fixed(0.2)
  convnet = wide(encoders.convnet((8, 16)))
  yield (
    "SimCLR, InfoNCE, SGD",
    methods.SimCLR(encoder=convnet, temperature=tau, **parts),
    optax.sgd(0.1, 0.9),
  )
  dcl = methods.SimCLR(encoder=convnet, temperature=tau, loss=losses.groups.dcl, **parts)
  yield "SimCLR, DCL, AdamW", dcl, optax.adamw(1e-3)
  ring = methods.SimCLR(encoder=convnet, temperature=tau, plan=Plan((6, 5), mesh=mesh), **parts)
  yield "SimCLR, in tiles around a ring", ring, optax.sgd(0.1, 0.9)
  yield (
    "mutant",
    methods.SimCLR(encoder=wide(centred(mesh)), temperature=tau, **parts),
    optax.sgd(0.1, 0.9),
  )


def run(case, devices, steps):
  """(state before, state after, metrics) as NumPy, after `steps` steps over one batch of data."""
  mesh = training.make_mesh(jax.devices()[:devices])
  method, optimizer = {name: rest for name, *rest in cases(mesh)}[case]
  digits = {name: values[:BATCH] for name, values in data.load("digits").train.items()}
  source = data.Resident(digits, batch_size=BATCH, sharding=training.sharded(mesh))
  state = training.init(method, optimizer, source.batch(0), mesh=mesh)
  before = jax.tree.map(np.asarray, state)
  step = training.make_train_step(method, optimizer, mesh)
  for t in range(steps):
    batch = source.batch(t)
    assert len(batch["image"].sharding.device_set) == devices
    state, metrics = step(state, batch)
  assert step._cache_size() == 1, "the step was compiled again"
  return before, jax.tree.map(np.asarray, state), jax.tree.map(np.asarray, metrics)


def apart(one, other):
  def relative(a, b):
    if a.dtype.kind != "f":
      return float((a != b).any())
    assert a.dtype == np.float64, a.dtype
    return float(np.abs(a - b).max(initial=0) / max(1.0, np.abs(a).max(initial=0)))

  return max(jax.tree.leaves(jax.tree.map(relative, one, other)))


def main(steps, *devices):
  found = {}
  for case, *_ in cases(training.make_mesh()):
    before, *one = run(case, devices[0], steps)
    after = one[0]
    moved = {
      part: any(
        (a != b).any() for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
      )
      for part, old, new in [
        ("encoder", before.params["encoder"], after.params["encoder"]),
        ("projection", before.params["projection"], after.params["projection"]),
        ("encoder BatchNorm", before.state["encoder"], after.state["encoder"]),
        ("projection BatchNorm", before.state["projection"], after.state["projection"]),
        ("optimizer", before.opt_state, after.opt_state),
      ]
    }
    others = [run(case, count, steps)[1:] for count in devices[1:]]
    found[case] = {"apart": max(apart(one, list(o)) for o in others), "moved": moved}
  print(json.dumps(found))


if __name__ == "__main__":
  main(*map(int, sys.argv[1:]))
