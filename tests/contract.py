"""The device contract, measured: run in a process of its own, with eight host devices.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_ENABLE_X64=1 \\
    python tests/contract.py quick|all PART OF STEPS DEVICES…

Prints {case: {"apart": …, "moved": …}} of part number PART of the cases, divided into OF: by how
much parameters, state and metrics differ at most between the first number of devices and the
others, relative to each array's largest entry, in float64; and which entries of parameters and
state moved.
"""

import json
import sys

import all_methods
import examples
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from contrastax import criteria, data, encoders, methods, temperatures, training, views
from contrastax.pairwise import Plan

BATCH = 64
wide = all_methods.widened(jnp.float64)


def centered(mesh):
  """The mutant: an encoder that subtracts a mean, but over its device's own shard."""
  inner = encoders.mlp((32,))

  def local(x):
    return x - x.mean(0)

  def apply(params, state, x, *, key=None, train):
    data_axis = PartitionSpec("data")
    shifted = jax.shard_map(local, mesh=mesh, in_specs=data_axis, out_specs=data_axis)
    return inner.apply(params, state, shifted(x), key=key, train=train)

  return inner._replace(apply=apply)


def cases(mesh, view=all_methods.noise):
  """{name: (method, optimizer)}; `view` is that of most methods."""
  sgd = optax.sgd(0.1, 0.9)
  parts = {"projection": wide(encoders.projection((32,), 16)), "views": views.affine_jitter()}
  parts["temperature"] = temperatures.fixed(0.2)
  convnet = wide(encoders.convnet((8, 16)))
  dcl = methods.SimCLR(encoder=convnet, loss=criteria.dcl(), **parts)
  ring = methods.SimCLR(encoder=convnet, plan=Plan((6, 5), mesh=mesh), **parts)
  found = {
    "mutant": (methods.SimCLR(encoder=wide(centered(mesh)), **parts), sgd),
    "convnet, InfoNCE": (methods.SimCLR(encoder=convnet, **parts), sgd),
    "convnet, DCL, AdamW": (dcl, optax.adamw(1e-3)),
    "convnet, in tiles around a ring": (ring, sgd),
  }
  of_all = all_methods.parts(wide, Plan(mesh=mesh), view)
  found |= {name: (method, sgd) for name, method in of_all.items()}
  # Plain SGD of a small rate: a generator's or a decoder's gradient is large at the start.
  of_docs = {name: examples.on_mesh(examples.module(name).method, mesh) for name in examples.NAMES}
  return {**found, **{f"example {name}": (m, optax.sgd(1e-2, 0.9)) for name, m in of_docs.items()}}


def source_of(case, mesh):
  layout = training.sharded(mesh)
  if case.startswith("example "):
    return examples.module(case.removeprefix("example ")).source(sharding=layout)
  digits = {name: values[:BATCH] for name, values in data.load("digits").train.items()}
  return data.Resident(all_methods.seen_by(case, digits), batch_size=BATCH, sharding=layout)


def run(case, devices, steps, view):
  """(state before, state after, metrics) as NumPy, after `steps` steps over one batch of data."""
  mesh = training.make_mesh(jax.devices()[:devices])
  method, optimizer = cases(mesh, view)[case]
  source = source_of(case, mesh)
  state = training.init(method, optimizer, source.batch(0), mesh=mesh)
  before = jax.tree.map(np.asarray, state)
  step = training.make_train_step(method, optimizer, mesh)
  for t in range(steps):
    batch = training.block_on_virtual_devices(source.batch(t), mesh)
    assert len(batch["index"].sharding.device_set) == devices
    state, metrics = training.block_on_virtual_devices(step(state, batch), mesh)
  assert step._cache_size() == 1, "the step was compiled again"
  return before, jax.tree.map(np.asarray, state), jax.tree.map(np.asarray, metrics)


def apart(one, other):
  def relative(a, b):
    if a.dtype.kind != "f":
      return float((a != b).any())
    assert a.dtype == np.float64, a.dtype
    return float(np.abs(a - b).max(initial=0) / max(1.0, np.abs(a).max(initial=0)))

  return max(jax.tree.leaves(jax.tree.map(relative, one, other)))


def moved(before, after):
  """{entry: whether anything in it moved}, of the parameters' and the state's entries with arrays."""
  found = {}
  for kind in ("params", "state", "opt_state"):
    old, new = (entries(kind, getattr(state, kind)) for state in (before, after))
    for entry in old:
      pair = [jax.tree.leaves(x[entry]) for x in (old, new)]
      if pair[0]:
        changed = any((a != b).any() for a, b in zip(*pair, strict=True))
        found[f"{kind} {entry}".strip()] = changed
  return found


def entries(kind, tree):
  """The entries of parameters or state, of a term each of its own."""
  if kind == "opt_state":
    return {"": tree}
  terms = tree["terms"]
  own = {f"{tag} {name}": x for tag, of in terms.items() if of for name, x in of.items()}
  return {**{name: x for name, x in tree.items() if name != "terms"}, **own}


def main(which, part, of, steps, *devices):
  left_out = all_methods.LONG
  left_out += tuple(f"example {name}" for name in examples.NAMES if name not in examples.QUICK)
  names = list(cases(training.make_mesh()))
  names = [name for name in names if which == "all" or name not in left_out]
  view = all_methods.PLAIN if which == "all" else all_methods.noise
  found = {}
  for case in names[part::of]:
    before, *one = run(case, devices[0], steps, view)
    others = [run(case, count, steps, view)[1:] for count in devices[1:]]
    found[case] = {
      "apart": max(apart(one, list(o)) for o in others),
      "moved": moved(before, one[0]),
    }
  print(json.dumps(found))


if __name__ == "__main__":
  main(sys.argv[1], *map(int, sys.argv[2:]))
