"""The losses on a mesh, measured: run in a process of its own, with eight host devices.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_ENABLE_X64=1 python tests/mesh.py few|all WHAT…

Prints what it finds as JSON; `test_mesh.py` says what it ought to be.
"""

import dataclasses
import functools
import inspect
import itertools
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from mesh_cases import LABELED, LOSSES, ON_GROUPS, PAIR, D, N, normal, on_groups

from contrastax import criteria, losses
from contrastax.core import Encoder, Group
from contrastax.encoders import chunked
from contrastax.pairwise import (
  Plan,
  count,
  dot,
  log_sum_exp,
  max_,
  min_,
  reduce,
  reductions,
  softmax_mean,
)

DENSE, TILED, RING = "dense", (7, 6), (4, 3)  # none of the sizes divides 40, 20, 10 and 5


def mesh_of(devices, **others):
  """`devices` along `data`, and perhaps some along other axes."""
  shape = (devices, *others.values())
  return jax.make_mesh(
    shape, ("data", *others), axis_types=(AxisType.Auto,) * len(shape),
    devices=jax.devices()[: np.prod(shape)],
  )  # fmt: skip


def put(tree, mesh):
  """Every array divided among the devices if it can be, else on all of them."""

  def one(x):
    divided = np.ndim(x) > 0 and len(x) % mesh.shape["data"] == 0
    axes = PartitionSpec("data") if divided else PartitionSpec()
    if isinstance(x, jax.ShapeDtypeStruct):
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, axes))
    return jax.device_put(x, NamedSharding(mesh, axes))

  return jax.tree.map(one, tree)


def apart(found, expected):
  """The largest difference, relative to each array's largest entry."""

  def relative(x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    assert x.shape == y.shape and np.isfinite(y).all()
    return float(np.abs(x - y).max(initial=0) / max(1e-3, np.abs(y).max(initial=0)))

  return max(jax.tree.leaves(jax.tree.map(relative, found, expected)), default=0.0)


WITHOUT_A_GRADIENT = ("negative_cosine", "self_distillation", "sinkhorn", "soft_contrastive")
"""By some of what they are given: a target, a teacher, a guide."""


def public(module):
  """The names of the losses of a module: what can be called and is not imported from elsewhere."""
  return sorted(
    name
    for name, part in vars(module).items()
    if callable(part) and not name.startswith("_") and not inspect.ismodule(part)
    and part.__module__.startswith(module.__name__) and part is not criteria.evaluate
  )  # fmt: skip


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluated(call, plan, arrays):
  """The value per anchor, and the gradient of a sum that weighs each differently, by all arrays."""

  def total(arrays):
    out = call(arrays, plan)
    value = out["value"] if isinstance(out, dict) else out
    return (jnp.cos(1.0 + jnp.arange(value.size)) * value.ravel()).sum(), out

  gradients, out = jax.grad(total, has_aux=True, allow_int=True)(arrays)
  return out, [g for g in jax.tree.leaves(gradients) if g.dtype != jax.dtypes.float0]


def evaluate(arrays, call, block, devices, mesh=True, **others):
  on = mesh_of(devices, **others)
  found = evaluated(call, Plan(block, on if mesh else None), put(arrays, on))
  return jax.tree.map(np.asarray, found)


WAYS = {
  "ring of 8": (RING, 8),
  "tiled": (TILED, 1),
  "ring of 2": (TILED, 2),
  "ring of 4": (RING, 4),
  "dense on 8": (DENSE, 8),
  "tiles on 8 without a mesh": (TILED, 8, False),
}
SOFTMAX = [
  "info_nce",
  "nt_xent",
  "dcl",
  "dclw",
  "sup_con",
  "sup_con_in",
  "clip",
  "siglip",
  "hard_negative",
  "debiased",
]
FEW = {
  **{name: ["ring of 8"] for name in SOFTMAX},
  "barlow_twins": ["dense on 8"],
  "hard_quantile": ["ring of 8"],
  "mv_dhel": ["ring of 8"],
  "soft_contrastive": ["ring of 8"],
  "triplet": ["ring of 8"],
  "w_mse": ["dense on 8"],
  "sup_con": ["ring of 8", "ring of 2", "dense on 8"],
  "clip": ["ring of 8", "ring of 4"],
  "groups info_nce": ["ring of 8", "tiled", "tiles on 8 without a mesh"],
}
"""What is measured where only a few are: of those on arrays one or more of each kind."""


def same_everywhere(which):
  """{case: {way: how far values and gradients are apart from dense on one device}}."""
  found = {}
  for prefix, table in (("", LOSSES), ("groups ", ON_GROUPS)):
    for name, forms in table.items():
      for form, (arrays, call) in forms.items():
        case = prefix + name + (f", {form}" if form else "")
        ways = WAYS if which == "all" else FEW.get(case, [] if prefix else FEW.get(name, []))
        if ways:
          expected = evaluate(arrays, call, DENSE, 1)
          moved = [np.abs(part).max() > 1e-6 for part in expected[1]]
          assert all(moved) or name in WITHOUT_A_GRADIENT, case
          found[case] = {way: apart(evaluate(arrays, call, *WAYS[way]), expected) for way in ways}
      if which == "all":
        jax.clear_caches()
  return found


# Types of vectors.

SINGLE, HALF, BRAIN = np.dtype("float32"), np.dtype("float16"), np.dtype(jnp.bfloat16)
TYPES = {
  "float64": (np.dtype(float),),
  "float32": (SINGLE,),
  "bfloat16": (BRAIN,),
  "float16": (HALF,),
  "float32 and bfloat16": (SINGLE, BRAIN),
  "bfloat16 and float16": (BRAIN, HALF),
  "float64 and float16": (np.dtype(float), HALF),
  "int8 and float32": (np.dtype("int8"), SINGLE),
}
"""In turn of the arrays that are vectors: the first array is of the first type, and so on."""
VECTORS = ("a", "b", "c", "negatives", "proxies", "guide", "views", "teacher")


def of_types(arrays, types):
  """The arrays, vectors in these types by turns and other floats in float32."""
  turn = itertools.count()

  def cast(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if name in VECTORS or name.endswith("vectors"):
      dtype = types[next(turn) % len(types)]
      return (np.round(20 * x) if dtype.kind == "i" else x).astype(dtype)
    return x.astype(SINGLE) if np.asarray(x).dtype == float and float not in types else x

  return jax.tree_util.tree_map_with_path(cast, arrays)


def of_every_type(which):
  """{case: {way and types: (how far values are apart, how far gradients are)}}.

  From float64 and dense on one device, of the same numbers.
  """
  ways = {"dense": (DENSE, 1), "tiled": (TILED, 1), "ring of 4": (RING, 4)}
  found = {}
  for prefix, table in (("", LOSSES), ("groups ", ON_GROUPS)):
    for name, forms in table.items():
      if which == "few" and not prefix and name not in ("clip", "nt_xent", "info_nce"):
        continue
      for form, (arrays, call) in itertools.islice(forms.items(), None if which == "all" else 1):
        case = prefix + name + (f", {form}" if form else "")
        found[case] = {}
        for place, (named, types) in enumerate(TYPES.items()):
          given = of_types(arrays, types)
          floats = jax.tree_util.tree_map_with_path(
            lambda path, x, old: x if np.asarray(old).dtype.kind == "i" else x.astype(float),
            given, arrays,
          )  # fmt: skip
          expected = functools.cache(functools.partial(evaluate, floats, call, DENSE, 1))
          for at, (way, how) in enumerate(ways.items()):
            if which == "few" and (place + 3 * at + len(found)) % 9:
              continue  # a few: each way with each type in some case
            value, gradient = evaluate(given, call, *how)
            exact, gradients = expected()
            gradients = floating_gradients(floats, given, gradients)
            found[case][f"{way}, {named}"] = apart(value, exact), apart(gradient, gradients)
      if which == "all":
        jax.clear_caches()  # thousands of programs reach the system's limit of memory maps
  return found


def floating_gradients(floats, given, gradients):
  """Of the gradients by `floats` those by the arrays that are floats in `given` too."""
  kinds = [
    (np.asarray(x).dtype.kind, np.asarray(y).dtype.kind)
    for x, y in zip(jax.tree.leaves(floats), jax.tree.leaves(given), strict=True)
  ]
  gradients = iter(gradients)
  each = [next(gradients) if of_float == "f" else None for of_float, _ in kinds]
  return [g for g, (_, kind) in zip(each, kinds, strict=True) if kind not in "iub"]


def listed(_):
  """The losses that are measured, and those that there are."""
  tables = {"losses": (LOSSES, losses), "criteria": (ON_GROUPS, criteria)}
  return {name: [sorted(table), public(module)] for name, (table, module) in tables.items()}


@dataclasses.dataclass(frozen=True)
class Everything:
  """A channel for each reduction, of scores that are often equal."""

  def __call__(self, similarity, a, c, shared):
    weighed = similarity * shared
    return {
      "log": weighed - c["bias"],
      "mean": (weighed, a["bias"] + similarity),
      "most": similarity,
      "least": similarity,
      "count": similarity > 0,
      "top": similarity,
    }


ROWS = {
  "log": log_sum_exp,
  "mean": softmax_mean,
  "most": max_,
  "least": min_,
  "count": count,
  "top": reductions.top_k(5),
}


def all_reductions(which):
  """{groups: how far all reductions are apart, and their gradients}: ties, and places among all."""
  rng = np.random.default_rng(8)

  def group(*shape):
    vectors = rng.integers(-1, 2, (*shape, D)).astype(float)
    return {"vectors": vectors, "side": {"bias": rng.normal(size=shape)}}

  arrays = {"anchors": group(N), "keys": group(N), "queue": group(13), "own": group(N, 2)}
  arrays["shared"] = np.float64(0.7)
  options = {
    "keys, queue, sets": (("keys", "queue", "own"), {}),
    "the anchors' own": (("anchors", "queue"), {"same_set": True}),
    "both directions": (("keys", "own"), {"both": True}),
  }
  found = {}
  for case, (names, how) in options.items():

    def call(x, plan, names=names, how=how):
      anchors, *groups = (Group(**x[name]) for name in ("anchors", *names))
      out = reduce(
        Everything(),
        anchors,
        groups,
        score=dot(),
        reductions=ROWS,
        shared=x["shared"],
        plan=plan,
        **how,
      )
      floats = [r for r in jax.tree.leaves(out) if jnp.issubdtype(r.dtype, jnp.floating)]
      return {"value": jnp.concatenate([r.ravel() for r in floats]), "stats": out}

    used = {name: arrays[name] for name in {"anchors": 0, **dict.fromkeys(names), "shared": 0}}
    expected = evaluate(used, call, DENSE, 1)
    found[case] = {
      devices: apart(evaluate(used, call, RING, devices), expected)
      for devices in ((8, 2, 4, 5) if which == "all" else (8,))
    }
  return found


def odd_numbers_of_devices(which):
  """The anchors' own set goes half the way around the ring, which an odd number has no middle of."""
  found, n = {}, 30
  arrays = {name: x[:n] if np.ndim(x) else x for name, x in LABELED.items()}
  cases = {"sup_con": (arrays, LOSSES["sup_con"][""][1])}
  if which == "all":
    cases["groups info_nce"] = on_groups(criteria.info_nce(), n=n, queue=15)
  for case, (arrays, call) in cases.items():
    expected = evaluate(arrays, call, DENSE, 1)
    found[case] = {
      devices: apart(evaluate(arrays, call, RING, devices), expected) for devices in (3, 5)
    }
  return found


def meshes_of_two_axes(_):
  arrays, call = LOSSES["clip"][""]
  expected = evaluate(arrays, call, DENSE, 1)
  return apart(evaluate(arrays, call, RING, 4, model=2), expected)


# Communication and memory, of programs that are compiled and do not run.


def compiled(case, devices, n, d=48, block=32):
  def of(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)

  pair = {"a": of(n, d), "b": of(n, d), "tau": of()}
  (name, _, form) = case.partition(", ")
  arrays = {
    "sup_con": {"a": of(n, d), "label": of(n, dtype=jnp.int32), "tau": of(n)},
    "siglip": pair | {"bias": of()},
    "info_nce, a queue": pair | {"negatives": of(2 * n, d)},
    "info_nce, a set per anchor": pair | {"negatives": of(n, 3, d)},
  }.get(case, pair)
  mesh = mesh_of(devices)
  call = LOSSES[name][form][1]
  return evaluated.lower(call, Plan(block, mesh), put(arrays, mesh)).compile()


def collectives(which):
  """{loss: {collective: the shapes that it gives}}, on eight devices."""
  kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
  found = {}
  more = ["siglip", "info_nce, in the batch", "info_nce, a set per anchor"]
  for case in [
    "clip",
    "info_nce, a queue",
    "sup_con",
    "nt_xent",
    *(more if which == "all" else []),
  ]:
    text = compiled(case, 8, 512).as_text()
    found[case] = {}
    for shape, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
      found[case].setdefault(kind, []).extend(re.findall(r"\w+\[[\d,]*\]", shape))
  return found


def memory(which):
  """{loss: {devices: bytes of temporaries on each}}, of one global batch."""
  return {
    case: {
      devices: compiled(case, devices, 2048).memory_analysis().temp_size_in_bytes
      for devices in (1, 2, 4, 8)
    }
    for case in ["clip", *(["info_nce, a queue", "sup_con"] if which == "all" else [])]
  }


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


MEASURES = {
  "explicit": explicit,
  "derivatives": derivatives,
  "listed": listed,
  "types": of_every_type,
  "losses": same_everywhere,
  "reductions": all_reductions,
  "odd": odd_numbers_of_devices,
  "two axes": meshes_of_two_axes,
  "collectives": collectives,
  "memory": memory,
  "encoder": encoder_in_front_of_clip,
  "positives": positives_of_the_own_rows,
  "weights": weights_of_the_whole_batch,
  "chunks": chunks_and_a_learned_temperature,
  "refusals": refusals,
}


def main(which, *names):
  print(json.dumps({name: MEASURES[name](which) for name in names or MEASURES}))


if __name__ == "__main__":
  main(*sys.argv[1:])
