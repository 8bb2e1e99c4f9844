"""How much does it matter at which temperature training begins? On digits.

60 runs of seconds. SimCLR with InfoNCE as in studies/common/digits.py: 1,297 training digits, batch
128, AdamW 3e-3, 800 steps, seeds 0 to 4. Arms, each begun at τ₀ of 0.05, 0.2 and 0.8:

  fixed        τ₀
  scheduled    from τ₀ along half a cosine to 0.2
  learned      bounds 0.01 and 2
  individual   ρ = 0.4, bounds 0.01 and 2, η = 0.1, β = 0.5

All four have the same loss, so that `individual` differs by its temperatures alone (iSogCLR also
has a moving average). Nothing was chosen by these accuracies. Measures, of 500 test images in h: 20
draws of one label per class, which decides because kNN is near its ceiling on digits; kNN as the
second measure; and `reached`, the mean τ of the anchors at the last step. The span of an arm on a
seed is its largest less its smallest accuracy over τ₀.

Hypotheses:
  sensitive   the span of fixed exceeds that of each other arm by more than two standard errors of
              the difference, paired by seed
  forgets     learned and individual temperatures reach, on each seed, the same τ from all τ₀: the
              largest is at most 1.25 times the smallest
Condition of `sensitive`: fixed at its best τ₀ is above its worst by more than three standard errors
of their difference, paired by seed.
"""

from __future__ import annotations

import numpy as np

from contrastax import data, schedules, temperatures
from studies.common import digits
from studies.common.digits import MEASURES
from studies.common.report import Verdict, estimate, left_out, paired, table
from studies.common.study import Study, grid

BEGINNINGS, LOW, HIGH = (0.05, 0.2, 0.8), 0.01, 2.0
ARMS = {
  "fixed": temperatures.fixed,
  "scheduled": lambda begin: temperatures.scheduled(
    schedules.cosine(start=begin, end=0.2, steps=800)
  ),
  "learned": lambda begin: temperatures.learned(begin, LOW, HIGH),
  "individual": lambda begin: temperatures.individual(
    begin, rho=0.4, min_temperature=LOW, max_temperature=HIGH, learning_rate=0.1, beta=0.5
  ),
}


def measure(job):
  dataset, temperature = data.load("digits"), ARMS[job["arm"]](job["begin"])
  method = digits.simclr(temperature=temperature, examples=len(dataset.train["image"]))
  _, metrics, found = digits.train(method, dataset, job["seed"])
  return {**found, "reached": float(metrics["temperature"])}


def report(records):
  of = {  # [seeds, τ₀]
    (arm, c): np.stack([records.values(c, arm=arm, begin=begin) for begin in BEGINNINGS], 1)
    for arm in ARMS for c in (*MEASURES, "reached")
  }  # fmt: skip
  yield "SimCLR on digits, 500 test images; 5 seeds, mean ± standard error."
  yield table(["", "measure", *(f"τ₀ = {begin}" for begin in BEGINNINGS), "span"], [
    [arm, title, *(f"{estimate(found):.3f}" for found in of[arm, c].T),
     f"{estimate(np.ptp(of[arm, c], axis=1)):.3f}"]
    for c, title in {**MEASURES, "reached": "τ at the end"}.items() for arm in ARMS
  ])  # fmt: skip
  yield left_out(records.where(part="run"), "arm", "begin", "seed")
  for column, title in MEASURES.items():
    fixed = of["fixed", column]
    best, worst = fixed.mean(0).argmax(), fixed.mean(0).argmin()
    apart = paired(fixed[:, best], fixed[:, worst])
    leads = {
      arm: paired(np.ptp(fixed, axis=1), np.ptp(of[arm, column], axis=1)) for arm in list(ARMS)[1:]
    }
    told = ", ".join(f"{arm} by {lead:+.3f}" for arm, lead in leads.items())
    yield Verdict(
      f"sensitive, by {title}", f"fixed is best at τ₀ = {BEGINNINGS[best]}, above its worst by "
      f"{apart:.3f}; its span exceeds that of {told}",
      all(lead.above(2) for lead in leads.values()),
      apart.above(3), "the best and the worst τ₀ differ",
    )  # fmt: skip
  reached = {arm: of[arm, "reached"] for arm in ("learned", "individual")}
  ratios = {arm: (tau.max(1) / tau.min(1)).max() for arm, tau in reached.items()}
  told = " and ".join(f"{ratio:.2f} ({arm})" for arm, ratio in ratios.items())
  yield Verdict(
    "forgets", f"the largest τ reached over the smallest of its seed is at most {told}, where 1.25 "
    "is allowed", max(ratios.values()) <= 1.25,
  )  # fmt: skip


STUDY = Study(
  "initial_temperature", "The temperature at the start", measure=measure, report=report,
  stages=[lambda _: grid(part=["run"], arm=ARMS, begin=BEGINNINGS, seed=range(5))],
)  # fmt: skip
