"""SimCLR on CIFAR-10 with a small encoder: does it learn, and which augmentation is it that teaches?

  python benchmarks/prepare_datasets.py cifar10
  python benchmarks/cifar10.py run          # resumable; 18 runs, some 5 minutes each on two cores
  python benchmarks/cifar10.py draw

configs/cifar10_convnet_simclr.py (ConvNet 32-64-128, 200,000 pairs), judged by weighted kNN (k = 20,
τ = 0.1) of all 10,000 test images among all 50,000 training images, at the last step.

1. learns: the config as it is, seeds 0 to 2, beside the untrained encoder of the same seed and raw
   pixels. Hypothesis: on every seed trained ≥ untrained + 0.10.
2. ladder: its views one operation at a time, seeds 0 to 2: crop (area 0.08 to 1); + blur; + grey; +
   color jitter; + flip. Hypothesis: the mean accuracies' order is that of a table by a third
   party (MIFA-Lab's contrastive2021: ResNet-18, SimCLR, 800 epochs, kNN, best epoch on the test
   set: 0.627, 0.632, 0.835, 0.885, 0.898), Spearman's rank correlation at least 0.9. It is given
   with the range over 2,000 draws of seeds with replacement, rung by rung.

Nothing is chosen: rates, batch and temperature are the config's, and every rung has them. Counts
only if all runs of a part end with a finite loss, and for 2 if its best and worst rung differ by
three standard errors of their difference; else: not tested.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile
import time

import numpy as np
from cifar10_study import get_config
from scipy import stats

from contrastax import evaluation, training, views
from contrastax.experiments.build import build
from contrastax.experiments.workdir import circumstances

RESULTS = pathlib.Path(__file__).parent / "results" / "cifar10.jsonl"
SEEDS = range(3)
CROP = {"name": "augment", "size": 32, "flip": 0.0, "jitter": 0.0}
COLORS = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
STEPS_UP = ({}, {"blur": 0.5}, {"gray": 0.2}, COLORS, {"flip": 0.5})
RUNGS = ("crop", "+ blur", "+ grey", "+ jitter", "+ flip")
THIRD_PARTY = (0.627, 0.632, 0.835, 0.885, 0.898)


def views_of(arm: str):
  """The config's own views, or those of a rung: all operations up to it."""
  if arm == "learns":
    return get_config().method.views.to_dict()
  found = dict(CROP)
  for more in STEPS_UP[: RUNGS.index(arm) + 1]:
    found |= more
  return found


def measure(arm: str, seed: int, steps: int | None = None) -> dict:
  config = get_config()
  config.seed, config.method.views = seed, views_of(arm)
  config.steps = steps or config.steps
  config.optimizer.warmup = min(config.optimizer.warmup, config.steps // 10)
  parts = build(config, training.make_mesh())
  fresh = training.init(parts.method, parts.optimizer, parts.source.batch(0), seed=seed)
  record = {"arm": arm, "seed": seed, "untrained": knn(parts, fresh)}
  if arm == "learns" and seed == 0:
    record["raw"] = judged(parts, lambda x: np.float32(views.to_float(x)).reshape(len(x), -1))
  start = time.perf_counter()
  with tempfile.TemporaryDirectory() as folder:
    state = training.train(
      parts.method, parts.optimizer, parts.source, steps=config.steps, seed=seed, workdir=folder,
      log_every=50, checkpoint_every=config.steps,
    )  # fmt: skip
  record["train_seconds"] = time.perf_counter() - start
  return {**record, "trained": knn(parts, state), "steps": config.steps}


def knn(parts, state) -> float:
  trained = parts.method.encoder, state.params["encoder"], state.state["encoder"]
  return judged(parts, lambda images: evaluation.embed(*trained, images))


def judged(parts, embed) -> float:
  train, test = parts.dataset.train, parts.dataset.test
  return evaluation.knn(embed(train["image"]), train["label"], embed(test["image"]), test["label"])


def run() -> None:
  RESULTS.parent.mkdir(exist_ok=True)
  stand = {(r["arm"], r["seed"]) for r in read()}
  for arm in ("learns", *RUNGS):
    for seed in SEEDS:
      if (arm, seed) not in stand:
        record = measure(arm, seed)
        record["circumstances"] = circumstances("python benchmarks/cifar10.py run")
        with RESULTS.open("a") as file:
          file.write(json.dumps(record) + "\n")
        print({name: value for name, value in record.items() if name != "circumstances"})


def read() -> list[dict]:
  return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def mean_error(values) -> str:
  return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"


def draw() -> None:
  stand = read()
  of = {arm: [r for r in stand if r["arm"] == arm] for arm in ("learns", *RUNGS)}
  if len(of["learns"]) < len(SEEDS):
    sys.exit("the runs of `learns` are not all there; python benchmarks/cifar10.py run")
  trained, untrained = ([r[row] for r in of["learns"]] for row in ("trained", "untrained"))
  lead = min(np.subtract(trained, untrained))
  raw = next(r["raw"] for r in stand if "raw" in r)
  lines = [
    "# SimCLR on CIFAR-10", "",
    f"ConvNet 32-64-128, {stand[0]['steps']} steps of 256 pairs, {len(SEEDS)} seeds, mean ± standard error; "
    f"{stand[0]['circumstances']['machine']}.", "",
    "| | kNN |", "|---|---|",
    f"| raw | {raw:.3f} |", f"| untrained | {mean_error(untrained)} |",
    f"| trained | {mean_error(trained)} |", "",
    f"Smallest lead of trained over untrained of any seed: {lead:.3f}. "
    f"The hypothesis (0.10) {'holds' if lead >= 0.10 else 'does not hold'}.", "",
  ]  # fmt: skip
  if all(len(of[rung]) == len(SEEDS) for rung in RUNGS):
    lines += ladder(np.array([[r["trained"] for r in of[rung]] for rung in RUNGS]))
  else:
    lines += ["The ladder's runs are not all there yet."]
  RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")


def ladder(values) -> list[str]:
  """values [rungs, seeds]: the table, the rank correlation, and whether it counts."""
  rng, seeds = np.random.default_rng(0), values.shape[1]
  found = stats.spearmanr(values.mean(1), THIRD_PARTY)[0]
  drawn = [
    stats.spearmanr(
      [row[rng.integers(0, seeds, seeds)].mean() for row in values], THIRD_PARTY
    )[0]
    for _ in range(2000)
  ]  # fmt: skip
  low, high = np.quantile(drawn, (0.025, 0.975))
  means, errors = values.mean(1), values.std(1, ddof=1) / seeds**0.5
  best, worst = means.argmax(), means.argmin()
  counts = means[best] - means[worst] > 3 * np.hypot(errors[best], errors[worst])
  rows = [
    f"| {rung} | {mean_error(row)} | {theirs:.3f} |"
    for rung, row, theirs in zip(RUNGS, values, THIRD_PARTY, strict=True)
  ]
  verdict = "holds" if found >= 0.9 else "does not hold"
  return [
    "| views | kNN | a third party's, ResNet-18, 800 epochs |", "|---|---|---|", *rows, "",
    f"Rank correlation {found:.2f} (95 % of draws of seeds: {low:.2f} to {high:.2f}). "
    + (f"The hypothesis (0.9) {verdict}." if counts else "Best and worst rung hardly differ: not tested."),
  ]  # fmt: skip


if __name__ == "__main__":
  if sys.argv[1:] not in (["run"], ["draw"]):
    sys.exit("say what to do: run or draw")
  {"run": run, "draw": draw}[sys.argv[1]]()
