"""What does the temperature do to a space on CIFAR-10, and where is the best one?

  python benchmarks/prepare_datasets.py cifar10
  python benchmarks/temperature_cifar10.py run     # resumable; 18 runs, some 3 minutes each on two cores
  python benchmarks/temperature_cifar10.py draw

Arms: SimCLR's NT-Xent at τ of 0.07, 0.1, 0.2, 0.3, 0.7 and 1, seeds 0 to 2, 100,000 pairs in batches of
256, else benchmarks/cifar10_study.py.

Wang & Liu (2021, arXiv 2012.09740, table 1; ResNet-18, a memory bank of 4,095 negatives, 200 epochs,
linear): τ = 0.07 79.75, 0.3 83.27, 0.7 82.69, 1 82.21, the best at 0.3. Their uniformity (its negative is
printed) 3.86, 3.60, 3.17, 2.96, and tolerance 0.040, 0.178, 0.333, 0.372.

Hypotheses, on means over seeds of the last step; uniformity and tolerance of the anchors in one batch:
  space    uniformity (lower is evener) and tolerance both rise from each τ to the next
  hard     the divergence of the negatives' weights falls from each τ to the next
  peak     the best τ by kNN is not an end, and is above τ = 0.07 and τ = 1 by more than two standard errors
A run counts if its loss stays finite and its rank at the end is at least 3. `peak` counts as a test only
if best and worst τ differ by three standard errors of their difference.
"""

from __future__ import annotations

import pathlib
import sys

import matplotlib.pyplot as plt
import numpy as np
from cifar10_study import base, lead, mean_error, read, run

RESULTS = pathlib.Path(__file__).parent / "results" / "temperature_cifar10.jsonl"
SEEDS, TAUS = range(3), (0.07, 0.1, 0.2, 0.3, 0.7, 1.0)
PUBLISHED = {0.07: (79.75, -3.86, 0.040), 0.3: (83.27, -3.60, 0.178), 0.7: (82.69, -3.17, 0.333), 1.0: (82.21, -2.96, 0.372)}  # fmt: skip
CURVES = ("knn", "uniformity", "tolerance", "divergence")


def runs():
  return {
    (("tau", tau), ("seed", seed)): (
      base(100_000, 256, temperature={"name": "fixed", "temperature": tau}), seed
    )
    for seed in SEEDS for tau in TAUS
  }  # fmt: skip


def draw() -> None:
  stand = read(RESULTS)
  of = {tau: [r for r in stand if r["tau"] == tau] for tau in TAUS}
  if any(len(found) < len(SEEDS) for found in of.values()):
    sys.exit("runs are missing; python benchmarks/temperature_cifar10.py run")

  def last(tau, key):
    return np.array([r[key] if key in r else r["curve"][-1][key] for r in of[tau]])

  lines = [
    "# The temperature on CIFAR-10", "",
    f"ConvNet 32-64-128, 100,000 pairs, {len(SEEDS)} seeds, mean ± standard error; "
    f"{stand[0]['circumstances']['machine']}. Published: linear, uniformity, tolerance.", "",
    "| τ | kNN | uniformity | tolerance | divergence | rank | published |", "|---|---|---|---|---|---|---|",
  ]  # fmt: skip
  for tau in TAUS:
    cells = " | ".join(mean_error(last(tau, key)) for key in (*CURVES, "rank"))
    lines.append(f"| {tau} | {cells} | {', '.join(map(str, PUBLISHED.get(tau, ())))} |")
  means = {key: np.array([last(tau, key).mean() for tau in TAUS]) for key in CURVES}

  best, worst = (TAUS[pick(means["knn"])] for pick in (np.argmax, np.argmin))
  ends = [lead(last(best, "knn"), last(end, "knn")) for end in (TAUS[0], TAUS[-1])]
  spread = lead(last(best, "knn"), last(worst, "knn"))
  rising = {key: bool((np.diff(means[key]) > 0).all()) for key in ("uniformity", "tolerance")}
  falling = bool((np.diff(means["divergence"]) < 0).all())
  peak = best not in (TAUS[0], TAUS[-1]) and all(gain > 2 * error for gain, error in ends)
  left_out = [
    f"τ = {r['tau']}, seed {r['seed']}" for r in stand if not r["finite"] or r["rank"] < 3
  ]
  told = ["the hypothesis does not hold", "the hypothesis holds"]
  lines += [
    "", f"Runs that do not count: {', '.join(left_out) or 'none'}.", "",
    f"- space: uniformity rises throughout: {rising['uniformity']}, tolerance: {rising['tolerance']}; "
    f"{told[all(rising.values())]}.",
    f"- hard: the divergence falls throughout; {told[falling]}.",
    f"- peak: the best is τ = {best}, above 0.07 by {ends[0][0]:.3f} ± {ends[0][1]:.3f}, above 1 by "
    f"{ends[1][0]:.3f} ± {ends[1][1]:.3f}; {told[peak] if spread[0] > 3 * spread[1] else 'not tested'}.",
  ]  # fmt: skip
  RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")
  figure, places = plt.subplots(
    1, len(CURVES), figsize=(3.2 * len(CURVES), 2.8), layout="constrained"
  )
  for axes, key in zip(places, CURVES, strict=True):
    error = [last(tau, key).std(ddof=1) / len(SEEDS) ** 0.5 for tau in TAUS]
    axes.errorbar(TAUS, means[key], error, marker="o")
    if key != "divergence":  # the paper has it not; its accuracies are of a larger encoder, linear
      theirs = axes.twinx() if key == "knn" else axes
      values = [
        published[("knn", "uniformity", "tolerance").index(key)] for published in PUBLISHED.values()
      ]
      theirs.plot(list(PUBLISHED), values, "x--", color="gray")
      if key == "knn":
        theirs.set_ylabel("published, linear, % (gray)", fontsize=7, color="gray")
        theirs.tick_params(labelsize=7, colors="gray")
    axes.set_xscale("log")
    axes.set_xticks(TAUS, map(str, TAUS), fontsize=7)
    axes.minorticks_off()
    axes.set_xlabel("τ")
    axes.set_title({"knn": "kNN"}.get(key, key), fontsize=10)
  figure.savefig(RESULTS.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
  if sys.argv[1:] not in (["run"], ["draw"]):
    sys.exit("say what to do: run or draw")
  draw() if sys.argv[1] == "draw" else run(RESULTS, runs())
