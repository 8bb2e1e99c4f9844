"""Are several heads with a temperature for each pair better than one, on digits? (AMCL)

25 trials and 25 runs of seconds. Wang et al. 2024, arXiv 2310.05615: C heads, whose similarities
are each divided by a temperature of the pair and the head (`adaptive_heads`). Their tables claim it
for SimCLR on natural images with ResNet-18; their own code does not run, so nobody has checked.
Here SimCLR as in studies/common/digits.py, 64 dimensions a head. Arms:

  1 fixed      one head, a fixed τ
  1 adaptive   one head, a τ of each pair
  3 fixed      three heads, the sum of their similarities, a fixed τ
  3 adaptive   three heads, a τ of each pair and head: AMCL
  1 matched    one head of 3 · 64 dimensions, a fixed τ, and as many parameters as `3 adaptive`, by
               the width of the projection's hidden layer

Trials choose for each fixed arm the best τ of 0.1, 0.2, 0.5, 1 and 2, and for each adaptive one,
which has no τ, the best weight of the penalty on τ of 0.001, 0.01, 0.1, 1 and 10 (paper: 0.1), by
one label per class of 200 held-out training images with seed 100; of equals the first. Runs have
seeds 0 to 4. One label per class decides, kNN is the second measure. The mean τ of positives and of
negatives is that of one batch at the end.

Hypotheses, means over seeds, each by more than two standard errors of the difference paired by
seed:
  heads      `3 fixed` is above `1 fixed`
  adaptive   the adaptive arms with 1 and 3 heads are, in their mean, above the fixed ones with 1
             and 3
  more than its parameters   `3 adaptive` is above `1 matched`
Condition: the best and the worst arm differ by more than three standard errors.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

from contrastax import data, temperatures
from contrastax.core import key_for
from contrastax.pairwise import adaptive_heads, cosine, multi_head
from studies.common import digits, fit
from studies.common.digits import MEASURES, OUT, simclr
from studies.common.report import Verdict, estimate, extremes, left_out, paired, table
from studies.common.study import Study, grid

TAUS, WEIGHTS = (0.1, 0.2, 0.5, 1.0, 2.0), (0.001, 0.01, 0.1, 1.0, 10.0)
ARMS = {
  "1 fixed": TAUS, "1 adaptive": WEIGHTS, "3 fixed": TAUS, "3 adaptive": WEIGHTS, "1 matched": TAUS
}  # fmt: skip


def method_of(arm, choice):
  heads = int(arm[0])
  if arm.endswith("adaptive"):
    score, tau = adaptive_heads(heads, regularizer=choice), temperatures.fixed(1.0)
    return simclr(out=heads * OUT, score=score, temperature=tau)
  tau = temperatures.fixed(choice)
  if arm == "1 matched":
    return simclr(hidden=matched(), out=3 * OUT, score=cosine(), temperature=tau)
  return simclr(out=heads * OUT, score=multi_head(heads), temperature=tau)


@functools.cache
def matched() -> int:
  """Returns the hidden width at which a head of 192 dimensions has AMCL's number of parameters."""
  aim = size(method_of("3 adaptive", 0.1))
  return min(
    range(128, 257), key=lambda h: abs(size(simclr(hidden=h, out=3 * OUT, score=cosine())) - aim)
  )


def size(method) -> int:
  batch = {"image": data.load("digits").train["image"][:2], "index": np.arange(2)}
  params, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
  counted = params["projection"], params["terms"]["contrast"]["score"]
  return sum(leaf.size for leaf in jax.tree.leaves(counted))


def measure(job):
  dataset = data.load("digits")
  if job["part"] == "trial":
    dataset = data.hold_out(dataset, 200)
  method = method_of(job["arm"], job["choice"])
  state, _, found = digits.train(method, dataset, job["seed"])
  if isinstance(method.score, adaptive_heads):
    found |= of_pairs(method, state, dataset)
  return {**found, "parameters": size(method)}


def of_pairs(method, state, dataset):
  """Measures the mean τ of positive and of negative pairs of 256 training images."""
  batch = {name: x[:256] for name, x in dataset.train.items()} | {"index": np.arange(256)}
  anchors, _, compare = fit.candidates(method, state, batch, key_for(0, "look"))
  once = [
    method.score.prepare(compare.score_params, anchors.vectors, side) for side in (True, False)
  ]
  tau = np.asarray(method.score.temperatures(*once)[1]).mean(0)
  index, view = (np.asarray(anchors.side[name]) for name in ("index", "view"))
  same = index[:, None] == index
  positive = tau[same & (view[:, None] != view)]
  return {"tau_positive": float(positive.mean()), "tau_negative": float(tau[~same].mean())}


def trials(_):
  return [job for arm, choices in ARMS.items()
          for job in grid(part=["trial"], arm=[arm], choice=choices, seed=[100])]  # fmt: skip


def chosen(records, arm):
  return max(records.where(part="trial", arm=arm), key=lambda r: r["linear_1"])["choice"]


def runs(records):
  return [
    job for arm in ARMS
    for job in grid(part=["run"], arm=[arm], choice=[chosen(records, arm)], seed=range(5))
  ]  # fmt: skip


def report(records):
  done = records.where(part="run")
  yield (
    "SimCLR on digits, 500 test images; 5 seeds, mean ± standard error. Chosen: τ of a fixed arm, "
    "the weight of the penalty of an adaptive one. Parameters: of projection and score."
  )
  rows = []
  for arm in ARMS:
    columns = [*MEASURES, *(["tau_positive", "tau_negative"] if "adaptive" in arm else [])]
    cells = [f"{estimate(done.values(c, arm=arm)):.3f}" for c in columns]
    parameters = done.where(arm=arm)[0]["parameters"]
    rows.append([arm, chosen(records, arm), f"{parameters:,}", *cells, *[""] * (4 - len(cells))])
  yield table(
    ["arm", "chosen", "parameters", *MEASURES.values(), "τ of positives", "of negatives"], rows
  )
  yield left_out(done, "arm", "seed")
  for column, title in MEASURES.items():
    of = {arm: done.values(column, arm=arm) for arm in ARMS}
    best, worst = extremes(of)
    spread = paired(of[best], of[worst])
    yield f"By {title}: {best} is above {worst} by {spread:.3f}."
    leads = {
      "heads": paired(of["3 fixed"], of["1 fixed"]),
      "adaptive": estimate(
        (of["1 adaptive"] + of["3 adaptive"] - of["1 fixed"] - of["3 fixed"]) / 2
      ),
      "more than its parameters": paired(of["3 adaptive"], of["1 matched"]),
    }  # fmt: skip
    for name, lead in leads.items():
      yield Verdict(name, f"{lead:+.3f}", lead.above(2), spread.above(3), "the arms differ")
  yield (
    "Added after the results: the penalty (d/2) log τ + 1/τ is least at τ = 2/d, which is "
    f"{2 / OUT:.3f} with {OUT} dimensions, and draws the temperatures there; the best fixed one is "
    "far above."
  )


STUDY = Study(
  "heads_digits", "Heads with temperatures of their own, on digits", measure=measure, report=report,
  stages=[trials, runs],
)  # fmt: skip
