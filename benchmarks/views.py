"""What views cost: the recipes over the whole train step, and beside kornia.

  pip install torch==2.13.0 kornia      (in an environment of its own; else that arm is left out)
  python -m benchmarks.views

Two views of each of 256 color images of 32 px, in float32 on a CPU. SimCLR's CIFAR recipe (crop,
flip, jitter in random order, gray) may cost at most 0.25 of one train step of SimCLR with a
`convnet` of widths (32, 64, 128), recipe included. All arms run in one process, round by round in
turn, ROUNDS times; a ratio is taken within its round, and the median is given with the quartiles.

kornia's arm is its own pipeline of the same operations. It draws one order of the four color
operations per batch, where ours draws one per image.

Run it while nothing else runs. Writes results/views.jsonl and, from it, results/views.md.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import in_turn, quartiles, ratios, versions
from contrastax import encoders, methods, training, views
from contrastax.experiments.workdir import circumstances
from studies.common.records import Records, append, read
from studies.common.report import table

RESULTS = pathlib.Path(__file__).parent / "results" / "views.jsonl"
N, SIZE, ROUNDS, BOUND = 256, 32, 15, 0.25
CIFAR = views.simclr(SIZE, strength=0.5, blur=0.0)
RECIPES = {
  "recipe": (CIFAR, CIFAR), "with blur": (views.simclr(SIZE, strength=0.5),) * 2,
  "MoCo v2": (views.moco_v2(SIZE),) * 2, "BYOL": views.byol(SIZE),
}  # fmt: skip
TITLES = {
  "recipe": "SimCLR's for CIFAR, `simclr(32, strength=0.5, blur=0.0)`",
  "with blur": "the same with blur in a kernel of 3",
  "MoCo v2": "`moco_v2(32)`: blur in a kernel of 17",
  "BYOL": "`byol(32)`: blur and solarize",
  "step": "the whole train step of SimCLR, its recipe included",
  "kornia": "kornia, the operations of the first line, all cores",
  "kornia 1": "the same on one thread",
}


def ours(images):
  """Returns {arm: a function of the number of the round}."""
  images, index = jnp.asarray(images), jnp.arange(N)
  arms = {}
  for name, recipes in RECIPES.items():
    drawn = jax.jit(lambda key, x, i, recipes=recipes: views.draw_views(recipes, key, x, i))
    arms[name] = lambda step, drawn=drawn: drawn(jax.random.key(step), images, index)
  method = methods.SimCLR(
    encoder=encoders.convnet((32, 64, 128)), views=CIFAR,
    projection=encoders.projection(widths=(128,), out=64),
  )  # fmt: skip
  mesh, optimizer = training.make_mesh(), optax.adamw(1e-3)
  batch = jax.device_put({"image": images, "index": index}, training.sharded(mesh))
  train_step = training.make_train_step(method, optimizer, mesh)
  state = training.init(method, optimizer, batch, mesh=mesh)

  def step(_):
    nonlocal state
    state, metrics = train_step(state, batch)
    return state, metrics

  return {**arms, "step": step}


def kornias(images):
  """Returns kornia's pipeline as two arms, or none where it cannot be imported.

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


def measure() -> dict:
  images = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)
  load, kornia = os.getloadavg()[0], kornias(images)
  return {
    "seconds": in_turn({**ours(images), **kornia}, ROUNDS, skip=2), "load_average": load,
    "others": versions("torch", "kornia") if kornia else {},
    "circumstances": circumstances("python -m benchmarks.views"),
  }  # fmt: skip


def page(records: Records) -> str:
  (result,) = records
  seconds, where = result["seconds"], result["circumstances"]
  rows = [
    [TITLES[arm], f"{1000 * statistics.median(own):.1f}", f"{1000 * min(own):.1f}",
     *(quartiles(ratios(own, seconds[to]), ".3f") for to in ("step", "recipe"))]
    for arm, own in seconds.items()
  ]  # fmt: skip
  header = ["what", "ms, median", "ms, best", "of the train step", "of SimCLR's recipe for CIFAR"]
  named = {"jax": where["versions"]["jax"], **result["others"]}
  told = ", ".join(f"{package} {version}" for package, version in named.items())
  kornia = "" if "kornia" in seconds else " kornia could not be imported: its arm is left out."
  return f"""# What views cost

Two views of each of {N} color images of {SIZE} px, {len(seconds["step"])} rounds of all arms in
turn in one process (`python -m benchmarks.views`). Ratios are taken within a round: their median,
and quartiles.

{table(header, rows)}

Bound: SimCLR's recipe for CIFAR at most {BOUND} of the train step. kornia draws one order of the
color operations per batch, ours one per image.{kornia}

Load average at the start {result["load_average"]:.1f}: near 0 nothing else ran. Above that the times
are first estimates, and PyTorch's threads wait for busy cores, so that one thread is faster.
{where["machine"]}; {told}.
"""


def main() -> int:
  RESULTS.unlink(missing_ok=True)
  append(RESULTS, measure())
  records = read(RESULTS)
  RESULTS.with_suffix(".md").write_text(page(records))
  print(page(records))
  each = ratios(*(records[0]["seconds"][arm] for arm in ("recipe", "step")))
  return 0 if statistics.median(each) <= BOUND else 1


if __name__ == "__main__":
  sys.exit(main())
