"""What does state of each example cost, for as many examples as ImageNet has?

  python -m benchmarks.individual_scale     # some 5 minutes on two cores, while nothing else runs

SimCLR, ConvNet 32-64-128 on images of 32×32 in batches of 256, with the views of
configs/cifar10_convnet_simclr.py: DCL at a fixed temperature, beside `sogclr` with individual ones,
of 1,300,000 examples. The images are noise, because their content costs nothing; each batch's
indices are drawn from all examples. Both steps are timed in turn, ROUNDS times STEPS steps, and the
ratio is taken round by round. Bound 1.05, aim 1.02 of the median. Then the tables' memory, and the
time that a checkpoint and its restoring take, of both.

Writes results/individual_scale.json.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np

from benchmarks.common import in_turn, ratios
from contrastax import criteria, temperatures, training
from contrastax.experiments.workdir import circumstances
from contrastax.tables import Table
from contrastax.training.checkpoints import Checkpoints
from studies.common import cifar10
from studies.common.records import append

RESULTS = pathlib.Path(__file__).parent / "results" / "individual_scale.json"
EXAMPLES, BATCH, ROUNDS, STEPS, SAVES, BOUND = 1_300_000, 256, 15, 20, 5, 1.05
ARMS = {
  "fixed": (criteria.dcl(), temperatures.fixed(0.2)),
  "individual": (criteria.sogclr(0.9), temperatures.individual(0.2)),
}


def batches():
  rng = np.random.default_rng(0)
  images = jax.device_put(rng.integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8))
  return [
    {"image": images, "index": jax.device_put(rng.integers(0, EXAMPLES, BATCH, dtype=np.int32))}
    for _ in range(STEPS)
  ]


def saving(state) -> dict[str, float]:
  """Returns the seconds of a checkpoint, until it is safe, and of restoring it."""
  found = {"save": [], "restore": []}
  with tempfile.TemporaryDirectory() as folder:
    checkpoints = Checkpoints(folder)
    for number in range(SAVES):
      start = time.perf_counter()
      checkpoints.save(number, state._asdict())
      checkpoints.wait()
      saved = time.perf_counter()
      jax.block_until_ready(checkpoints.restore(number, state._asdict()))
      found["save"].append(saved - start)
      found["restore"].append(time.perf_counter() - saved)
    checkpoints.close()
  return {name: statistics.median(seconds) for name, seconds in found.items()}


def main():
  base, optimizer = cifar10.parts_of(cifar10.get_config())
  drawn, states, calls = batches(), {}, {}
  for arm, (loss, temperature) in ARMS.items():
    method = dataclasses.replace(base, loss=loss, temperature=temperature, examples=EXAMPLES)
    states[arm] = training.init(method, optimizer, drawn[0])

    def steps(_, arm=arm, step=training.make_train_step(method, optimizer)):
      for batch in drawn:
        states[arm], _ = step(states[arm], batch)
      return states[arm]

    calls[arm] = steps
  times = {arm: np.divide(x, STEPS) for arm, x in in_turn(calls, ROUNDS, skip=1).items()}
  each = ratios(times["individual"], times["fixed"])
  nodes = jax.tree.leaves(states["individual"], is_leaf=lambda x: isinstance(x, Table))
  size = sum(node.values.nbytes for node in nodes if isinstance(node, Table))
  found = {
    "examples": EXAMPLES, "tables_bytes": size, "tables_bytes_per_example": size / EXAMPLES,
    "step_seconds": {arm: float(np.median(x)) for arm, x in times.items()},
    "ratio": statistics.median(each), "bound": BOUND,
    "checkpoint_seconds": {arm: saving(state) for arm, state in states.items()},
  }  # fmt: skip
  about = circumstances("python -m benchmarks.individual_scale")
  append(RESULTS, {**found, "ratios": each, "circumstances": about})
  print(json.dumps(found, indent=1))


if __name__ == "__main__":
  main()
