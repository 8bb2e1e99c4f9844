"""Hard negatives by weight (HCL) on CIFAR-10: is there a best concentration β?

  python benchmarks/prepare_datasets.py cifar10
  python benchmarks/hcl.py run         # resumable; 18 runs, some 4 minutes each on two cores
  python benchmarks/hcl.py draw

Arms, seeds 0 to 2, 150,000 pairs in batches of 256, else benchmarks/cifar10_study.py: SimCLR, and
`hard_negative` with τ⁺ = 0.1, the share of a class, and β = 0 (debiased), 0.5, 1, 2, 6. As the authors'
code: τ = 0.5 and Adam at 1e-3; here with a warm-up and decay of the rate.

The authors' table (Robinson et al. 2021, arXiv 2010.04592; STL-10, ResNet-50, 400 epochs, linear):
SimCLR 80.15, β = 0 84.26, 0.5 86.38, 1 87.44, 2 87.09, 6 83.09.

Hypotheses, on mean kNN over seeds:
  debiased   β = 0 is above SimCLR
  inverted   the best β is 0.5, 1 or 2, and β = 6 is below it
each by more than two standard errors of the difference. A run counts if its loss stays finite and
its rank at the end is at least 3. If best and worst arm differ by less than three standard errors of
their difference, nothing is tested.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from cifar10_study import BETAS, base, lead, mean_error, read, run

RESULTS = pathlib.Path(__file__).parent / "results" / "hcl.jsonl"
SEEDS = range(3)
ARMS = {"SimCLR": {"name": "info_nce"}} | {
  f"β = {beta}": {"name": "hard_negative", "beta": beta, "tau_plus": 0.1} for beta in BETAS
}
PUBLISHED = dict(zip(ARMS, (80.15, 84.26, 86.38, 87.44, 87.09, 83.09), strict=True))


def config_of(arm):
  return base(
    150_000, 256, loss=ARMS[arm],
    optimizer={"learning_rate": 1e-3, "weight_decay": 0.0},
  )  # fmt: skip


def runs():
  return {(("arm", arm), ("seed", seed)): (config_of(arm), seed) for seed in SEEDS for arm in ARMS}


def draw() -> None:
  stand = read(RESULTS)
  of = {arm: [r for r in stand if r["arm"] == arm] for arm in ARMS}
  if any(len(found) < len(SEEDS) for found in of.values()):
    sys.exit("runs are missing; python benchmarks/hcl.py run")
  knn = {arm: np.array([r["knn"] for r in of[arm]]) for arm in ARMS}
  lines = [
    "# Hard negatives by weight on CIFAR-10", "",
    f"ConvNet 32-64-128, 150,000 pairs, {len(SEEDS)} seeds, mean ± standard error; "
    f"{stand[0]['circumstances']['machine']}. Published: the authors' STL-10.", "",
    "| | kNN | rank | uniformity | published |", "|---|---|---|---|---|",
  ]  # fmt: skip
  for arm in ARMS:
    uniformity = [r["curve"][-1]["uniformity"] for r in of[arm]]
    cells = knn[arm], [r["rank"] for r in of[arm]], uniformity
    lines.append(f"| {arm} | {' | '.join(map(mean_error, cells))} | {PUBLISHED[arm]:.2f} |")
  lines += ["", *verdicts(knn, of), "", *weights(of["SimCLR"])]
  RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")


def verdicts(knn, of) -> list[str]:
  means = {arm: values.mean() for arm, values in knn.items()}
  best, worst = max(means, key=means.get), min(means, key=means.get)
  spread = lead(knn[best], knn[worst])
  counts = spread[0] > 3 * spread[1]
  hard = [arm for arm in ARMS if arm != "SimCLR"]
  peak = max(hard, key=means.get)
  debiased, inverted = lead(knn["β = 0"], knn["SimCLR"]), lead(knn[peak], knn["β = 6"])
  left_out = [
    f"{arm}, seed {r['seed']}" for arm in ARMS for r in of[arm] if not r["finite"] or r["rank"] < 3
  ]

  def told(holds):
    return ("holds" if holds else "does not hold") if counts else "is not tested"

  return [
    f"Runs that do not count: {', '.join(left_out) or 'none'}. Best and worst arm, {best} and {worst}, "
    f"differ by {spread[0]:.3f} ± {spread[1]:.3f}.", "",
    f"- debiased: β = 0 − SimCLR {debiased[0]:+.3f} ± {debiased[1]:.3f}; the hypothesis "
    f"{told(debiased[0] > 2 * debiased[1])}.",
    f"- inverted: the best is {peak}, above β = 6 by {inverted[0]:.3f} ± {inverted[1]:.3f}; the "
    f"hypothesis {told(peak in hard[1:4] and inverted[0] > 2 * inverted[1])}.",
  ]  # fmt: skip


def weights(found) -> list[str]:
  """How much of the weight falls on negatives of the anchor's class, in SimCLR's runs."""
  lines = [
    "The share of weight e^{β s/τ} on negatives of the anchor's class, in SimCLR's runs, mean over "
    "seeds (chance: 0.10).", "",
    "| step | " + " | ".join(f"β = {beta}" for beta in BETAS) + " |", "|---" * (len(BETAS) + 1) + "|",
  ]  # fmt: skip
  for at, point in enumerate(found[0]["curve"]):
    shares = np.mean([r["curve"][at]["weight"] for r in found], axis=0)
    lines.append(f"| {point['step']} | {' | '.join(f'{x:.2f}' for x in shares)} |")
  return lines


if __name__ == "__main__":
  if sys.argv[1:] not in (["run"], ["draw"]):
    sys.exit("say what to do: run or draw")
  draw() if sys.argv[1] == "draw" else run(RESULTS, runs())
