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
from mesh_cases import LABELED, LOSSES, ON_GROUPS, D, N, on_groups
from mesh_devices import DENSE, RING, TILED, apart, evaluate, evaluated, mesh_of, put
from mesh_traps import (
  chunks_and_a_learned_temperature,
  derivatives,
  encoder_in_front_of_clip,
  explicit,
  positives_of_the_own_rows,
  refusals,
  weights_of_the_whole_batch,
)

from contrastax import criteria, losses
from contrastax.core import Group
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
