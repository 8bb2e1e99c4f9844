"""What does the temperature do to a space on CIFAR-10, and where is the best one?

18 runs, some 3 minutes each on two cores. Arms: SimCLR's NT-Xent at τ of 0.07, 0.1, 0.2, 0.3, 0.7
and 1, seeds 0 to 2, 100,000 pairs in batches of 256, else as in studies/common/cifar10.py.

Wang & Liu (2021, arXiv 2012.09740, table 1; ResNet-18, a memory bank of 4,095 negatives, 200
epochs, linear): τ = 0.07 79.75, 0.3 83.27, 0.7 82.69, 1 82.21, the best at 0.3. Their uniformity
(they print its negative) is 3.86, 3.60, 3.17, 2.96, their tolerance 0.040, 0.178, 0.333, 0.372.

Hypotheses, on means over seeds at the last step; uniformity and tolerance of the anchors in one
batch:
  space    uniformity (lower is more uniform) and tolerance both rise from each τ to the next
  hard     the divergence of the negatives' weights falls from each τ to the next
  peak     the best τ by kNN is not an end of the range, and is above τ = 0.07 and τ = 1 by more
           than two standard errors
Condition of `peak`: the best and the worst τ differ by three standard errors of their difference.
"""

from __future__ import annotations

import numpy as np

from studies.common import cifar10
from studies.common.cifar10 import last
from studies.common.report import Verdict, estimate, extremes, left_out, table, unpaired
from studies.common.study import Study, grid

TAUS = (0.07, 0.1, 0.2, 0.3, 0.7, 1.0)
PUBLISHED = {
  0.07: (79.75, -3.86, 0.040), 0.3: (83.27, -3.60, 0.178), 0.7: (82.69, -3.17, 0.333),
  1.0: (82.21, -2.96, 0.372),
}  # fmt: skip
CURVES = ("knn", "uniformity", "tolerance", "divergence")


def config_of(job):
  return cifar10.base(100_000, 256, temperature={"name": "fixed", "temperature": job["tau"]})


def report(records):
  yield (
    "ConvNet 32-64-128, 100,000 pairs, 3 seeds, mean ± standard error. Published: linear accuracy, "
    "uniformity, tolerance."
  )
  of = {key: {tau: records.values(last(key), tau=tau) for tau in TAUS} for key in (*CURVES, "rank")}
  yield table(
    ["τ", "kNN", *CURVES[1:], "rank", "published"],
    [[tau, *(f"{estimate(found[tau]):.3f}" for found in of.values()),
      ", ".join(map(str, PUBLISHED.get(tau, ())))] for tau in TAUS],
  )  # fmt: skip
  yield left_out(records, "tau", "seed")
  step = {key: np.diff([of[key][tau].mean() for tau in TAUS]) for key in CURVES}
  rises = {key: bool((step[key] > 0).all()) for key in ("uniformity", "tolerance")}
  falls = bool((step["divergence"] < 0).all())
  told = [f"{key} {'rises' if it else 'does not rise'} throughout" for key, it in rises.items()]
  yield Verdict("space", " and ".join(told), all(rises.values()))
  yield Verdict("hard", f"the divergence {'falls' if falls else 'does not fall'} throughout", falls)
  knn = of["knn"]
  best, worst = extremes(knn)
  low, high = (unpaired(knn[best], knn[end]) for end in (TAUS[0], TAUS[-1]))
  yield Verdict(
    "peak", f"the best is τ = {best}, above 0.07 by {low:.3f} and above 1 by {high:.3f}",
    best not in (TAUS[0], TAUS[-1]) and low.above(2) and high.above(2),
    unpaired(knn[best], knn[worst]).above(3), "the best and the worst τ differ",
  )  # fmt: skip


def figure(records, canvas):
  for axes, key in zip(canvas.subplots(1, len(CURVES)), CURVES, strict=True):
    mean, error = zip(*(estimate(records.values(last(key), tau=tau)) for tau in TAUS), strict=True)
    axes.errorbar(TAUS, mean, error, marker="o")
    if key != "divergence":  # not in the paper, whose accuracies are of a larger encoder, linear
      theirs = axes.twinx() if key == "knn" else axes
      place = CURVES.index(key)
      theirs.plot(
        list(PUBLISHED), [found[place] for found in PUBLISHED.values()], "x--", color="gray"
      )
      if key == "knn":
        theirs.set_ylabel("published, linear, % (gray)", fontsize=7, color="gray")
        theirs.tick_params(labelsize=7, colors="gray")
    axes.set_xscale("log")
    axes.set_xticks(TAUS, map(str, TAUS), fontsize=7)
    axes.minorticks_off()
    axes.set(xlabel="τ", title=key)


STUDY = Study(
  "temperature_cifar10", "The temperature on CIFAR-10", report=report, figure=figure,
  size=(12.8, 2.8), stages=[lambda _: grid(seed=range(3), tau=TAUS)],
  measure=lambda job: cifar10.measure(config_of(job), job["seed"]),
)  # fmt: skip
