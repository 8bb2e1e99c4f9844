"""The cube of methods, negatives, temperatures and losses, trained on digits with an MLP.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_ENABLE_X64=1 \\
    python tests/cells.py cover|cube PART OF

prints {cell: {"apart": …, "lead": …, "error": …, "rank": …}} of part PART of the cells, divided
into OF: by how much parameters, state and metrics differ between one and eight devices after three
steps, how far the probe with five labels per class is above its figure before training with
its standard error, and the effective rank at the end beside the one before.
"""

import itertools
import json
import sys

import all_methods
import contract
import jax
import jax.numpy as jnp
import numpy as np
import optax

from contrastax import (
  criteria,
  data,
  encoders,
  evaluation,
  methods,
  schedules,
  temperatures,
  training,
)
from contrastax.negatives import hardest_only, in_batch, mochi, queue
from contrastax.pairwise import Plan
from contrastax.relations import other_view, same_example, similarity_within

STEPS, BATCH = 100, 64
METHODS = {"SimCLR": methods.SimCLR, "MoCo v2": methods.MoCo, "MoCo v3": methods.MoCoV3}
both = in_batch() + queue(512)
NEGATIVES = {
  "in-batch": in_batch(),
  "queue": queue(512),
  "both": both,
  "MoCHi": queue(512) + mochi(hard=64, mixed=32, with_anchor=16, warmup=1),
  "masks": both,  # and a filter of the relation
  "filters": both + hardest_only(100),
}
TEMPERATURES = {
  "fixed": temperatures.fixed(0.2),
  "scheduled": temperatures.scheduled(schedules.cosine(start=0.5, end=0.1, steps=STEPS)),
  # Bounded as in TCL (arXiv 2202.10401): where the negatives that are kept are nearer than the
  # positive, as with `hardest_only`, the loss falls as τ rises, and without a bound it runs away.
  "learned": temperatures.learned(0.2, max_temperature=0.5),
}
LOSSES = {
  "info_nce": criteria.info_nce(),
  "dcl": criteria.dcl(),
  "hard_negative": criteria.hard_negative(beta=0.5, tau_plus=0.05),
  "debiased": criteria.debiased(tau_plus=0.05),
}
effective_rank = jax.jit(evaluation.effective_rank)
CUBE = tuple(itertools.product(METHODS, NEGATIVES, TEMPERATURES, LOSSES))


def cover(cube=CUBE):
  """Cells among which every two values of two axes meet: at each turn the one with most new pairs."""
  left = {pair for cell in cube for pair in pairs(cell)}
  chosen = []
  while left:
    chosen.append(max(cube, key=lambda cell: len(left & pairs(cell))))
    left -= pairs(chosen[-1])
  return chosen


def pairs(cell):
  return set(itertools.combinations(enumerate(cell), 2))


def method_of(cell, mesh, wide=lambda encoder: encoder):
  kind, negatives, temperature, loss = cell
  relation = same_example() & other_view() if kind == "MoCo v3" else same_example()
  networks = {
    "encoder": wide(encoders.mlp((128, 64))),
    "projection": wide(encoders.projection((64,), 32)),
  }
  if kind != "SimCLR":
    networks["momentum"] = 0.99
  if kind == "MoCo v3":
    networks["predictor"] = wide(encoders.projection((32,), 32))
  return METHODS[kind](
    **networks,
    views=all_methods.noise,
    negatives=NEGATIVES[negatives],
    relation=relation & similarity_within(most=0.9) if negatives == "masks" else relation,
    temperature=TEMPERATURES[temperature],
    loss=LOSSES[loss],
    plan=Plan(mesh=mesh),
  )


def measured(cell):
  wide, found = all_methods.widened(jnp.float64), data.load("digits")
  same = {name: values[:BATCH] for name, values in found.train.items()}
  ends = []
  for count in (8, 1):
    mesh = training.make_mesh(jax.devices()[:count])
    method, optimizer = method_of(cell, mesh, wide), optax.sgd(0.1, 0.9)
    source = data.Resident(same, batch_size=BATCH, sharding=training.sharded(mesh))
    state = training.init(method, optimizer, source.batch(0), mesh=mesh)
    step = training.make_train_step(method, optimizer, mesh)
    for t in range(3):
      batch = training.block_on_virtual_devices(source.batch(t), mesh)
      state, metrics = training.block_on_virtual_devices(step(state, batch), mesh)
    ends.append([jax.tree.map(np.asarray, x) for x in (state, metrics)])

  # The step of one device again, so that it is compiled once, and fast: eight on few cores are not.
  source = data.Resident(found.train, batch_size=BATCH, sharding=training.sharded(mesh))
  state = training.init(method, optimizer, source.batch(0), mesh=mesh)

  def judged(state):
    def embed(x):
      own = state.params["encoder"], state.state["encoder"]
      return evaluation.embed(method.encoder, *own, x["image"])

    split = embed(found.train), found.train["label"], embed(found.test), found.test["label"]
    rank = float(effective_rank(split[2]))
    return evaluation.few_label(*split, per_class=5), rank

  before, rank_before = judged(state)
  for t in range(STEPS):
    state, _ = step(state, source.batch(t))
  after, rank = judged(state)
  lead = after - before
  return {
    "apart": contract.apart(*ends),
    "lead": float(lead.mean()),
    "error": float(lead.std(ddof=1) / len(lead) ** 0.5),
    "rank": [rank_before, rank],
  }


def main(which, part, of):
  cells = {"cover": cover(), "cube": CUBE}[which][int(part) :: int(of)]
  print(json.dumps({", ".join(cell): measured(cell) for cell in cells}))


if __name__ == "__main__":
  main(*sys.argv[1:])
