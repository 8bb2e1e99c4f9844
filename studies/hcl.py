"""Hard negatives by weight (HCL) on CIFAR-10: is there a best concentration β?

18 runs, some 4 minutes each on two cores. Arms, seeds 0 to 2, 150,000 pairs in batches of 256, else
as in studies/common/cifar10.py: SimCLR, and `hard_negative` with τ⁺ = 0.1, the share of a class,
and β = 0 (debiased), 0.5, 1, 2, 6. As in the authors' code τ = 0.5, with Adam at 1e-3; here the
rate has a warm-up and a decay.

The authors' table (Robinson et al. 2021, arXiv 2010.04592; STL-10, ResNet-50, 400 epochs, linear):
SimCLR 80.15, β = 0 84.26, 0.5 86.38, 1 87.44, 2 87.09, 6 83.09.

Hypotheses, on mean kNN over seeds, each by more than two standard errors of the difference:
  debiased   β = 0 is above SimCLR
  inverted   the best β is 0.5, 1 or 2, and β = 6 is below it
Condition: the best and the worst arm differ by more than three standard errors of their difference.
"""

from __future__ import annotations

import numpy as np

from studies.common import cifar10
from studies.common.cifar10 import BETAS, last
from studies.common.report import Verdict, estimate, extremes, left_out, table, unpaired
from studies.common.study import Study, grid

ARMS = {"SimCLR": {"name": "info_nce"}} | {
  f"β = {beta}": {"name": "hard_negative", "beta": beta, "tau_plus": 0.1} for beta in BETAS
}
PUBLISHED = dict(zip(ARMS, (80.15, 84.26, 86.38, 87.44, 87.09, 83.09), strict=True))


def config_of(job):
  optimizer = {"learning_rate": 1e-3, "weight_decay": 0.0}
  return cifar10.base(150_000, 256, loss=ARMS[job["arm"]], optimizer=optimizer)


def report(records):
  yield (
    "ConvNet 32-64-128, 150,000 pairs, 3 seeds, mean ± standard error. Published: the authors' on "
    "STL-10."
  )
  keys = ("knn", "rank", "uniformity")
  yield table(
    ["", "kNN", "rank", "uniformity", "published"],
    [[arm, *(f"{estimate(records.values(last(key), arm=arm)):.3f}" for key in keys),
      f"{PUBLISHED[arm]:.2f}"] for arm in ARMS],
  )  # fmt: skip
  yield left_out(records, "arm", "seed")
  knn = {arm: records.values("knn", arm=arm) for arm in ARMS}
  best, worst = extremes(knn)
  spread = unpaired(knn[best], knn[worst])
  condition = f"best and worst arm, {best} and {worst}, differ by {spread:.3f}"
  hard = [arm for arm in ARMS if arm != "SimCLR"]
  peak, _ = extremes({arm: knn[arm] for arm in hard})
  debiased, inverted = unpaired(knn["β = 0"], knn["SimCLR"]), unpaired(knn[peak], knn["β = 6"])
  yield f"{condition[0].upper()}{condition[1:]}."
  counts = spread.above(3), condition
  yield Verdict("debiased", f"β = 0 − SimCLR is {debiased:+.3f}", debiased.above(2), *counts)
  yield Verdict(
    "inverted", f"the best is {peak}, above β = 6 by {inverted:.3f}",
    peak in hard[1:4] and inverted.above(2), *counts,
  )  # fmt: skip
  yield (
    "The share of the weight e^{β s/τ} that is on negatives of the anchor's class, in the runs of "
    "SimCLR, mean over seeds (chance: 0.10):"
  )
  curves = records.values(lambda r: [point["weight"] for point in r["curve"]], arm="SimCLR")
  steps = [point["step"] for point in records.where(arm="SimCLR")[0]["curve"]]
  yield table(
    ["step", *(f"β = {beta}" for beta in BETAS)],
    [[step, *(f"{x:.2f}" for x in row)]
     for step, row in zip(steps, np.mean(curves, 0), strict=True)],
  )  # fmt: skip


STUDY = Study(
  "hcl", "Hard negatives by weight on CIFAR-10", report=report,
  stages=[lambda _: grid(seed=range(3), arm=ARMS)],
  measure=lambda job: cifar10.measure(config_of(job), job["seed"]),
)  # fmt: skip
