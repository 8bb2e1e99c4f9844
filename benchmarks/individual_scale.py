"""What does state of each example cost, for as many examples as ImageNet has?

  python benchmarks/individual_scale.py     # some 5 minutes on two cores, while nothing else runs

SimCLR, ConvNet 32-64-128 on images of 32×32 in batches of 256, with the views of
configs/cifar10_convnet_simclr.py: DCL at a fixed temperature, beside `sogclr` with individual ones, of
1,300,000 examples. The images are noise, for what they show costs nothing; each batch's indices are
drawn from all examples. Both steps are timed in turn, ROUNDS times STEPS steps, and the ratio is taken
round by round. Bound 1.05, aim 1.02 of the median. Then the tables' memory, and the time that a
checkpoint and its restoring take, of both.

Writes results/individual_scale.json.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
import optax
from cifar10_study import get_config

from contrastax import core, criteria, methods, temperatures, training
from contrastax.experiments.workdir import circumstances, write_json
from contrastax.parts import assemble
from contrastax.tables import Table
from contrastax.training.checkpoints import Checkpoints

RESULTS = pathlib.Path(__file__).parent / "results" / "individual_scale.json"
EXAMPLES, BATCH, ROUNDS, STEPS, SAVES = 1_300_000, 256, 15, 20, 5
BOUND = 1.05

config = get_config()
base = assemble(core.Method, config.method.to_dict(), "config.method")
COMMON = {
  "encoder": base.encoder,
  "projection": base.projection,
  "views": base.views,
  "examples": EXAMPLES,
}
ARMS = {
  "fixed": methods.SimCLR(
    **COMMON, loss=criteria.dcl(), temperature=temperatures.fixed(0.2)
  ),
  "individual": methods.SimCLR(
    **COMMON, loss=criteria.sogclr(0.9), temperature=temperatures.individual(0.2)
  ),
}  # fmt: skip


def batches():
  rng = np.random.default_rng(0)
  images = jax.device_put(rng.integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8))
  return [
    {"image": images, "index": jax.device_put(rng.integers(0, EXAMPLES, BATCH, dtype=np.int32))}
    for _ in range(STEPS)
  ]


def seconds(step, state, batches):
  jax.block_until_ready(state)
  start = time.perf_counter()
  for batch in batches:
    state, _ = step(state, batch)
  jax.block_until_ready(state)
  return state, (time.perf_counter() - start) / len(batches)


def saving(state):
  """Seconds of a checkpoint, from the call until it is safe, and of restoring it."""
  with tempfile.TemporaryDirectory() as folder:
    checkpoints, found = Checkpoints(folder), []
    for number in range(SAVES):
      start = time.perf_counter()
      checkpoints.save(number, state._asdict())
      checkpoints.wait()
      saved = time.perf_counter()
      jax.block_until_ready(checkpoints.restore(number, state._asdict()))
      found.append((saved - start, time.perf_counter() - saved))
    checkpoints.close()
  return tuple(statistics.median(x) for x in zip(*found, strict=True))


def main():
  optimizer = assemble(
    optax.GradientTransformation,
    config.optimizer.to_dict(),
    "config.optimizer",
    given={"steps": config.steps},
  )
  drawn, steps, states = batches(), {}, {}
  for arm, method in ARMS.items():
    states[arm] = training.init(method, optimizer, drawn[0])
    steps[arm] = training.make_train_step(method, optimizer)
    states[arm], _ = seconds(steps[arm], states[arm], drawn[:3])
  times = {arm: [] for arm in ARMS}
  for number in range(ROUNDS):
    for arm in list(ARMS)[:: 1 if number % 2 else -1]:
      states[arm], took = seconds(steps[arm], states[arm], drawn)
      times[arm].append(took)
  ratios = [b / a for a, b in zip(*times.values(), strict=True)]
  nodes = jax.tree.leaves(states["individual"], is_leaf=lambda x: isinstance(x, Table))
  tables = [node.values for node in nodes if isinstance(node, Table)]
  checkpoints = {
    arm: dict(zip(("save", "restore"), saving(states[arm]), strict=True)) for arm in ARMS
  }
  found = {
    "examples": EXAMPLES,
    "tables_bytes": sum(x.nbytes for x in tables),
    "tables_bytes_per_example": sum(x.nbytes for x in tables) / EXAMPLES,
    "step_seconds": {arm: statistics.median(x) for arm, x in times.items()},
    "ratio": statistics.median(ratios),
    "ratios": ratios,
    "bound": BOUND,
    "checkpoint_seconds": checkpoints,
    "circumstances": circumstances("python benchmarks/individual_scale.py"),
  }
  write_json(RESULTS, found)
  print(
    json.dumps({k: v for k, v in found.items() if k not in ("circumstances", "ratios")}, indent=1)
  )


if __name__ == "__main__":
  main()
