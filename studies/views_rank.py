"""Do more views fill more dimensions under MV-DHEL than under InfoNCE?

84 runs of a few seconds. Koromilas et al. 2025, arXiv 2507.06979, claim that from 5 views on
MV-DHEL uses the dimensions that other losses leave unused. Here on digits, by the effective rank
(`evaluation.effective_rank`) of the unit projections z, 64 dimensions, of the 500 test images.

Arms: `losses.mv_dhel`; `losses.poly_view`, geometric, which is NT-Xent averaged over all pairs of
views; `losses.mv_info_nce`; each at 2, 4 and 6 views, seeds 0 to 2. Also at τ = 0.5 an equal number
of views per step: 128, 64 and 42 examples for 2, 4 and 6 views. Networks, views and optimizer as in
studies/common/digits.py; 400 steps, 128 examples a step. A loss's own τ is the best of 0.1, 0.2 and
0.5 by kNN at 4 views on 200 held-out training images with seed 100; of equals the largest. Probes
read h, before the projection.

Hypotheses, at τ = 0.5 (the paper's) and at each loss's own τ alike:
  rank      at 6 views MV-DHEL's rank is above that of either InfoNCE by 10 % of the latter, on each
            seed, and its mean lead over either is greater at 6 views than at 2
  accuracy  at 6 views MV-DHEL's kNN is in the mean not below either by more than 0.005
Conditions: of both, at 6 views every run's kNN reaches the mean of the untrained encoders' less
0.005, so that there is a representation whose rank is of interest; of `rank`, both InfoNCE are
below 0.95 · 64 at 6 views, so that there is room above them.

Added after these results, because every loss's own τ came out as 0.5: all three at τ = 0.1, to see
whether the rank is the loss's or the temperature's. No part of the hypotheses.
"""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np

from contrastax import data, evaluation, losses
from contrastax.pairwise import unit
from studies.common import digits, fit
from studies.common.digits import OUT
from studies.common.report import Verdict, estimate, table
from studies.common.study import Study, grid

LOSSES = {
  "MV-DHEL": losses.mv_dhel, "NT-Xent, all pairs": losses.poly_view,
  "MV-InfoNCE": losses.mv_info_nce,
}  # fmt: skip
VIEWS, EXAMPLES, SEEDS, PAPERS, TAUS, LOW = (2, 4, 6), 128, range(3), 0.5, (0.5, 0.2, 0.1), 0.1
ROWS = {2: 128, 4: 64, 6: 42}
COLUMNS = {
  "rank_z": "rank of z", "rank_h": "rank of h", "knn": "kNN", "linear": "linear",
  "linear_1": "1 label per class",
}  # fmt: skip


def measure(job):
  dataset = data.load("digits")
  if job["part"] == "select":
    dataset = data.hold_out(dataset, 200)
  images, seed = dataset.train["image"], job["seed"]
  if job["part"] == "untrained":
    networks = digits.init(images, seed)
  else:
    networks = digits.train_views(
      LOSSES[job["loss"]], job["temperature"], images, count=job["views"],
      examples=job["examples"], steps=400, seed=seed,
    )  # fmt: skip
  split, z = digits.features(networks, dataset)
  found = {"knn": evaluation.knn(*split)}
  return found if job["part"] == "select" else {
    "rank_z": fit.rank(unit(jnp.asarray(z))), "rank_h": fit.rank(split[2]), **found,
    "linear": evaluation.linear(*split), "linear_1": fit.one_label(split),
  }  # fmt: skip


def arm(loss, tau, count, examples=EXAMPLES):
  return {"part": "run", "loss": loss, "temperature": tau, "views": count, "examples": examples}


def trials(_):
  select = [{**arm(loss, tau, 4), "part": "select", "seed": 100} for loss in LOSSES for tau in TAUS]
  return grid(part=["untrained"], seed=SEEDS) + select


def own_temperatures(records):
  def best(rows):
    return max(rows, key=lambda r: (r["knn"], r["temperature"]))["temperature"]

  return {loss: best(records.where(part="select", loss=loss)) for loss in LOSSES}


def panels(records):
  """Returns (title, {loss: τ}, {views: examples}) of each comparison."""
  papers, own = dict.fromkeys(LOSSES, PAPERS), own_temperatures(records)
  same, found = dict.fromkeys(VIEWS, EXAMPLES), []
  if own != papers:
    found = [("At each loss's own τ, 128 examples per step", own, same)]
  return [
    ("At τ = 0.5, 128 examples per step", papers, same), *found,
    ("At τ = 0.5, equal views per step", papers, ROWS),
    ("Added after: at τ = 0.1, 128 examples per step", dict.fromkeys(LOSSES, LOW), same),
  ]  # fmt: skip


def runs(records):
  return [
    {**arm(loss, taus[loss], count, examples[count]), "seed": seed}
    for _, taus, examples in panels(records)
    for loss, count, seed in itertools.product(LOSSES, VIEWS, SEEDS)
  ]


def of_panel(records, column, taus, examples):
  return {(loss, count): records.values(column, **arm(loss, taus[loss], count, examples[count]))
          for loss in LOSSES for count in VIEWS}  # fmt: skip


def report(records):
  untrained = records.where(part="untrained")
  form = {c: ".1f" if "rank" in c else ".3f" for c in COLUMNS}
  yield "Digits, 500 test images; 3 seeds, mean ± standard error. z has 64 dimensions, h 128."
  last = ["untrained", "–", "–", *(f"{estimate(untrained.values(c)):{form[c]}}" for c in COLUMNS)]
  for title, taus, examples in panels(records):
    of = {c: of_panel(records, c, taus, examples) for c in COLUMNS}
    yield f"{title}:"
    yield table(["loss", "τ", "views", *COLUMNS.values()], [
      [loss, taus[loss], count, *(f"{estimate(of[c][loss, count]):{form[c]}}" for c in COLUMNS)]
      for loss in LOSSES for count in VIEWS
    ] + [last])  # fmt: skip
    yield from verdicts(of, untrained.values("knn").mean() - 0.005)
  if all(tau == PAPERS for tau in own_temperatures(records).values()):
    yield (
      "The hypotheses are stated for τ = 0.5 and for each loss's own τ, at 128 examples. The "
      "choice gave 0.5 to all three, so these are the same runs, and no second test."
    )

  def rank(loss, tau):
    return records.values("rank_z", **arm(loss, tau, 6)).mean()

  told = ", ".join(f"{rank(loss, PAPERS):.1f} to {rank(loss, LOW):.1f} ({loss})" for loss in LOSSES)
  yield f"At 6 views, lowering τ from {PAPERS} to {LOW} changes the rank from {told}."


def verdicts(of, floor):
  few, many = VIEWS[0], VIEWS[-1]
  ours, *others = LOSSES
  able = min(of["knn"][loss, many].min() for loss in LOSSES) >= floor
  rank = of["rank_z"]
  leads = {loss: [(rank[ours, v] - rank[loss, v]).mean() for v in (few, many)] for loss in others}
  told = ", ".join(f"{b:+.1f} over {loss} ({a:+.1f} at 2)" for loss, (a, b) in leads.items())
  yield Verdict(
    "rank", f"MV-DHEL's rank is {rank[ours, few].mean():.1f} at 2 views, "
    f"{rank[ours, many].mean():.1f} at 6; its lead at 6 views is {told}",
    all((rank[ours, many] >= 1.1 * rank[loss, many]).all() for loss in others)
    and all(at_many > at_few for at_few, at_many in leads.values()),
    able and max(rank[loss, many].mean() for loss in others) < 0.95 * OUT,
    "all learn, and there is room above",
  )  # fmt: skip

  def differences(column):
    return [(of[column][ours, many] - of[column][loss, many]).mean() for loss in others]

  yield Verdict(
    "accuracy", f"its kNN differs by {', '.join(f'{x:+.3f}' for x in differences('knn'))} (the "
    f"rank of h by {', '.join(f'{x:+.1f}' for x in differences('rank_h'))}, one label per class by "
    f"{', '.join(f'{x:+.3f}' for x in differences('linear_1'))})",
    min(differences("knn")) >= -0.005, able, "all learn",
  )  # fmt: skip


def figure(records, canvas):
  found = panels(records)
  grids = canvas.subplots(2, len(found), sharex=True, sharey="row")
  for (title, taus, examples), column in zip(found, grids.T, strict=True):
    for axes, c in zip(column, ("rank_z", "knn"), strict=True):
      of = of_panel(records, c, taus, examples)
      for loss, marker in zip(LOSSES, "os^", strict=True):
        mean, error = np.transpose([estimate(of[loss, count]) for count in VIEWS])
        label = f"{loss}, τ = {taus[loss]}"
        axes.errorbar(VIEWS, mean, error, marker=marker, capsize=3, label=label)
      floor = records.values(c, part="untrained").mean()
      axes.axhline(floor, color="gray", linestyle=":", linewidth=1, label="untrained")
      axes.set_xticks(VIEWS)
      axes.grid(alpha=0.3)
    column[0].set_title(title, fontsize=10)
    column[0].legend(fontsize=7)
    column[1].set_xlabel("views")
  grids[0, 0].set_ylabel("effective rank of z, of 64")
  grids[1, 0].set_ylabel("kNN accuracy of h")


STUDY = Study(
  "views_rank", "Views and effective rank",
  measure=measure, report=report, figure=figure, size=(12, 6.2),
  stages=[trials, runs],
)  # fmt: skip
