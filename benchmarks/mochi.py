"""MoCHi on CIFAR-10: do harder negatives help, where most of the hardest are false ones?

  python benchmarks/prepare_datasets.py cifar10
  python benchmarks/mochi.py run       # resumable; 12 runs, some 5 minutes each on two cores
  python benchmarks/mochi.py draw

Arms, seeds 0 to 2, 200,000 pairs in batches of 256, else benchmarks/cifar10_study.py:
  MoCo v2           queue of 4,096, momentum 0.99, τ = 0.2
  MoCHi             the same, with (hard, mixed, with anchor) = (256, 256, 64), after 78 steps without
  oracle            MoCo v2 whose negatives are of other classes, by their labels
  MoCHi, oracle     both
One learning rate for all, 2e-3, which is that of MoCo v2's best trial in benchmarks/methods.py.

The paper (Kalantidis et al. 2020, arXiv 2010.01028; ImageNet-100, ResNet-50, linear): MoCo v2 78.0,
MoCHi 79.0, oracle 81.8, both 82.5; with 100 classes and a longer queue fewer of the hardest are
false than with the ten classes here.

Hypotheses, on means over seeds of the last step:
  proxy       MoCHi's proxy accuracy is below MoCo v2's by 0.05
  uniformity  MoCHi's anchors are more uniform: their uniformity is lower by 0.05
  purity      at the end at least half of each anchor's 64 hardest in MoCo v2's queue are of its class
  knn         MoCHi's kNN is not above MoCo v2's by more than two standard errors of the difference
  oracle      the oracle's is, by more than two
A run counts if its loss stays finite and its rank at the end is at least 3. `knn` counts as a test
only if `oracle` holds: else the runs are too short for negatives to matter.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from cifar10_study import LIMITS, base, lead, mean_error, read, run

RESULTS = pathlib.Path(__file__).parent / "results" / "mochi.jsonl"
SEEDS = range(3)
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


def config_of(arm):
  negatives, relation = ARMS[arm]
  return base(
    200_000, 256, name="MoCo", momentum=0.99, negatives=negatives, relation=relation,
    temperature={"name": "fixed", "temperature": 0.2}, optimizer={"learning_rate": 2e-3},
  )  # fmt: skip


def runs():
  return {(("arm", arm), ("seed", seed)): (config_of(arm), seed) for seed in SEEDS for arm in ARMS}


def draw() -> None:
  stand = read(RESULTS)
  of = {arm: [r for r in stand if r["arm"] == arm] for arm in ARMS}
  if any(len(found) < len(SEEDS) for found in of.values()):
    sys.exit("runs are missing; python benchmarks/mochi.py run")

  def last(arm, key):
    return np.array([r[key] if key in r else r["curve"][-1].get(key, np.nan) for r in of[arm]])

  columns = ("knn", "proxy", "uniformity", "hardest", "mixes", "false_64", "rank")
  lines = [
    "# MoCHi on CIFAR-10", "",
    f"ConvNet 32-64-128, 200,000 pairs, {len(SEEDS)} seeds, mean ± standard error; "
    f"{stand[0]['circumstances']['machine']}. What the columns are says benchmarks/cifar10_study.py.", "",
    f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|",
  ]  # fmt: skip
  for arm in ARMS:
    cells = [last(arm, key) for key in columns]
    cells = ["" if np.isnan(x).any() else mean_error(x) for x in cells]
    lines.append(f"| {arm} | {' | '.join(cells)} |")
  lines += ["", *verdicts(last, of), "", *masks(of["MoCo v2"])]
  RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")


def verdicts(last, of) -> list[str]:
  left_out = [
    f"{arm}, seed {r['seed']}" for arm in ARMS for r in of[arm] if not r["finite"] or r["rank"] < 3
  ]

  def ahead(arm, key):
    return lead(last(arm, key), last("MoCo v2", key))

  def said(name, text, holds):
    return f"- {name}: {text}; the hypothesis {'holds' if holds else 'does not hold'}."

  proxy, uniformity, knn, oracle = (
    ahead("MoCHi", "proxy"), ahead("MoCHi", "uniformity"), ahead("MoCHi", "knn"), ahead("oracle", "knn")
  )  # fmt: skip
  purity = last("MoCo v2", "false_64").mean()
  tested = oracle[0] > 2 * oracle[1]
  compared = f"MoCHi's kNN − MoCo v2's {knn[0]:+.3f} ± {knn[1]:.3f}"
  return [
    f"Runs that do not count: {', '.join(left_out) or 'none'}.", "",
    said("proxy", f"MoCHi − MoCo v2 {proxy[0]:+.3f} ± {proxy[1]:.3f}", proxy[0] <= -0.05),
    said("uniformity", f"{uniformity[0]:+.3f} ± {uniformity[1]:.3f}", uniformity[0] <= -0.05),
    said("purity", f"{purity:.2f} of the 64 hardest are of the anchor's class", purity >= 0.5),
    said("oracle", f"kNN {oracle[0]:+.3f} ± {oracle[1]:.3f}", tested),
    said("knn", compared, knn[0] <= 2 * knn[1]) if tested else f"- knn: {compared}; not tested.",
  ]  # fmt: skip


def masks(found) -> list[str]:
  """Precision and recall of dropping what is more similar than a limit, in MoCo v2's runs."""
  lines = [
    "Dropping negatives above a similarity, in MoCo v2's queue: precision / recall of what is of the "
    "anchor's class, mean over seeds (chance: 0.10).", "",
    "| step | " + " | ".join(f"> {limit}" for limit in LIMITS) + " |", "|---" * (len(LIMITS) + 1) + "|",
  ]  # fmt: skip
  for at, point in enumerate(found[0]["curve"]):
    if "precision" not in point:
      continue
    cells = []
    for place in range(len(LIMITS)):
      precisions = [r["curve"][at]["precision"][place] for r in found]
      recall = np.mean([r["curve"][at]["recall"][place] for r in found])
      known = [x for x in precisions if x is not None]
      cells.append(f"{np.mean(known):.2f} / {recall:.2f}" if known else "– / 0.00")
    lines.append(f"| {point['step']} | {' | '.join(cells)} |")
  return lines


if __name__ == "__main__":
  if sys.argv[1:] not in (["run"], ["draw"]):
    sys.exit("say what to do: run or draw")
  draw() if sys.argv[1] == "draw" else run(RESULTS, runs())
