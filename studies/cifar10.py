"""SimCLR on CIFAR-10 with a small encoder: does it learn, and which augmentation matters?

18 runs, some 5 minutes each on two cores. configs/cifar10_convnet_simclr.py (ConvNet 32-64-128,
200,000 pairs), judged by weighted kNN (k = 20, τ = 0.1) of all 10,000 test images among all 50,000
training images, at the last step. Nothing is chosen: rates, batch and temperature are the config's,
in every arm.

Arms, seeds 0 to 2:
  learns   the config as it is, beside the untrained encoder of the same seed and raw pixels
  ladder   its views one operation at a time: crop (area 0.08 to 1); + blur; + grey; + color jitter;
           + flip

Hypotheses:
  learns   on every seed trained ≥ untrained + 0.10
  ladder   the order of the mean accuracies is that of a third party's table (MIFA-Lab's
           contrastive2021: ResNet-18, SimCLR, 800 epochs, kNN, best epoch on the test set: 0.627,
           0.632, 0.835, 0.885, 0.898): Spearman's rank correlation is at least 0.9. Its range is
           over 2,000 draws of seeds with replacement, rung by rung.
Condition of `ladder`: the best and the worst rung differ by three standard errors of their
difference.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from contrastax import evaluation, training, views
from contrastax.experiments.build import build
from studies.common import cifar10, fit
from studies.common.report import Verdict, estimate, extremes, table, unpaired
from studies.common.study import Study, grid

CROP = {"name": "augment", "size": 32, "flip": 0.0, "jitter": 0.0}
COLORS = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
ADDED = {
  "crop": {}, "+ blur": {"blur": 0.5}, "+ grey": {"gray": 0.2}, "+ jitter": COLORS,
  "+ flip": {"flip": 0.5},
}  # fmt: skip
RUNGS, SEEDS = tuple(ADDED), range(3)
THIRD_PARTY = (0.627, 0.632, 0.835, 0.885, 0.898)


def config_of(job, steps: int | None = None):
  config = cifar10.get_config()
  config.seed = job["seed"]
  if job["arm"] != "learns":
    config.method.views = dict(CROP)
    for rung in RUNGS[: RUNGS.index(job["arm"]) + 1]:
      config.method.views = {**config.method.views, **ADDED[rung]}
  config.steps = steps or config.steps
  config.optimizer.warmup = min(config.optimizer.warmup, config.steps // 10)
  return config


def measure(job, steps: int | None = None):
  config = config_of(job, steps)
  parts = build(config, training.make_mesh())

  def knn(embed):
    images = (x["image"] for x in parts.dataset[:2])
    return evaluation.knn(*fit.sets(parts.dataset, map(embed, images)))

  fresh = training.init(parts.method, parts.optimizer, parts.source.batch(0), seed=config.seed)
  found = {"untrained": knn(lambda x: fit.embed(parts.method, fresh, x))}
  if job == {"arm": "learns", "seed": 0}:
    found["raw"] = knn(lambda x: np.float32(views.to_float(x)).reshape(len(x), -1))
  state, _ = cifar10.train(parts, config.steps, config.seed)
  return {
    **found,
    "trained": knn(lambda x: fit.embed(parts.method, state, x)),
    "steps": config.steps,
  }


def report(records):
  steps, learns = records.where(arm="learns")[0]["steps"], records.where(arm="learns")
  trained, untrained = learns.values("trained"), learns.values("untrained")
  yield f"ConvNet 32-64-128, {steps} steps of 256 pairs, 3 seeds, mean ± standard error."
  yield table(["", "kNN"], [
    ["raw", f"{learns.where(seed=0)[0]['raw']:.3f}"], ["untrained", f"{estimate(untrained):.3f}"],
    ["trained", f"{estimate(trained):.3f}"],
  ])  # fmt: skip
  of = {rung: records.values("trained", arm=rung) for rung in RUNGS}
  yield table(["views", "kNN", "a third party's, ResNet-18, 800 epochs"], [
    [rung, f"{estimate(of[rung]):.3f}", f"{theirs:.3f}"]
    for rung, theirs in zip(RUNGS, THIRD_PARTY, strict=True)
  ])  # fmt: skip
  lead = (trained - untrained).min()
  yield Verdict(
    "learns", f"the smallest lead of trained over untrained of any seed is {lead:.3f}", lead >= 0.10
  )

  def correlation(values):
    return stats.spearmanr([row.mean() for row in values], THIRD_PARTY)[0]

  rng, n = np.random.default_rng(0), len(SEEDS)
  drawn = [correlation([row[rng.integers(0, n, n)] for row in of.values()]) for _ in range(2000)]
  low, high = np.quantile(drawn, (0.025, 0.975))
  found, (best, worst) = correlation(of.values()), extremes(of)
  yield Verdict(
    "ladder", f"the rank correlation is {found:.2f} (95 % of draws of seeds: {low:.2f} to "
    f"{high:.2f})",
    found >= 0.9, unpaired(of[best], of[worst]).above(3), "the best and the worst rung differ",
  )  # fmt: skip


STUDY = Study(
  "cifar10", "SimCLR on CIFAR-10", measure=measure, report=report,
  stages=[lambda _: grid(arm=("learns", *RUNGS), seed=SEEDS)],
)  # fmt: skip
