"""What do the methods reach on CIFAR-10 with a small encoder, on equal terms?

  python benchmarks/prepare_datasets.py cifar10
  python benchmarks/methods.py choose     # 3 trials per method, half a minute each
  python benchmarks/methods.py run        # 25 runs of 200,000 pairs, some 4 minutes each on two cores
  python benchmarks/methods.py more       # the second study: the other methods, one seed
  python benchmarks/methods.py draw
  python benchmarks/methods.py cost       # time per step, while nothing else runs

All are resumable: what stands in results/methods.jsonl is not run again.

The data, the encoder (ConvNet 32-64-128), the views, AdamW, batch 256, 782 steps and warm-up are
those of configs/cifar10_convnet_simclr.py. `METHODS` says what each has beside them: heads of
a size that suits 128 features, and its paper's or solo-learn's settings for CIFAR-10 (queue,
momentum, temperature) as far as they fit a short run. One hyper-parameter is chosen, the
learning rate, for each method the best of `RATES` by kNN of 5,000 held-out training images after 100
steps of training on the others, seed 100: three trials for every method, the supervised one included.

Judged at the last step: kNN (k = 20) of the 10,000 test images, the linear probe, the probe with 5
labels per class, effective rank of the features; beside raw pixels and the untrained encoder of
seed 0. Supervised: cross-entropy on two views of each image and their labels, seed 0.

Hypotheses.
  1. learns   every method's kNN is above the untrained encoder's by 0.05, on every seed.
  2. labels   SupCon's mean kNN is the highest of all but the supervised.
  3. order    the mean kNN of the seven without labels do not follow the order of solo-learn's table
              (ResNet-18, 1,000 epochs, linear: `PUBLISHED`): Spearman's correlation is below 0.5, because
              methods with a moving average or without negatives need longer than 4 epochs.
A run counts if its loss stays finite and its rank at the end is at least 3; a method whose runs do
not count is written down as that. 2 and 3 count as tests only if best and worst of the seven differ
by three standard errors of their difference. The second study has one seed: it is only told.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cifar10_study import get_config
from ml_collections import ConfigDict
from scipy import stats

from contrastax import data, encoders, evaluation, methods, training, views
from contrastax.core import Encoder, Recipe
from contrastax.experiments.build import build
from contrastax.experiments.workdir import circumstances

RESULTS = pathlib.Path(__file__).parent / "results" / "methods.jsonl"
SEEDS, RATES, TRIAL_SEED, TRIAL_STEPS = range(3), (1e-3, 2e-3, 4e-3), 100, 100
HELD_OUT, AMONG, CURVE = 5_000, 10_000, 2_000

data.load = functools.cache(data.load)  # read once for all runs

HEAD = {"name": "projection", "widths": (128,), "out": 64}
WIDE = {"name": "projection", "widths": (512,), "out": 512}
NORMED = {"name": "projection", "widths": (256,), "out": 128, "norm_out": True}
PREDICTOR = {"name": "projection", "widths": (256,), "out": 128}
TO_ONE = {"name": "cosine", "start": 0.99, "end": 1.0}
SOFTMAX = {
  "temperature": {"name": "fixed", "temperature": 0.2},
  "loss": {"name": "info_nce"},
  "score": {"name": "cosine"},
}
METHODS = {
  "SimCLR": {"name": "SimCLR", "projection": HEAD, **SOFTMAX},
  "MoCo v2": {
    "name": "MoCo",
    "momentum": 0.99,
    "projection": HEAD,
    "negatives": ({"name": "queue", "size": 4096},),
    **SOFTMAX,
  },
  "MoCo v3": {
    "name": "MoCoV3",
    "momentum": TO_ONE,
    "projection": NORMED,
    "predictor": {**PREDICTOR, "norm_out": True},
    **SOFTMAX,
  },
  "SupCon": {"name": "SupCon", "projection": HEAD, **SOFTMAX},
  "BYOL": {
    "name": "BYOL",
    "momentum": TO_ONE,
    "projection": {**NORMED, "norm_out": False},
    "predictor": PREDICTOR,
  },
  "Barlow Twins": {"name": "BarlowTwins", "projection": WIDE},
  "VICReg": {"name": "VICReg", "projection": WIDE},
  "SwAV": {
    "name": "SwAV", "projection": HEAD, "prototypes": {"name": "prototypes", "count": 200}
  },
}  # fmt: skip
MORE = {
  "NNCLR": {
    "name": "NNCLR", "support": 4096, "projection": NORMED, "predictor": PREDICTOR, **SOFTMAX
  },
  "SimSiam": {
    "name": "SimSiam",
    "projection": {**NORMED, "widths": (256, 256)},
    "predictor": {**PREDICTOR, "widths": (64,)},
  },
  "W-MSE": {"name": "WMSE", "slices": 2, "projection": HEAD},
  "DINO": {
    "name": "DINO",
    "momentum": {**TO_ONE, "start": 0.996},
    "teacher_temperature": {"name": "linear", "start": 0.04, "end": 0.07, "over": 0.3},
    "projection": HEAD,
    "prototypes": {"name": "prototypes", "count": 1024},
  },
  "i-Mix": {"name": "IMix", "projection": HEAD, **SOFTMAX},
}  # fmt: skip
# solo-learn's README: CIFAR-10, ResNet-18, 1,000 epochs, online linear accuracy.
PUBLISHED = {
  "SimCLR": 90.74, "MoCo v2": 92.94, "MoCo v3": 93.10, "BYOL": 92.58, "Barlow Twins": 92.10,
  "VICReg": 92.07, "SwAV": 89.17,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervised(methods.BaseMethod):
  """Cross-entropy of a linear classifier of two views of each image."""

  encoder: Encoder
  projection: Encoder
  views: Recipe

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input, count=2)
    logits = jnp.concatenate([*net("projection", net("encoder", x)).values()])
    labels = jnp.concatenate([batch["label"]] * 2)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), {}


def config_of(name: str, rate: float, steps: int, seed: int, validation: int) -> ConfigDict:
  config = get_config().to_dict()
  stated = {**METHODS, **MORE, "Supervised": METHODS["SimCLR"]}[name]  # of which it takes parts
  config["method"] = {key: config["method"][key] for key in ("encoder", "views")} | stated
  config |= {"steps": steps, "seed": seed, "validation": validation}
  config["optimizer"] |= {"learning_rate": rate, "warmup": steps // 10}
  return ConfigDict(config)


def parts_of(name: str, rate: float, *, steps: int, seed: int, validation: int = 0):
  parts = build(config_of(name, rate, steps, seed, validation), training.make_mesh())
  if name != "Supervised":
    return parts
  classes = encoders.projection((), len(parts.dataset.classes))
  own = parts.method
  method = Supervised(encoder=own.encoder, projection=classes, views=own.views)
  return parts._replace(method=method)


def fit(parts, steps: int, seed: int, evaluate=None):
  with tempfile.TemporaryDirectory() as folder:
    state = training.train(
      parts.method, parts.optimizer, parts.source, steps=steps, seed=seed, workdir=folder,
      evaluate=evaluate, log_every=50, eval_every=100, checkpoint_every=steps,
    )  # fmt: skip
    lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
  return state, [json.loads(line) for line in lines]


def embed(parts, state, images):
  own = state.params["encoder"], state.state["encoder"]
  return evaluation.embed(parts.method.encoder, *own, images)


def trial(name: str, rate: float) -> dict:
  parts = parts_of(name, rate, steps=TRIAL_STEPS, seed=TRIAL_SEED, validation=HELD_OUT)
  train, held_out = parts.dataset.train, parts.dataset.test
  state, _ = fit(parts, TRIAL_STEPS, TRIAL_SEED)
  ours, theirs = (
    embed(parts, state, images) for images in (train["image"][:AMONG], held_out["image"])
  )
  knn = evaluation.knn(ours, train["label"][:AMONG], theirs, held_out["label"])
  return {"kind": "trial", "method": name, "rate": rate, "knn": knn}


def measure(name: str, seed: int, steps: int = 782) -> dict:
  rate = chosen(name)
  parts = parts_of(name, rate, steps=steps, seed=seed)
  train = parts.dataset.train
  images, labels = train["image"][:CURVE], train["label"][:CURVE]

  def evaluate(state):
    return {"eval/knn": evaluation.knn_leave_one_out(embed(parts, state, images), labels)}

  state, log = fit(parts, steps, seed, evaluate)
  record = {"kind": "run", "method": name, "seed": seed, "rate": rate, **judged(parts, state)}
  record["curve"] = {
    key: [[line["step"], line[key]] for line in log if key in line] for key in ("loss", "eval/knn")
  }
  return record


def judged(parts, state) -> dict:
  train, test = parts.dataset.train, parts.dataset.test
  if state is None:
    ours, theirs = (
      np.float32(views.to_float(x["image"])).reshape(len(x["image"]), -1) for x in (train, test)
    )
  else:
    ours, theirs = (embed(parts, state, x["image"]) for x in (train, test))
  split = ours, train["label"], theirs, test["label"]
  return {
    "knn": evaluation.knn(*split),
    "linear": evaluation.linear(*split),
    "linear_5": float(evaluation.few_label(*split, per_class=5).mean()),
    "rank": float(evaluation.effective_rank(jnp.asarray(theirs[:CURVE]))),
  }


def rows() -> list[dict]:
  """Raw pixels and the untrained encoder of seed 0."""
  parts = parts_of("SimCLR", RATES[1], steps=782, seed=0)
  fresh = training.init(parts.method, parts.optimizer, parts.source.batch(0))
  found = {"raw": judged(parts, None), "untrained": judged(parts, fresh)}
  return [{"kind": "run", "method": name, "seed": 0, **row} for name, row in found.items()]


def chosen(name: str) -> float:
  trials = [r for r in read() if r["kind"] == "trial" and r["method"] == name]
  if len(trials) < len(RATES):
    sys.exit(f"the trials of {name} are not all there; python benchmarks/methods.py choose")
  return max(trials, key=lambda r: r["knn"])["rate"]


def read() -> list[dict]:
  return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def write(record: dict, command: str) -> None:
  RESULTS.parent.mkdir(exist_ok=True)
  record["circumstances"] = circumstances(f"python benchmarks/methods.py {command}")
  with RESULTS.open("a") as file:
    file.write(json.dumps(record) + "\n")
  print({k: v for k, v in record.items() if k not in ("circumstances", "curve")}, flush=True)


def choose() -> None:
  stand = {(r["method"], r["rate"]) for r in read() if r["kind"] == "trial"}
  for name in (*METHODS, "Supervised", *MORE):
    for rate in RATES:
      if (name, rate) not in stand:
        write(trial(name, rate), "choose")


def runs(names, seeds, command) -> None:
  stand = {(r["method"], r["seed"]) for r in read() if r["kind"] == "run"}
  if ("untrained", 0) not in stand:
    for row in rows():
      write(row, command)
  for seed in seeds:
    for name in names:
      if (name, seed) not in stand:
        write(measure(name, seed), command)


def run() -> None:
  runs(METHODS, SEEDS, "run")
  runs(["Supervised"], [0], "run")


def more() -> None:
  runs(MORE, [0], "more")


def cost(rounds: int = 5, steps: int = 10) -> None:
  """Seconds per step, the methods in turn, as ratios to SimCLR's of the same round."""
  ready = {}
  for name in (*METHODS, "Supervised", *MORE):
    parts = parts_of(name, RATES[1], steps=782, seed=0)
    state = training.init(parts.method, parts.optimizer, parts.source.batch(0))
    step = training.make_train_step(parts.method, parts.optimizer)
    ready[name] = [step, step(state, parts.source.batch(0))[0], parts.source]
  found = {name: [] for name in ready}
  for _ in range(rounds):
    for name, of in ready.items():
      step, state, source = of
      jax.block_until_ready(state)
      start = time.perf_counter()
      for t in range(steps):
        state, _ = step(state, source.batch(t))
      jax.block_until_ready(state)
      found[name].append((time.perf_counter() - start) / steps)
      of[1] = state
  kept = [r for r in read() if r["kind"] != "cost"]
  RESULTS.write_text("".join(json.dumps(r) + "\n" for r in kept))
  for name, seconds in found.items():
    ratios = [a / b for a, b in zip(seconds, found["SimCLR"], strict=True)]
    write({"kind": "cost", "method": name, "seconds": seconds, "ratios": ratios}, "cost")


def draw() -> None:
  import matplotlib.pyplot as plt

  stand = read()
  of = {}
  for r in stand:
    if r["kind"] == "run":
      of.setdefault(r["method"], []).append(r)
  missing = [name for name in METHODS if len(of.get(name, ())) < len(SEEDS)]
  if missing or "Supervised" not in of:
    sys.exit(
      f"runs are missing, of {', '.join(missing) or 'Supervised'}; python benchmarks/methods.py run"
    )
  costs = {r["method"]: r["ratios"] for r in stand if r["kind"] == "cost"}

  def cell(name, key):
    values = [r[key] for r in of[name]]
    digits = 1 if key == "rank" else 3
    if len(values) == 1:
      return f"{values[0]:.{digits}f}"
    return (
      f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.{digits}f}"
    )

  columns = ("knn", "linear", "linear_5", "rank")
  lines = [
    "# The methods on CIFAR-10", "",
    f"ConvNet 32-64-128, 782 steps of 256 pairs; {len(SEEDS)} seeds, mean ± standard error, else one; "
    f"{of['SimCLR'][0]['circumstances']['machine']}. A learning rate per method, the best of three on "
    "held-out training images. `time`: a step over SimCLR's, median.", "",
    "| | rate | kNN | linear | 5 labels | rank | time |", "|---|---|---|---|---|---|---|",
  ]  # fmt: skip
  for name in ("raw", "untrained", "Supervised", *METHODS, *[m for m in MORE if m in of]):
    rate = of[name][0].get("rate")
    ratio = f"{statistics.median(costs[name]):.2f}" if name in costs else ""
    cells = " | ".join(cell(name, key) for key in columns)
    lines.append(f"| {name} | {'' if rate is None else f'{rate:g}'} | {cells} | {ratio} |")
  lines += ["", *verdicts(of)]
  RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")

  figure, axes = plt.subplots(figsize=(8, 4.5))
  for name in METHODS:
    curves = np.array([[value for _, value in r["curve"]["eval/knn"]] for r in of[name]])
    steps = [step for step, _ in of[name][0]["curve"]["eval/knn"]]
    axes.plot(steps, curves.mean(0), label=name, linewidth=1.5)
  axes.set_xlabel("step")
  axes.set_ylabel("kNN among 2,000 training images, leave one out")
  axes.legend(frameon=False, ncols=2, fontsize=8)
  axes.spines[["top", "right"]].set_visible(False)
  figure.tight_layout()
  figure.savefig(RESULTS.with_suffix(".png"), dpi=120)


def verdicts(of) -> list[str]:
  finite = {
    name: all(np.isfinite(v) for r in of[name] for _, v in r["curve"]["loss"])
    and min(r["rank"] for r in of[name]) >= 3
    for name in METHODS
  }
  untrained = of["untrained"][0]["knn"]
  lead = {name: min(r["knn"] for r in of[name]) - untrained for name in METHODS}
  least = min(lead, key=lead.get)
  knn = {name: np.array([r["knn"] for r in of[name]]) for name in METHODS}
  means = {name: values.mean() for name, values in knn.items()}
  without = list(PUBLISHED)
  best, worst = max(without, key=means.get), min(without, key=means.get)
  error = np.hypot(*(knn[n].std(ddof=1) / len(SEEDS) ** 0.5 for n in (best, worst)))
  counts = means[best] - means[worst] > 3 * error
  order = stats.spearmanr([means[n] for n in without], [PUBLISHED[n] for n in without])[0]
  left_out = [name for name, counted in finite.items() if not counted]
  first = max(means, key=means.get)

  def told(holds):
    return (
      ("holds" if holds else "does not hold") if counts else "is not tested: they hardly differ"
    )

  return [
    f"Runs that do not count: {', '.join(left_out) or 'none'}.", "",
    f"1. learns: the smallest lead over the untrained encoder of any seed is {lead[least]:.3f} "
    f"({least}); the hypothesis (0.05) {'holds' if lead[least] >= 0.05 else 'does not hold'}.",
    f"2. labels: the highest kNN is {first}'s; the hypothesis (SupCon's) {told(first == 'SupCon')}.",
    f"3. order: rank correlation with solo-learn's table {order:.2f}; the hypothesis (below 0.5) "
    f"{told(order < 0.5)}.",
  ]  # fmt: skip


if __name__ == "__main__":
  COMMANDS = {"choose": choose, "run": run, "more": more, "draw": draw, "cost": cost}
  if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
    sys.exit(f"say what to do: {', '.join(COMMANDS)}")
  COMMANDS[sys.argv[1]]()
