"""What the frame costs: a training step through the loop over the bare jitted step, and the start.

  python -m benchmarks.frame_cost

Aim 1.02, bound 1.05, on configs/digits_simclr.py: the loop gathers its batches, logs as the config
states and checks for signals; the bare step gets one batch that is ready. Both are timed in turn in
one process, ROUNDS times STEPS steps each, without evaluation and checkpoints; the ratio is taken
round by round. The start is the time of a new process from its beginning to the end of its first
step. Run it while nothing else runs.

Writes results/frame_cost.json.
"""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax

from benchmarks.common import ratios
from contrastax import training
from contrastax.experiments import commandline
from contrastax.experiments.build import build
from contrastax.experiments.workdir import circumstances
from studies.common.records import append

HERE = pathlib.Path(__file__).parent
CONFIG = f"--config={HERE.parent}/configs/digits_simclr.py"
ROUNDS, STEPS, BOUND, START_BOUND = 10, 200, 1.05, 15

# A run that prints the time when its first step is done, and ends there.
FIRST_STEP = """
import os, sys, time
from contrastax.training.log import Log
def add(self, step, metrics):
  import jax
  jax.block_until_ready(metrics)
  print("first step", time.time(), flush=True)
  os._exit(0)
Log.add = add
from contrastax.experiments.run import main
main(["run", *sys.argv[1:]])
"""


def seconds() -> list[tuple[float, float]]:
  """Returns (loop, bare): seconds of STEPS steps each, ROUNDS times, in turn."""
  config, mesh = commandline.parse(["run", CONFIG], "").config, training.make_mesh()
  parts = build(config, mesh)
  step = training.make_train_step(parts.method, parts.optimizer, mesh)
  batch = jax.device_put(parts.source.batch(0), training.sharded(mesh))
  own = training.init(parts.method, parts.optimizer, batch, mesh=mesh)
  pairs, began = [], None

  def between(state):
    """Ends the round of the loop, which calls it to evaluate, and times a bare one."""
    nonlocal own, began
    jax.block_until_ready(state)
    now = start = time.perf_counter()
    for _ in range(STEPS):
      own, metrics = step(own, batch)
    jax.block_until_ready((own, metrics))
    pairs.append((None if began is None else now - began, time.perf_counter() - start))
    began = time.perf_counter()
    return {}

  with tempfile.TemporaryDirectory() as folder:
    training.train(
      parts.method, parts.optimizer, parts.source, steps=STEPS * (ROUNDS + 1), workdir=folder,
      evaluate=between, log_every=config.log_every, eval_every=STEPS, checkpoint_every=10**9,
    )  # fmt: skip
  return pairs[2:]  # the first two rounds compile


def first_step() -> float:
  with tempfile.TemporaryDirectory() as folder:
    start = time.time()
    command = [sys.executable, "-c", FIRST_STEP, CONFIG, f"--workdir={folder}/run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
  return float(done.stdout.split("first step")[1].split()[0]) - start


def main() -> int:
  pairs = seconds()
  each = ratios(*zip(*pairs, strict=True))
  ratio, starts = statistics.median(each), [first_step() for _ in range(3)]
  bare = 1000 * statistics.median(bare for _, bare in pairs) / STEPS
  append(HERE / "results" / "frame_cost.json", {
    "ratio_median": ratio, "ratio_min_max": [min(each), max(each)], "bare_step_ms": bare,
    "pairs_seconds": pairs, "first_step_seconds": starts,
    "circumstances": circumstances("python -m benchmarks.frame_cost"),
  })  # fmt: skip
  print(
    f"loop / bare step: {ratio:.3f} (median of {len(each)}, {min(each):.3f} to {max(each):.3f}), "
    f"bare step {bare:.1f} ms; process start to first step: {', '.join(f'{s:.1f} s' for s in starts)}"
  )
  return 0 if ratio <= BOUND and statistics.median(starts) <= START_BOUND else 1


if __name__ == "__main__":
  sys.exit(main())
