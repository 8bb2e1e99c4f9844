"""Individual temperatures on a long tail: do they help, and do frequent classes get larger ones?

20 runs, some 4 minutes each on two cores. CIFAR-10 with exponential imbalance 100: of class c the
first ⌊5,000 · 100^(−c/9)⌋ images, 12,406 in all. ConvNet 32-64-128, views and AdamW of
configs/cifar10_convnet_simclr.py, batch 128, 20 epochs. Arms:

  SimCLR     NT-Xent at τ
  DCL        at τ: SogCLR with γ = 1, which the papers leave out
  SogCLR     γ = 0.9, at τ
  iSogCLR    γ = 0.9, τ_i begun at τ, ρ = 0.3, bounds 0.05 and 1, η = 0.03, β = 0.5

each with τ of 0.1, 0.3 and 0.7 on seed 0, and with its best τ on seeds 1 and 2. The best τ is
chosen by the linear probe on the first half of the test images, which here are validation; all
results are of the second half, 5,000 images. The probe is trained on the features of all 50,000
training images with their labels, so it judges the space and not the probe's prior. Accuracy: of
all classes (they are balanced), `head` of the three most frequent, `tail` of the three rarest.

The paper (Qiu et al. 2023, arXiv 2305.11965; ResNet-18, linear, mean of 3): SimCLR 77.09, SogCLR
77.70, iSogCLR 78.37.

Hypotheses, at each arm's best τ, on three seeds:
  individual   iSogCLR's mean accuracy is above SogCLR's by more than two standard errors of the
               difference
  tail         its mean accuracy gains more on the tail than on the head
  dcl          SogCLR's mean accuracy is within two standard errors of DCL's: in one batch of 128,
               and so few epochs, most of its gain over SimCLR is DCL's
  frequency    Spearman's correlation of τ_i with the number of its class is at least 0.3 on every
               seed
Condition of all but `dcl`: the median |τ_i − τ| is at least 0.2 τ on every seed.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from scipy import stats

from contrastax import criteria, data, evaluation, temperatures
from studies.common import cifar10, fit
from studies.common.report import Verdict, estimate, left_out, table, unpaired
from studies.common.study import Study, grid

TAUS, BATCH, EPOCHS = (0.1, 0.3, 0.7), 128, 20
COUNTS = (5_000 * 100.0 ** (-np.arange(10) / 9)).astype(int)
PAPER = {"SimCLR": 0.7709, "SogCLR": 0.7770, "iSogCLR": 0.7837}
ARMS = {
  "SimCLR": (criteria.info_nce(), temperatures.fixed),
  "DCL": (criteria.dcl(), temperatures.fixed),
  "SogCLR": (criteria.sogclr(0.9), temperatures.fixed),
  "iSogCLR": (criteria.sogclr(0.9), functools.partial(temperatures.individual, rho=0.3)),
}


def long_tailed():
  """Returns the training images of the long tail, in the order of the data."""
  train = cifar10.images().train
  places = [np.flatnonzero(train["label"] == c)[:n] for c, n in enumerate(COUNTS)]
  places = np.sort(np.concatenate(places))
  return {name: values[places] for name, values in train.items()}


def measure(job):
  train, dataset, tau = long_tailed(), cifar10.images(), job["tau"]
  source = data.Resident(train, batch_size=BATCH, seed=job["seed"])
  steps = EPOCHS * (source.size // BATCH)
  (loss, temperature), (method, optimizer) = (
    ARMS[job["arm"]], cifar10.parts_of(cifar10.base(steps * BATCH, BATCH))
  )  # fmt: skip
  method = dataclasses.replace(
    method, loss=loss, temperature=temperature(tau), examples=source.size
  )
  state, metrics = fit.fit(method, optimizer, source, steps=steps, seed=job["seed"])
  split = fit.sets(dataset, (fit.embed(method, state, x["image"]) for x in dataset[:2]))
  label = split[3]
  right = evaluation.linear_predictions(*split[:3]) == label
  first = np.arange(len(label)) < len(label) // 2
  found = {
    "finite": bool(np.isfinite(metrics["loss"])),
    "rank": fit.rank(split[2][:2000]),
    "validation": float(right[first].mean()),
    "accuracy": float(right[~first].mean()),
    "head": float(right[~first & (label < 3)].mean()),
    "tail": float(right[~first & (label > 6)].mean()),
  }
  if method.temperature.per_anchor:
    each = np.asarray(method.temperature.each(state.state["terms"]["contrast"]["temperature"]))
    found |= {
      "moved": float(np.median(np.abs(each - tau)) / tau),
      "frequency": float(stats.spearmanr(each, COUNTS[train["label"]]).statistic),
      "at_bound": float(((each <= 0.05) | (each >= 1)).mean()),
      "by_class": [
        np.quantile(each[train["label"] == c], (0.25, 0.5, 0.75)).tolist() for c in range(10)
      ],
    }
  return found


def best_of(records, arm):
  """Returns its τ with the highest validation accuracy on seed 0."""
  return max(records.where(arm=arm, seed=0), key=lambda r: r["validation"])["tau"]


def at_best(records):
  return [
    {"arm": arm, "tau": best_of(records, arm), "seed": seed} for seed in (1, 2) for arm in ARMS
  ]


def report(records):
  of = {arm: records.where(arm=arm, tau=best_of(records, arm)) for arm in ARMS}
  yield (
    f"CIFAR-10 with imbalance 100, {COUNTS.sum():,} images, {EPOCHS} epochs; mean ± standard error "
    "of 3 seeds at the τ that is best on validation."
  )
  columns = ("accuracy", "head", "tail")
  yield table(
    ["", "τ", *columns, "paper", f"seed 0 at τ = {', '.join(map(str, TAUS))}"], [
    [arm, best_of(records, arm), *(f"{estimate(of[arm].values(c)):.3f}" for c in columns),
     f"{PAPER[arm]:.3f}" if arm in PAPER else "",
     ", ".join(f"{records.where(arm=arm, tau=tau, seed=0)[0]['accuracy']:.3f}" for tau in TAUS)]
    for arm in ARMS
  ])  # fmt: skip
  yield left_out(records, "arm", "tau", "seed")
  ours, moved = of["iSogCLR"], of["iSogCLR"].values("moved")
  condition = moved.min() >= 0.2, "the temperatures have moved"
  told = ", ".join(f"{x:.2f}" for x in moved)
  yield f"The median |τ_i − τ| is {told} of τ (at least 0.2 to count)."

  def ahead(column, one, other):
    return unpaired(of[one].values(column), of[other].values(column))

  gain, apart = ahead("accuracy", "iSogCLR", "SogCLR"), ahead("accuracy", "SogCLR", "DCL")
  tail, head = (ahead(column, "iSogCLR", "SogCLR").mean for column in ("tail", "head"))
  frequency = ours.values("frequency")
  yield Verdict("individual", f"iSogCLR less SogCLR is {gain:+.4f}", gain.above(2), *condition)
  yield Verdict(
    "tail", f"the tail gains {tail:+.4f}, the head {head:+.4f}", tail > head, *condition
  )
  yield Verdict("dcl", f"SogCLR less DCL is {apart:+.4f}", abs(apart.mean) <= 2 * apart.error)
  yield Verdict(
    "frequency", f"Spearman's correlations are {', '.join(f'{x:.2f}' for x in frequency)}",
    frequency.min() >= 0.3, *condition,
  )  # fmt: skip


def figure(records, canvas):
  axes, tau = canvas.subplots(), best_of(records, "iSogCLR")
  for place, r in enumerate(records.where(arm="iSogCLR", tau=tau)):
    low, middle, high = np.transpose(r["by_class"])
    at = np.arange(10) + 0.2 * (place - 1)
    axes.errorbar(at, middle, (middle - low, high - middle), fmt="o", label=f"seed {r['seed']}")
  axes.axhline(tau, color="black", linestyle="--")
  axes.set_xticks(range(10), [f"{n:,}" for n in COUNTS], fontsize=8)
  axes.set(xlabel="images of the class", ylabel="temperature: median, quartiles")
  axes.legend(frameon=False)


STUDY = Study(
  "long_tail", "Individual temperatures on a long tail",
  measure=measure, report=report, figure=figure,
  size=(6, 3.4), stages=[lambda _: grid(arm=ARMS, tau=TAUS, seed=[0]), at_best],
)  # fmt: skip
