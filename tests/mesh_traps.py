"""Traps of several devices, and what a mesh cannot do: measured by tests/mesh.py."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from mesh_cases import LOSSES, ON_GROUPS, PAIR, D, N, normal
from mesh_devices import DENSE, RING, apart, evaluate, mesh_of, put

from contrastax import losses
from contrastax.core import Encoder, Group
from contrastax.encoders import chunked
from contrastax.pairwise import Plan, dot, log_sum_exp, reduce

# Traps.


def learned(loss, mesh, params, x):
  """The gradient of a mean loss by an encoder and the temperature, in one jit over a mesh."""

  @jax.jit
  def gradient(params, x):
    return jax.grad(lambda params: loss(params, x).mean())(params)

  everywhere = NamedSharding(mesh, PartitionSpec())
  return gradient(jax.device_put(params, everywhere), put(x, mesh))


def share(gradient, expected):
  """Which multiple of the expected gradient another is, array by array."""
  found = {}
  for name, g in expected.items():
    of, g = np.asarray(gradient[name]), np.asarray(g)
    found[name] = float((of * g).sum() / (g * g).sum())
    assert np.abs(of - found[name] * g).max() < 1e-10
  return found


LINEAR = {"w": normal(7, 6, D), "log_tau": np.log(0.3)}
INPUTS = {"a": normal(8, N, 6), "b": normal(9, N, 6)}


def clip_by_formula(a, b, tau):
  a, b = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
  logits = a @ b.T / tau
  of_rows, of_columns = (jax.nn.log_softmax(logits, axis) for axis in (1, 0))
  return -(jnp.diag(of_rows) + jnp.diag(of_columns)) / 2


def encoder_in_front_of_clip(_):
  def ours(plan):
    def loss(params, x):
      tau = jnp.exp(params["log_tau"])
      return losses.clip(x["a"] @ params["w"], x["b"] @ params["w"], temperature=tau, plan=plan)

    return loss

  def formula(params, x):
    return clip_by_formula(x["a"] @ params["w"], x["b"] @ params["w"], jnp.exp(params["log_tau"]))

  one, eight = mesh_of(1), mesh_of(8)
  expected = learned(formula, one, LINEAR, INPUTS)
  plans = {
    "one device": (Plan(RING, one), one),
    "eight devices": (Plan(RING, eight), eight),
    "eight, dense": (Plan(DENSE, eight), eight),
  }
  found = {
    name: apart(learned(ours(plan), mesh, LINEAR, INPUTS), expected)
    for name, (plan, mesh) in plans.items()
  }
  theirs = without_the_others_gradients(eight)
  return {"apart": found, "share of the gradient": share(theirs, expected)}


def without_the_others_gradients(mesh):
  """The trap: each device gathers vectors without their gradient, and gradients are averaged."""

  def local(params, x):
    def loss(params):
      gathered = []
      for name in ("a", "b"):
        own = x[name] @ params["w"]
        everyone = jax.lax.stop_gradient(jax.lax.all_gather(own, "data", tiled=True))
        first = jax.lax.axis_index("data") * len(own)
        gathered.append(jax.lax.dynamic_update_slice_in_dim(everyone, own, first, 0))
      return clip_by_formula(*gathered, jnp.exp(params["log_tau"])).mean()

    return jax.tree.map(lambda g: jax.lax.pmean(g, "data"), jax.grad(loss)(params))

  whole, divided = PartitionSpec(), PartitionSpec("data")
  step = jax.shard_map(
    local, mesh=mesh, in_specs=(whole, divided), out_specs=whole, check_vma=False
  )
  return jax.jit(step)(LINEAR, put(INPUTS, mesh))


def cosines(a, b):
  a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
  return a @ b.T


def positives_of_the_own_rows(_):
  logits = cosines(PAIR["a"], PAIR["b"]) / PAIR["tau"]
  rows = np.arange(N)

  def expected(positive):
    return np.log(np.exp(logits).sum(1)) - logits[rows, positive]

  arrays, call = LOSSES["info_nce"]["in the batch"]
  found = {devices: evaluate(arrays, call, RING, devices)[0] for devices in (1, 8)}
  return {
    "apart": {devices: apart(value, expected(rows)) for devices, value in found.items()},
    "of the first device": apart(expected(rows % (N // 8)), expected(rows)),
  }


def weights_of_the_whole_batch(_):
  """DCLW by its formula, with the weights' mean over all examples, or over each device's."""
  z = np.concatenate([PAIR["a"], PAIR["b"]])
  similarity, index = cosines(z, z), np.tile(np.arange(N), 2)
  positive = similarity[np.arange(2 * N), (np.arange(2 * N) + N) % (2 * N)]
  others = index[:, None] != index[None]
  tau, sigma = PAIR["tau"], 0.5

  def expected(device):
    hardness = np.exp(positive / sigma)
    mean = np.array([hardness[device == mine].mean() for mine in device])
    log_sum = np.log((np.exp(similarity / tau) * others).sum(1))
    return -(2 - hardness / mean) * positive / tau + log_sum

  arrays, call = LOSSES["dclw"][""]
  found = {devices: evaluate(arrays, call, RING, devices)[0] for devices in (1, 8)}
  whole = expected(0 * index)
  return {
    "apart": {devices: apart(value, whole) for devices, value in found.items()},
    "of each device": apart(expected(index // (N // 8)), whole),
  }


def chunks_and_a_learned_temperature(_):
  """The gradient with the encoder in k chunks, and as of k losses that are added up."""
  k, eight = 5, mesh_of(8)

  def apply(params, state, x, *, key=None, train):
    return jnp.tanh(x @ params), state

  def loss(encoder, plan, only=None):
    def of(params, x):
      a, b = (encoder.apply(params["w"], (), x[name], train=True)[0] for name in ("a", "b"))
      if only is not None:
        mine = (jnp.arange(N) % k == only)[:, None]
        a, b = (jnp.where(mine, z, jax.lax.stop_gradient(z)) for z in (a, b))
      return losses.clip(a, b, temperature=jnp.exp(params["log_tau"]), plan=plan)

    return of

  whole = Encoder(lambda key, x: (LINEAR["w"], ()), apply)
  expected = learned(loss(whole, Plan(DENSE)), mesh_of(1), LINEAR, INPUTS)
  found = learned(loss(chunked(whole, k), Plan(RING, eight)), eight, LINEAR, INPUTS)

  def added(params, x):
    return sum(loss(whole, Plan(DENSE), only=chunk)(params, x) for chunk in range(k))

  theirs = learned(added, mesh_of(1), LINEAR, INPUTS)
  return {"apart": apart(found, expected), "share of the gradient": share(theirs, expected)}


# What a mesh cannot do.


def message(call):
  try:
    call()
  except ValueError as error:
    return str(error)
  return "no error"


def refusals(_):
  plan = Plan(4, mesh_of(8))

  def channels(similarity, a, c, shared):
    return {"x": similarity}

  def pairs(n, m, **options):
    groups = Group(np.ones((n, 3)), {}), (Group(np.ones((m, 3)), {}),)
    return reduce(
      channels, *groups, score=dot(), reductions={"x": log_sum_exp}, plan=plan, **options
    )

  def inside(z):
    return losses.nt_xent(z, z, temperature=1.0, plan=plan)

  divided = PartitionSpec("data")
  manual = jax.shard_map(inside, mesh=plan.mesh, in_specs=divided, out_specs=divided)
  return {
    "anchors": message(lambda: pairs(12, 16)),
    "a loss": message(
      lambda: losses.nt_xent(np.ones((10, 3)), np.ones((10, 3)), temperature=1.0, plan=plan)
    ),
    "candidates": message(lambda: pairs(16, 12, both=True)),
    "candidates in one direction": message(lambda: pairs(16, 12)),
    "inside shard_map": message(lambda: manual(np.ones((16, 3)))),
  }


def explicit(_):
  """{loss: what is said where its arrays lie on a mesh of Explicit axes}; also of groups and plans."""
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
  found = {}
  for prefix, table in (("", LOSSES), ("groups ", ON_GROUPS)):
    for name, forms in table.items():
      arrays, call = next(iter(forms.values()))
      found[prefix + name] = message(
        lambda call=call, arrays=arrays: call(put(arrays, mesh), Plan(DENSE))
      )
  found["a plan"] = message(lambda: Plan(4, mesh))
  return found


def derivatives(_):
  """Around a ring: forward mode over reverse beside dense, and what is said of the others."""
  z, w, v = PAIR["a"], PAIR["b"], np.cos(PAIR["a"])

  def of(plan):
    return lambda z: losses.nt_xent(z, w, temperature=0.3, plan=plan).mean()

  ring, dense_ = of(Plan(RING, mesh_of(4))), of(Plan(DENSE))
  found, expected = (jax.jvp(jax.grad(f), (z,), (v,))[1] for f in (ring, dense_))
  return {
    "apart": apart(found, expected),
    "forward": message(lambda: jax.jvp(ring, (z,), (v,))),
    "twice": message(lambda: jax.grad(lambda z: (jax.grad(ring)(z) * v).sum())(z)),
  }
