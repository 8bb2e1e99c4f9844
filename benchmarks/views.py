"""What views cost: the recipes over the whole train step, and beside kornia.

  pip install torch==2.13.0 kornia      (in an environment of its own; else that arm is left out)
  python benchmarks/views.py

Two views of each of 256 color images of 32 px, in float32 on a CPU. SimCLR's CIFAR recipe (crop,
flip, jitter in random order, gray) is to cost at most 0.25 of one train step of SimCLR with a
`convnet` of widths (32, 64, 128), recipe included. All arms run in one process, round by round in
turn, ROUNDS times; a ratio is taken within its round, and the median told with the quartiles.

kornia's arm is its own pipeline of the same operations. It draws one order of the four color
operations per batch, where ours draws one per image.

Run it while nothing else runs. Writes results/views.jsonl and, from it, results/views.md.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from contrastax import encoders, methods, training, views
from contrastax.experiments.workdir import circumstances

RESULTS = pathlib.Path(__file__).parent / "results" / "views.jsonl"
N, SIZE, ROUNDS, BOUND = 256, 32, 15, 0.25
CIFAR = views.simclr(SIZE, strength=0.5, blur=0.0)
RECIPES = {
  "recipe": (CIFAR, CIFAR),
  "with blur": (views.simclr(SIZE, strength=0.5),) * 2,
  "MoCo v2": (views.moco_v2(SIZE),) * 2,
  "BYOL": views.byol(SIZE),
}
TOLD = {
  "recipe": "SimCLR's for CIFAR, `simclr(32, strength=0.5, blur=0.0)`",
  "with blur": "the same with blur in a kernel of 3",
  "MoCo v2": "`moco_v2(32)`: blur in a kernel of 17",
  "BYOL": "`byol(32)`: blur and solarize",
  "step": "the whole train step of SimCLR, its recipe included",
  "kornia": "kornia, the operations of the first line, all cores",
  "kornia 1": "the same on one thread",
}


def ours(images):
  """{arm: call}, each of which returns when its result is there."""
  index = jnp.arange(N)
  images = jnp.asarray(images)
  arms = {}
  for name, recipes in RECIPES.items():
    drawn = jax.jit(lambda key, x, i, recipes=recipes: views.draw_views(recipes, key, x, i))
    arms[name] = lambda step, drawn=drawn: drawn(jax.random.key(step), images, index)
  method = methods.SimCLR(
    encoder=encoders.convnet((32, 64, 128)),
    projection=encoders.projection(widths=(128,), out=64),
    views=CIFAR,
  )
  mesh = training.make_mesh()
  optimizer = optax.adamw(1e-3)
  batch = jax.device_put({"image": images, "index": index}, training.sharded(mesh))
  train_step = training.make_train_step(method, optimizer, mesh)
  state = training.init(method, optimizer, batch, mesh=mesh)

  def step(_):
    nonlocal state
    state, metrics = train_step(state, batch)
    return state, metrics

  return {**arms, "step": step}


def kornias(images):
  """kornia's pipeline as two arms, or none where it does not import.

  On a busy machine PyTorch's threads wait for each other, and one thread is faster.
  """
  try:
    import kornia.augmentation as K
    import torch
  except ImportError:
    return {}
  pipeline = torch.nn.Sequential(
    K.RandomResizedCrop((SIZE, SIZE), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
    K.RandomHorizontalFlip(p=0.5),
    K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
    K.RandomGrayscale(p=0.2),
  )
  images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

  def arm(threads):
    def call(_):
      torch.set_num_threads(threads)
      with torch.inference_mode():
        for _ in range(2):
          pipeline(images.float() / 255)

    return call

  return {"kornia": arm(os.cpu_count()), "kornia 1": arm(1)}


def measure():
  images = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)
  load = os.getloadavg()[0]
  kornia = kornias(images)
  arms = {**ours(images), **kornia}
  seconds = {arm: [] for arm in arms}
  for r in range(ROUNDS + 2):  # the first two compile and warm up
    for arm, call in arms.items():
      start = time.perf_counter()
      jax.block_until_ready(call(r))
      if r >= 2:
        seconds[arm].append(time.perf_counter() - start)
  return {
    "seconds": seconds,
    "load_average": load,
    "others": {p: importlib.metadata.version(p) for p in ("torch", "kornia") if kornia},
    "circumstances": circumstances("python benchmarks/views.py"),
  }


def ratios(result, arm, to):
  """(median, quartiles) of an arm's seconds over another's, round by round."""
  each = [a / b for a, b in zip(result["seconds"][arm], result["seconds"][to], strict=True)]
  low, middle, high = statistics.quantiles(each, n=4)
  return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def table(result) -> str:
  seconds, where = result["seconds"], result["circumstances"]
  rows = [
    f"| {TOLD[arm]} | {1000 * statistics.median(values):.1f} | {1000 * min(values):.1f} "
    f"| {ratios(result, arm, 'step')} | {ratios(result, arm, 'recipe')} |"
    for arm, values in seconds.items()
  ]
  named = {"jax": where["versions"]["jax"], **result["others"]}
  versions = ", ".join(f"{package} {version}" for package, version in named.items())
  kornia = "" if "kornia" in seconds else "kornia did not import here: its arm is left out.\n"
  return f"""# What views cost

Two views of each of {N} color images of {SIZE} px, {ROUNDS} rounds of all arms in turn in one process
(`python benchmarks/views.py`). Ratios are taken within a round: their median, and quartiles.

| what | ms, median | ms, best | of the train step | of SimCLR's recipe for CIFAR |
|---|---|---|---|---|
{chr(10).join(rows)}

Bound: SimCLR's recipe for CIFAR at most {BOUND} of the train step. kornia draws an order of the
color operations per batch, ours one per image.
{kornia}
Load average at the start {result["load_average"]:.1f} on {os.cpu_count()} cores: near 0 the machine was ours alone; above
that the times are first figures, and PyTorch's threads wait for cores that others hold, so that one is faster. {where["machine"]}; {versions}.
"""


def main() -> int:
  result = measure()
  RESULTS.parent.mkdir(exist_ok=True)
  RESULTS.write_text(json.dumps(result) + "\n")
  RESULTS.with_suffix(".md").write_text(table(result))
  print(RESULTS.with_suffix(".md").read_text())
  pairs = zip(result["seconds"]["recipe"], result["seconds"]["step"], strict=True)
  return 0 if statistics.median(a / b for a, b in pairs) <= BOUND else 1


if __name__ == "__main__":
  sys.exit(main())
