"""MoCHi on CIFAR-10: do harder negatives help where most of the hardest are false negatives?

12 runs, some 5 minutes each on two cores. Arms, seeds 0 to 2, 200,000 pairs in batches of 256, else
as in studies/common/cifar10.py:
  MoCo v2           queue of 4,096, momentum 0.99, τ = 0.2
  MoCHi             the same, with (hard, mixed, with anchor) = (256, 256, 64), after 78 steps
                    without
  oracle            MoCo v2 whose negatives are of other classes, by their labels
  MoCHi, oracle     both
One learning rate for all, 2e-3, which is that of MoCo v2's best trial in studies/methods.py.

The paper (Kalantidis et al. 2020, arXiv 2010.01028; ImageNet-100, ResNet-50, linear): MoCo v2 78.0,
MoCHi 79.0, oracle 81.8, both 82.5. With 100 classes and a longer queue fewer of the hardest
negatives are false than with the ten classes here.

Hypotheses, on means over seeds at the last step:
  proxy       MoCHi's proxy accuracy is below MoCo v2's by 0.05
  uniformity  MoCHi's anchors are more uniform: their uniformity is lower by 0.05
  purity      at the end at least half of each anchor's 64 hardest in MoCo v2's queue are of its
              class
  oracle      the oracle's kNN is above MoCo v2's by more than two standard errors of the difference
  knn         MoCHi's kNN is not above MoCo v2's by more than two standard errors of the difference
Condition of `knn`: `oracle` holds; else the runs are too short for negatives to matter.
"""

from __future__ import annotations

import numpy as np

from studies.common import cifar10
from studies.common.cifar10 import LIMITS, last
from studies.common.report import Verdict, estimate, left_out, table, unpaired
from studies.common.study import Study, grid

QUEUE = {"name": "queue", "size": 4096}
MIXES = {"name": "mochi", "hard": 256, "mixed": 256, "with_anchor": 64, "warmup": 78}
ORACLE = {"name": "negatives_differ", "by": "label"}
SAME = {"name": "same_example"}
ARMS = {
  "MoCo v2": ((QUEUE,), (SAME,)),
  "MoCHi": ((QUEUE, MIXES), (SAME,)),
  "oracle": ((QUEUE,), (SAME, ORACLE)),
  "MoCHi, oracle": ((QUEUE, MIXES), (SAME, ORACLE)),
}
COLUMNS = ("knn", "proxy", "uniformity", "hardest", "mixes", "false_64", "rank")


def config_of(job):
  negatives, relation = ARMS[job["arm"]]
  return cifar10.base(
    200_000, 256, name="MoCo", momentum=0.99, negatives=negatives, relation=relation,
    temperature={"name": "fixed", "temperature": 0.2}, optimizer={"learning_rate": 2e-3},
  )  # fmt: skip


def report(records):
  of = {(arm, c): records.values(last(c), arm=arm) for arm in ARMS for c in COLUMNS}
  yield (
    "ConvNet 32-64-128, 200,000 pairs, 3 seeds, mean ± standard error. `studies/common/cifar10.py` "
    "defines the columns."
  )
  yield table(["", *COLUMNS], [
    [arm, *("" if np.isnan(of[arm, c]).any() else f"{estimate(of[arm, c]):.3f}" for c in COLUMNS)]
    for arm in ARMS
  ])  # fmt: skip
  yield left_out(records, "arm", "seed")

  def ahead(arm, column):
    return unpaired(of[arm, column], of["MoCo v2", column])

  proxy, uniformity = ahead("MoCHi", "proxy"), ahead("MoCHi", "uniformity")
  knn, oracle = ahead("MoCHi", "knn"), ahead("oracle", "knn")
  purity = of["MoCo v2", "false_64"].mean()
  yield Verdict("proxy", f"MoCHi − MoCo v2 is {proxy:+.3f}", proxy.mean <= -0.05)
  yield Verdict("uniformity", f"MoCHi − MoCo v2 is {uniformity:+.3f}", uniformity.mean <= -0.05)
  yield Verdict(
    "purity", f"{purity:.2f} of the 64 hardest are of the anchor's class", purity >= 0.5
  )
  yield Verdict("oracle", f"the oracle's kNN − MoCo v2's is {oracle:+.3f}", oracle.above(2))
  yield Verdict(
    "knn", f"MoCHi's kNN − MoCo v2's is {knn:+.3f}", not knn.above(2), oracle.above(2),
    "`oracle` holds",
  )  # fmt: skip
  yield (
    "Dropping negatives above a similarity, in MoCo v2's queue: precision / recall of dropping "
    "those of the anchor's class, mean over seeds (chance: 0.10):"
  )
  curves = [r["curve"] for r in records.where(arm="MoCo v2")]
  rows = []
  for points in zip(*curves, strict=True):
    if "precision" not in points[0]:
      continue
    precision = np.array([p["precision"] for p in points], float)  # NaN where nothing is dropped
    recall = np.mean([p["recall"] for p in points], 0)
    rows.append([points[0]["step"], *(
      f"{np.nanmean(of_limit):.2f} / {there:.2f}" if np.isfinite(of_limit).any() else "– / 0.00"
      for of_limit, there in zip(precision.T, recall, strict=True)
    )])  # fmt: skip
  yield table(["step", *(f"> {limit}" for limit in LIMITS)], rows)


STUDY = Study(
  "mochi", "MoCHi on CIFAR-10", report=report,
  stages=[lambda _: grid(seed=range(3), arm=ARMS)],
  measure=lambda job: cifar10.measure(config_of(job), job["seed"]),
)  # fmt: skip
