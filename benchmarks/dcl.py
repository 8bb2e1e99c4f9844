"""DCL against InfoNCE on CIFAR-10, each at its own best temperature: what is left of the gain?

  python benchmarks/prepare_datasets.py cifar10
  python benchmarks/dcl.py choose      # learning rates: 6 trials of a minute
  python benchmarks/dcl.py run         # resumable; 20 runs, some 4 minutes each on two cores
  python benchmarks/dcl.py draw

SimCLR with `info_nce` and `dcl`, batch 32 and 256, τ 0.1, 0.2 and 0.5, 150,000 pairs, under SGD
(momentum 0.9, weight decay 5e-4), else benchmarks/cifar10_study.py. 5,000 training images are
held out in every run. Seed 0 runs the grid; the τ of the best kNN of the held-out images is chosen
for each loss and batch, and seeds 1 and 2 run that alone. Figures are of the test images.

The learning rate is `RATES` · batch/256, for each batch the best of three by kNN of the held-out
images after 25,000 pairs of InfoNCE at τ = 0.2, seed 100: the same for both losses.

InfoNCE's gradient is DCL's times the share q of the negatives in its softmax (q < 1), which is small where
the batch is small or τ low; so a same-τ gain should fall with batch and τ, and a best-τ gain may be
nothing. A third party's (raminnakhli/Decoupled-Contrastive-Learning: ResNet-18, τ = 0.1, Adam, linear):
batch 32 78.30 → 84.60, batch 256 83.26 → 85.36. lightly, τ = 0.5 against DCL at 0.1: no gain.

Hypotheses, on kNN:
  same τ   seed 0, τ = 0.1: DCL − InfoNCE at batch 32 is at least 0.02, and above that at batch 256
  best τ   over three seeds, batch 256: |DCL − InfoNCE| is at most 0.01
A run counts if its loss stays finite and its rank at the end is at least 3. `same τ` has one seed, and
counts as a test only if the gain is above four standard deviations of a seed, taken from the runs at
the best τ.
"""

from __future__ import annotations

import itertools
import pathlib
import sys

import numpy as np
from cifar10_study import base, lead, mean_error, read, run

RESULTS = pathlib.Path(__file__).parent / "results" / "dcl.jsonl"
LOSSES, BATCHES, TAUS, SEEDS = ("info_nce", "dcl"), (32, 256), (0.1, 0.2, 0.5), (0, 1, 2)
RATES, TRIAL_SEED, HELD_OUT = (0.03, 0.1, 0.3), 100, 5_000
THIRD_PARTY = {32: (78.30, 84.60), 256: (83.26, 85.36)}


def config_of(loss, batch, tau, rate, pairs=150_000):
  config = base(
    pairs, batch, validation=HELD_OUT, loss={"name": loss},
    temperature={"name": "fixed", "temperature": tau},
  )  # fmt: skip
  config.optimizer = {
    "name": "sgd",
    "learning_rate": rate * batch / 256,
    "warmup": config.steps // 10,
    "weight_decay": 5e-4,
  }
  return config


def trials():
  return {
    (("kind", "trial"), ("batch", batch), ("rate", rate)): (
      config_of("info_nce", batch, 0.2, rate, 25_000), TRIAL_SEED,
    )
    for batch, rate in itertools.product(BATCHES, RATES)
  }  # fmt: skip


def rate_of(batch):
  found = [r for r in read(RESULTS) if r["kind"] == "trial" and r["batch"] == batch]
  if len(found) < len(RATES):
    sys.exit("the trials are not all there; python benchmarks/dcl.py choose")
  return max(found, key=lambda r: r["held_out"])["rate"]


def name_of(loss, batch, tau, seed):
  return (("kind", "run"), ("arm", loss), ("batch", batch), ("tau", tau), ("seed", seed))


def grid():
  return {
    name_of(loss, batch, tau, 0): (config_of(loss, batch, tau, rate_of(batch)), 0)
    for loss, batch, tau in itertools.product(LOSSES, BATCHES, TAUS)
  }


def best_tau(loss, batch):
  found = [
    r for r in read(RESULTS)
    if r["kind"] == "run" and (r["arm"], r["batch"], r["seed"]) == (loss, batch, 0)
  ]  # fmt: skip
  return max(found, key=lambda r: r["held_out"])["tau"]


def further():
  found = {}
  for loss, batch, seed in itertools.product(LOSSES, BATCHES, SEEDS[1:]):
    tau = best_tau(loss, batch)
    found[name_of(loss, batch, tau, seed)] = (config_of(loss, batch, tau, rate_of(batch)), seed)
  return found


def draw() -> None:
  stand = [r for r in read(RESULTS) if r["kind"] == "run"]
  if len(stand) < len(LOSSES) * len(BATCHES) * (len(TAUS) + len(SEEDS) - 1):
    sys.exit("runs are missing; python benchmarks/dcl.py run")

  def knn(loss, batch, tau):
    of = {
      r["seed"]: r["knn"] for r in stand if (r["arm"], r["batch"], r["tau"]) == (loss, batch, tau)
    }
    return np.array([of[seed] for seed in SEEDS if seed in of])

  lines = [
    "# DCL against InfoNCE on CIFAR-10", "",
    "ConvNet 32-64-128, 150,000 pairs, SGD; kNN of the test images: seed 0, and the best τ (of held-out "
    f"images, **bold**) over {len(SEEDS)} seeds ± standard error; {stand[0]['circumstances']['machine']}.", "",
    "| batch | loss | " + " | ".join(f"τ = {tau}" for tau in TAUS) + " |", "|---" * 5 + "|",
  ]  # fmt: skip
  for batch, loss in itertools.product(BATCHES, LOSSES):
    cells = [
      f"**{mean_error(knn(loss, batch, tau))}**" if tau == best_tau(loss, batch)
      else f"{knn(loss, batch, tau)[0]:.3f}"
      for tau in TAUS
    ]  # fmt: skip
    lines.append(f"| {batch} | `{loss}` | {' | '.join(cells)} |")
  best = {
    (loss, batch): knn(loss, batch, best_tau(loss, batch)) for loss in LOSSES for batch in BATCHES
  }
  deviation = max(values.std(ddof=1) for values in best.values())
  same = {batch: knn("dcl", batch, 0.1)[0] - knn("info_nce", batch, 0.1)[0] for batch in BATCHES}
  left, error = lead(best["dcl", 256], best["info_nce", 256])
  left_out = [
    f"{r['arm']}, {r['batch']}, {r['tau']}, seed {r['seed']}"
    for r in stand if not r["finite"] or r["rank"] < 3
  ]  # fmt: skip
  holds = same[32] >= 0.02 and same[32] > same[256]
  tested = same[32] > 4 * deviation
  lines += [
    "",
    f"Runs that do not count: {'; '.join(left_out) or 'none'}.",
    "",
    f"- same τ: at 0.1 DCL − InfoNCE is {same[32]:+.3f} at batch 32 and {same[256]:+.3f} at 256 (third party: "
    + " and ".join(f"{(b - a) / 100:+.3f}" for a, b in THIRD_PARTY.values())
    + f"); a seed's standard deviation is {deviation:.3f}; the hypothesis "
    + (("holds" if holds else "does not hold") if tested else "is not tested")
    + ".",
    f"- best τ: at batch 256 {left:+.3f} ± {error:.3f}; the hypothesis (at most 0.01 either way) "
    f"{'holds' if abs(left) <= 0.01 else 'does not hold'}.",
  ]
  ends = [
    f"`{loss}` at batch {batch}" for loss, batch in best
    if best_tau(loss, batch) in (min(TAUS), max(TAUS))
  ]  # fmt: skip
  if ends:
    lines.append(f"- An end of the range is the best τ of {', '.join(ends)}: the true one may lie beyond.")  # fmt: skip
  RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
  if sys.argv[1:] == ["choose"]:
    run(RESULTS, trials())
  elif sys.argv[1:] == ["run"]:
    run(RESULTS, grid())
    run(RESULTS, further())
  elif sys.argv[1:] == ["draw"]:
    draw()
  else:
    sys.exit("say what to do: choose, run or draw")
