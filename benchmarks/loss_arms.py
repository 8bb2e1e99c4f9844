"""The arms of benchmarks/losses.py, measured in a process of their own.

  python -m benchmarks.loss_arms ratios
  python -m benchmarks.loss_arms one ARM N

The memory of the process is a result, so each arm imports only what it needs.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import statistics
import sys
import time

import numpy as np

D, TEMPERATURE, ROUNDS = 256, 0.1, 31
RATIO_ARMS = ("jnp", "dense", "tiles", "same set", "own", "PyTorch")
CLIP_ARMS = ("clip jnp", "clip dense", "clip tiles")


def arrays(n):
  rng = np.random.default_rng(0)
  one = rng.normal(size=(n, D)).astype(np.float32)
  return one, (one + 0.5 * rng.normal(size=(n, D))).astype(np.float32)


def compiled(arm: str, n: int):
  """Returns (call() -> value, τ's gradient; bytes of the program's temporaries or None)."""
  if arm == "PyTorch":
    return torch_arm(n), None
  import jax
  import jax.numpy as jnp
  import optax

  from contrastax import criteria, losses, pairwise
  from contrastax.core import Group
  from contrastax.losses.arrays import two_views
  from contrastax.pairwise import Plan
  from contrastax.relations import same_example

  def unit(z):
    return z / jnp.linalg.norm(z, axis=1, keepdims=True)

  def jnp_nt_xent(z1, z2, tau):
    z, n = unit(jnp.concatenate([z1, z2])), 2 * len(z1)
    logits = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, z @ z.T / tau)
    positive = (z * jnp.roll(z, n // 2, 0)).sum(1) / tau
    return (jax.nn.logsumexp(logits, 1) - positive).mean()

  def jnp_clip(a, b, tau):
    a, b = unit(a), unit(b)
    logits = a @ b.T / tau
    both = jax.nn.logsumexp(logits, 1) + jax.nn.logsumexp(logits, 0)
    return (both / 2 - (a * b).sum(1) / tau).mean()

  def optax_nt_xent(z1, z2, tau):
    return optax.losses.ntxent(jnp.concatenate([z1, z2]), jnp.arange(2 * len(z1)) % len(z1), tau)

  def ours(plan, z1, z2, tau):
    return losses.nt_xent(z1, z2, temperature=tau, plan=plan).mean()

  def two_sets(plan, z1, z2, tau):
    views = two_views(z1, z2)
    return criteria.evaluate(
      criteria.info_nce(), views, (views,), relation=same_example(), temperature=tau, plan=plan
    ).value.mean()

  def our_clip(plan, a, b, tau):
    return losses.clip(a, b, temperature=tau, plan=plan).mean()

  def own(plan, z1, z2, tau):
    z, n = jnp.concatenate([z1, z2]), 2 * len(z1)
    group = Group(z, {"row": jnp.arange(n), "example": jnp.arange(n) % len(z1)})
    r = pairwise.reduce(
      own_channels, group, (group,), score=pairwise.cosine(), shared=tau, same_set=True, plan=plan,
      reductions={"all": pairwise.log_sum_exp, "positive": pairwise.sum_},
    )  # fmt: skip
    return (r["all"] - r["positive"]).mean()

  def own_channels(similarity, anchor, candidate, temperature):
    logit = similarity / temperature
    itself = anchor["row"] == candidate["row"]
    positive = (anchor["example"] == candidate["example"]) & ~itself
    return {"all": jnp.where(itself, -jnp.inf, logit), "positive": jnp.where(positive, logit, 0)}

  tiles = Plan(512)
  if arm == "ring":
    axes = (jax.sharding.AxisType.Auto,)
    tiles = Plan(512, mesh=jax.make_mesh((len(jax.devices()),), ("data",), axis_types=axes))
  loss = {
    "jnp": jnp_nt_xent, "clip jnp": jnp_clip, "optax": optax_nt_xent,
    "dense": functools.partial(ours, Plan("dense")), "same set": functools.partial(ours, tiles),
    "own": functools.partial(own, tiles), "ring": functools.partial(ours, tiles),
    "tiles": functools.partial(two_sets, tiles),
    "clip dense": functools.partial(our_clip, Plan("dense")),
    "clip tiles": functools.partial(our_clip, Plan()),
  }[arm]  # fmt: skip
  inputs = [jnp.asarray(x) for x in arrays(n if arm.startswith("clip") else n // 2)]
  inputs.append(jnp.float32(TEMPERATURE))
  program = jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(*inputs).compile()

  def call(_=None):
    value, gradients = jax.block_until_ready(program(*inputs))
    return float(value), float(gradients[2])

  return call, program.memory_analysis().temp_size_in_bytes


def torch_arm(n):
  import torch
  from torch.nn import functional

  torch.set_num_threads(os.cpu_count())
  z1, z2 = (torch.tensor(x, requires_grad=True) for x in arrays(n // 2))
  tau = torch.tensor(TEMPERATURE, requires_grad=True)

  def call(_=None):
    for leaf in (z1, z2, tau):
      leaf.grad = None
    z = torch.cat([functional.normalize(z1, dim=1), functional.normalize(z2, dim=1)])
    logits = torch.einsum("nc,mc->nm", z, z) / tau
    logits = logits[~torch.eye(n, dtype=torch.bool)].view(n, n - 1)
    rows = torch.arange(n // 2)
    loss = functional.cross_entropy(logits, torch.cat([rows + n // 2 - 1, rows]))
    loss.backward()
    return loss.item(), tau.grad.item()

  return call


def measure_ratios():
  """Measures all arms at 4,096 rows in turn; a ratio is formed within a round."""
  from benchmarks.common import in_turn, ratios, versions

  n, programs, temporaries = 4096, {}, {}
  for arm in (*RATIO_ARMS, *CLIP_ARMS):
    if arm != "PyTorch" or versions("torch"):
      programs[arm], temporaries[arm] = compiled(arm, n)
  values = {arm: call() for arm, call in programs.items()}
  seconds, report = in_turn(programs, ROUNDS), {}
  for arm, own in seconds.items():
    base, memory = "clip jnp" if arm.startswith("clip") else "jnp", temporaries[arm]
    report[arm] = {
      "value": values[arm][0], "temperature_gradient": values[arm][1],
      "median_seconds": statistics.median(own), "min_seconds": min(own),
      "ratio": statistics.median(ratios(own, seconds[base])),
      "ratio_of_minima": min(own) / min(seconds[base]), "temporaries_mb": memory and memory / 1e6,
      "temporaries_ratio": memory and memory / temporaries[base],
    }  # fmt: skip
  return {"kind": "ratios", "n": n, "rounds": ROUNDS, "arms": report}


def measure_one(arm: str, n: int):
  (call, temporaries), seconds = compiled(arm, n), []
  value = call()
  while len(seconds) < 3 and sum(seconds) <= 60:
    start = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - start)
  return {
    "value": value[0], "seconds": min(seconds),
    "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    "temporaries_mb": temporaries and temporaries / 1e6,
  }  # fmt: skip


if __name__ == "__main__":
  command, *rest = sys.argv[1:]
  found = measure_ratios() if command == "ratios" else measure_one(rest[0], int(rest[1]))
  print(json.dumps(found))
