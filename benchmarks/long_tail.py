"""Individual temperatures on a long tail: do they help, and are frequent classes given larger ones?

  python benchmarks/prepare_datasets.py cifar10
  python benchmarks/long_tail.py run      # resumable; 20 runs, some 4 minutes each on two cores
  python benchmarks/long_tail.py draw

CIFAR-10 with exponential imbalance 100: of class c the first ⌊5,000 · 100^(−c/9)⌋ images, 12,406 in all.
ConvNet 32-64-128, views and AdamW of configs/cifar10_convnet_simclr.py, batch 128, 20 epochs. Arms:

  SimCLR     NT-Xent at τ
  DCL        at τ: SogCLR with γ = 1, which the papers leave out
  SogCLR     γ = 0.9, at τ
  iSogCLR    γ = 0.9, τ_i begun at τ, ρ = 0.3, bounds 0.05 and 1, η = 0.03, β = 0.5

each with τ of 0.1, 0.3 and 0.7 on seed 0, and with its best τ on seeds 1 and 2. Its best: by the linear
probe on the first half of the test images, which here are validation; all that is reported is of
the second half, 5,000 images. The probe is trained on the features of all 50,000 training images with
their labels, so it is the space that is judged and not the probe's prior. Accuracy: of all classes
(they are balanced), `head` of the three most frequent, `tail` of the three rarest.

The paper (Qiu et al. 2023, arXiv 2305.11965; ResNet-18, linear, mean of 3): SimCLR 77.09, SogCLR 77.70,
iSogCLR 78.37.

Hypotheses, at each arm's best τ, on three seeds:
  individual   iSogCLR's mean accuracy is above SogCLR's by more than two standard errors of the difference
  tail         and its mean accuracy of the tail by more than the head's
  dcl          SogCLR's mean accuracy is within two standard errors of DCL's: in one batch of 128, and so
               few epochs, most of its gain over SimCLR is DCL's
  frequency    Spearman's correlation of τ_i with the number of its class is at least 0.3 on every seed
A run counts if its loss stays finite and its features' rank is at least 3. All that is said of
iSogCLR counts as a test only if the median |τ_i − τ| is at least 0.2 τ: else "not tested".
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import sys

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from cifar10_study import get_config, lead, mean_error, read
from scipy import stats

from contrastax import core, criteria, data, evaluation, temperatures, training
from contrastax.experiments.workdir import circumstances
from contrastax.parts import assemble

RESULTS = pathlib.Path(__file__).parent / "results" / "long_tail.jsonl"
SEEDS, TAUS, BATCH, EPOCHS, IMBALANCE = range(3), (0.1, 0.3, 0.7), 128, 20, 100
PAPER = {"SimCLR": 0.7709, "SogCLR": 0.7770, "iSogCLR": 0.7837}
ARMS = {
  "SimCLR": (criteria.info_nce(), temperatures.fixed),
  "DCL": (criteria.dcl(), temperatures.fixed),
  "SogCLR": (criteria.sogclr(0.9), temperatures.fixed),
  "iSogCLR": (criteria.sogclr(0.9), functools.partial(temperatures.individual, rho=0.3)),
}


@functools.cache
def images():
  return data.load("tfds:cifar10")


@functools.cache
def tail():
  """Places of the long-tailed set, in the order of the data."""
  label = images().train["label"]
  most = np.bincount(label).max()
  counts = (most * IMBALANCE ** (-np.arange(10) / 9)).astype(int)
  return np.sort(np.concatenate([np.flatnonzero(label == c)[:n] for c, n in enumerate(counts)]))


def method_of(arm, tau, examples):
  (loss, temperature), common = ARMS[arm], get_config().method.to_dict()
  return dataclasses.replace(
    assemble(core.Method, common, "config.method"),
    loss=loss,
    temperature=temperature(tau),
    examples=examples,
  )


def measure(arm, tau, seed):
  everything, chosen = images(), tail()
  train = {name: values[chosen] for name, values in everything.train.items()}
  source = data.Resident(train, batch_size=BATCH, seed=seed)
  method, steps = method_of(arm, tau, source.size), EPOCHS * (source.size // BATCH)
  own = get_config().optimizer.to_dict() | {"warmup": steps // 10}
  optimizer = assemble(
    optax.GradientTransformation, own, "config.optimizer", given={"steps": steps}
  )
  state = training.init(method, optimizer, source.batch(0), seed=seed)
  step = training.make_train_step(method, optimizer)
  for t in range(steps):
    state, metrics = step(state, source.batch(t))
  embed = functools.partial(
    evaluation.embed, method.encoder, state.params["encoder"], state.state["encoder"]
  )
  ours, theirs = embed(everything.train["image"]), embed(everything.test["image"])
  label = everything.test["label"]
  right = evaluation.linear_predictions(ours, everything.train["label"], theirs) == label
  first = np.arange(len(label)) < len(label) // 2
  found = {
    "finite": bool(np.isfinite(metrics["loss"])),
    "rank": float(evaluation.effective_rank(jnp.asarray(theirs[:2000]))),
    "validation": float(right[first].mean()),
    "accuracy": float(right[~first].mean()),
    "head": float(right[~first & (label < 3)].mean()),
    "tail": float(right[~first & (label > 6)].mean()),
  }
  if method.temperature.per_anchor:
    each = np.asarray(method.temperature.each(state.state["terms"]["contrast"]["temperature"]))
    count = np.bincount(train["label"])[train["label"]]
    found |= {
      "moved": float(np.median(np.abs(each - tau)) / tau),
      "frequency": float(stats.spearmanr(each, count).statistic),
      "at_bound": float(((each <= 0.05) | (each >= 1)).mean()),
      "by_class": [np.quantile(each[train["label"] == c], (0.25, 0.5, 0.75)).tolist() for c in range(10)],
    }  # fmt: skip
  return found


def best_of(arm):
  """Its τ of the highest validation accuracy on seed 0; None before all three are there."""
  first = [r for r in read(RESULTS) if r["arm"] == arm and r["seed"] == 0]
  return max(first, key=lambda r: r["validation"])["tau"] if len(first) == len(TAUS) else None


def run():
  RESULTS.parent.mkdir(exist_ok=True)
  for seed in SEEDS:
    for arm in ARMS:
      for tau in TAUS if seed == 0 else [best_of(arm)]:
        name = {"arm": arm, "tau": tau, "seed": seed}
        if any(name.items() <= record.items() for record in read(RESULTS)):
          continue
        record = {**name, **measure(**name)}
        print(record, flush=True)
        record["circumstances"] = circumstances("python benchmarks/long_tail.py run")
        with RESULTS.open("a") as file:
          file.write(json.dumps(record) + "\n")


def draw():
  stand = read(RESULTS)
  of = {}
  for arm in ARMS:
    tau = best_of(arm)
    of[arm] = [r for r in stand if r["arm"] == arm and r["tau"] == tau and r["seed"] in SEEDS]
    if len(of[arm]) < len(SEEDS):
      sys.exit("runs are missing; python benchmarks/long_tail.py run")
  unsound = [r for r in stand if not r["finite"] or r["rank"] < 3]
  sensitivity = {arm: [next(r for r in stand if r["arm"] == arm and r["tau"] == tau and r["seed"] == 0) for tau in TAUS] for arm in ARMS}  # fmt: skip
  lines = [
    "# Individual temperatures on a long tail", "",
    f"CIFAR-10 with imbalance {IMBALANCE}, {len(tail()):,} images, {EPOCHS} epochs; mean ± standard error of "
    f"{len(SEEDS)} seeds at the τ that is best on validation; {stand[0]['circumstances']['machine']}.", "",
    "| | τ | accuracy | head | tail | paper | seed 0 at τ = " + ", ".join(map(str, TAUS)) + " |",
    "|---|---|---|---|---|---|---|",
  ]  # fmt: skip
  for arm, runs in of.items():
    cells = [mean_error([r[key] for r in runs]) for key in ("accuracy", "head", "tail")]
    paper = f"{PAPER[arm]:.3f}" if arm in PAPER else ""
    others = ", ".join(f"{r['accuracy']:.3f}" for r in sensitivity[arm])
    lines.append(f"| {arm} | {runs[0]['tau']} | {' | '.join(cells)} | {paper} | {others} |")
  lines += ["", f"Runs that do not count: {len(unsound) or 'none'}.", ""]
  ours = of["iSogCLR"]
  counts = min(r["moved"] for r in ours) >= 0.2

  def ahead(key, one, other):
    return lead(*([r[key] for r in of[arm]] for arm in (one, other)))

  gain, error = ahead("accuracy", "iSogCLR", "SogCLR")
  at_tail, at_head = (ahead(key, "iSogCLR", "SogCLR")[0] for key in ("tail", "head"))
  apart, apart_error = ahead("accuracy", "SogCLR", "DCL")
  frequency = [r["frequency"] for r in ours]

  def verdict(it):
    return f"the hypothesis {'holds' if it else 'does not hold'}" if counts else "not tested"

  moved = ", ".join(f"{r['moved']:.2f}" for r in ours)
  lines += [
    f"The median |τ_i − τ| is {moved} of τ (at least 0.2 to count).", "",
    f"1. individual: iSogCLR less SogCLR {gain:+.4f} ± {error:.4f}; {verdict(gain > 2 * error)}.",
    f"2. tail: of the tail {at_tail:+.4f}, of the head {at_head:+.4f}; {verdict(at_tail > at_head)}.",
    f"3. dcl: SogCLR less DCL {apart:+.4f} ± {apart_error:.4f}; the hypothesis "
    f"{'holds' if abs(apart) <= 2 * apart_error else 'does not hold'}.",
    f"4. frequency: Spearman's {', '.join(f'{x:.2f}' for x in frequency)}; {verdict(min(frequency) >= 0.3)}.", "",
  ]  # fmt: skip
  RESULTS.with_suffix(".md").write_text("\n".join(lines))
  print("\n".join(lines[4:]))
  figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
  for place, r in enumerate(ours):
    low, middle, high = np.transpose(r["by_class"])
    at = np.arange(10) + 0.2 * (place - 1)
    axes.errorbar(at, middle, (middle - low, high - middle), fmt="o", label=f"seed {r['seed']}")
  axes.axhline(ours[0]["tau"], color="black", linestyle="--")
  counts = np.bincount(images().train["label"][tail()])
  axes.set_xticks(range(10), [f"{n:,}" for n in counts], fontsize=8)
  axes.set_xlabel("images of the class")
  axes.set_ylabel("temperature: median, quartiles")
  axes.legend(frameon=False)
  figure.savefig(RESULTS.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
  {"run": run, "draw": draw}[sys.argv[1]]()
