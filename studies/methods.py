"""What do the methods reach on CIFAR-10 with a small encoder, on equal terms?

3 trials per method of half a minute each, 25 runs of 200,000 pairs, some 4 minutes each on two
cores, and a second study of the other methods with one seed.

The data, the encoder (ConvNet 32-64-128), the views, AdamW, batch 256, 782 steps and warm-up are
those of configs/cifar10_convnet_simclr.py. `METHODS` has the rest of each: heads of a size that
suits 128 features, and its paper's or solo-learn's settings for CIFAR-10 (queue, momentum,
temperature) as far as they fit a short run. One hyperparameter is chosen: the learning rate, for
each method the best of `RATES` by kNN of 5,000 held-out training images after 100 steps of training
on the others, seed 100. Every method has three trials, the supervised one included.

Judged at the last step: kNN (k = 20) of the 10,000 test images, the linear probe, the probe with 5
labels per class, effective rank of the features; beside raw pixels and the untrained encoder of
seed 0. Supervised: cross-entropy on two views of each image and their labels, seed 0. `time`: a
step over SimCLR's, the median of rounds in which all methods take turns; measure it while nothing
else runs.

Hypotheses:
  learns   every method's kNN is above the untrained encoder's by 0.05, on every seed
  labels   SupCon's mean kNN is the highest of all but the supervised
  order    the mean kNN of the seven without labels do not follow the order of solo-learn's table
           (ResNet-18, 1,000 epochs, linear: `PUBLISHED`): Spearman's correlation is below 0.5,
           because methods with a moving average or without negatives need longer than 4 epochs
Condition of `labels` and `order`: best and worst of the seven differ by three standard errors of
their difference. The second study has one seed, and only reports.
"""

from __future__ import annotations

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from scipy import stats

from contrastax import encoders, evaluation, methods, training, views
from contrastax.core import Encoder, Recipe
from contrastax.experiments.build import build
from studies.common import cifar10, fit
from studies.common.report import Verdict, estimate, extremes, left_out, table, unpaired
from studies.common.study import Study, grid

RATES, STEPS, HELD_OUT, AMONG, CURVE = (1e-3, 2e-3, 4e-3), 782, 5_000, 10_000, 2_000
HEAD = {"name": "projection", "widths": (128,), "out": 64}
WIDE = {"name": "projection", "widths": (512,), "out": 512}
NORMED = {"name": "projection", "widths": (256,), "out": 128, "norm_out": True}
PREDICTOR = {"name": "projection", "widths": (256,), "out": 128}
TO_ONE = {"name": "cosine", "start": 0.99, "end": 1.0}
SOFTMAX = {
  "temperature": {"name": "fixed", "temperature": 0.2}, "loss": {"name": "info_nce"},
  "score": {"name": "cosine"},
}  # fmt: skip
METHODS = {
  "SimCLR": {"name": "SimCLR", "projection": HEAD, **SOFTMAX},
  "MoCo v2": {
    "name": "MoCo", "momentum": 0.99, "projection": HEAD,
    "negatives": ({"name": "queue", "size": 4096},), **SOFTMAX,
  },
  "MoCo v3": {
    "name": "MoCoV3", "momentum": TO_ONE, "projection": NORMED,
    "predictor": {**PREDICTOR, "norm_out": True}, **SOFTMAX,
  },
  "SupCon": {"name": "SupCon", "projection": HEAD, **SOFTMAX},
  "BYOL": {
    "name": "BYOL", "momentum": TO_ONE, "projection": {**NORMED, "norm_out": False},
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
    "name": "SimSiam", "projection": {**NORMED, "widths": (256, 256)},
    "predictor": {**PREDICTOR, "widths": (64,)},
  },
  "W-MSE": {"name": "WMSE", "slices": 2, "projection": HEAD},
  "DINO": {
    "name": "DINO", "momentum": {**TO_ONE, "start": 0.996}, "projection": HEAD,
    "teacher_temperature": {"name": "linear", "start": 0.04, "end": 0.07, "over": 0.3},
    "prototypes": {"name": "prototypes", "count": 1024},
  },
  "i-Mix": {"name": "IMix", "projection": HEAD, **SOFTMAX},
}  # fmt: skip
EVERY = (*METHODS, "Supervised", *MORE)
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


def config_of(name: str, rate: float, steps: int, seed: int, validation: int = 0) -> ConfigDict:
  config = cifar10.get_config().to_dict()
  own = {**METHODS, **MORE, "Supervised": METHODS["SimCLR"]}[name]  # it takes parts of SimCLR's
  config["method"] = {key: config["method"][key] for key in ("encoder", "views")} | own
  config |= {"steps": steps, "seed": seed, "validation": validation}
  config["optimizer"] |= {"learning_rate": rate, "warmup": steps // 10}
  return ConfigDict(config)


def parts_of(name: str, *choices):
  parts = build(config_of(name, *choices), training.make_mesh())
  if name != "Supervised":
    return parts
  classes = encoders.projection((), len(parts.dataset.classes))
  own = parts.method
  return parts._replace(method=Supervised(encoder=own.encoder, projection=classes, views=own.views))


def trial(name, rate):
  parts = parts_of(name, rate, 100, 100, HELD_OUT)
  state, _ = cifar10.train(parts, 100, 100, eval_every=100)
  train, held_out = parts.dataset.train, parts.dataset.test
  ours, theirs = (
    fit.embed(parts.method, state, x) for x in (train["image"][:AMONG], held_out["image"])
  )
  return {"knn": evaluation.knn(ours, train["label"][:AMONG], theirs, held_out["label"])}


def run(name, seed, steps: int = STEPS):
  if name in ("raw", "untrained"):
    parts = parts_of("SimCLR", RATES[1], STEPS, 0)
    if name == "raw":
      return judged(parts, lambda x: np.float32(views.to_float(x)).reshape(len(x), -1))
    fresh = training.init(parts.method, parts.optimizer, parts.source.batch(0))
    return judged(parts, lambda x: fit.embed(parts.method, fresh, x))
  rate = chosen(STUDY.records(), name)
  parts = parts_of(name, rate, steps, seed)
  images, labels = (parts.dataset.train[key][:CURVE] for key in ("image", "label"))

  def evaluate(state):
    knn = evaluation.knn_leave_one_out(fit.embed(parts.method, state, images), labels)
    return {"eval/knn": knn}

  state, log = cifar10.train(parts, steps, seed, evaluate, 100)
  curve = {key: [[x["step"], x[key]] for x in log if key in x] for key in ("loss", "eval/knn")}
  return {
    "rate": rate,
    **judged(parts, lambda x: fit.embed(parts.method, state, x)),
    "curve": curve,
  }


def judged(parts, embed):
  split = fit.sets(parts.dataset, map(embed, (x["image"] for x in parts.dataset[:2])))
  return {
    "knn": evaluation.knn(*split), "linear": evaluation.linear(*split),
    "linear_5": float(evaluation.few_label(*split, per_class=5).mean()),
    "rank": fit.rank(split[2][:CURVE]),
  }  # fmt: skip


@functools.cache
def seconds(rounds: int = 5, steps: int = 10):
  """Returns the seconds per step of all methods, which take turns in each round."""
  ready, found = {}, {name: [] for name in EVERY}
  for name in EVERY:
    parts = parts_of(name, RATES[1], STEPS, 0)
    state = training.init(parts.method, parts.optimizer, parts.source.batch(0))
    step = training.make_train_step(parts.method, parts.optimizer)
    ready[name] = [step, step(state, parts.source.batch(0))[0], parts.source]
  for name in [*EVERY] * rounds:
    step, state, source = ready[name]
    jax.block_until_ready(state)
    start = time.perf_counter()
    for t in range(steps):
      state, _ = step(state, source.batch(t))
    jax.block_until_ready(state)
    found[name].append((time.perf_counter() - start) / steps)
    ready[name][1] = state
  return found


def measure(job):
  if job["kind"] == "trial":
    return trial(job["method"], job["rate"])
  if job["kind"] == "run":
    return run(job["method"], job["seed"])
  found = seconds()
  ratios = np.divide(found[job["method"]], found["SimCLR"]).tolist()
  return {"seconds_per_step": found[job["method"]], "ratios": ratios}


def chosen(records, name):
  return max(records.where(kind="trial", method=name), key=lambda r: r["knn"])["rate"]


def runs(_):
  first = grid(kind=["run"], method=["raw", "untrained"], seed=[0])
  first += grid(kind=["run"], seed=range(3), method=METHODS)
  return first + grid(kind=["run"], method=["Supervised", *MORE], seed=[0])


def report(records):
  done = records.where(kind="run")
  ratios = {r["method"]: f"{np.median(r['ratios']):.2f}" for r in records.where(kind="cost")}
  yield (
    f"ConvNet 32-64-128, {STEPS} steps of 256 pairs; 3 seeds, mean ± standard error, else one. A "
    "learning rate per method, the best of three on held-out training images. `time`: a step over "
    "SimCLR's, median."
  )
  digits, rows = {"knn": 3, "linear": 3, "linear_5": 3, "rank": 1}, []
  for name in ("raw", "untrained", "Supervised", *METHODS, *MORE):
    cells = [f"{estimate(done.values(c, method=name)):.{n}f}" for c, n in digits.items()]
    rate = done.where(method=name)[0].get("rate")
    rows.append([name, f"{rate:g}" if rate else "", *cells, ratios.get(name, "")])
  yield table(["", "rate", "kNN", "linear", "5 labels", "rank", "time"], rows)
  yield left_out([
    {**r, "finite": np.isfinite([loss for _, loss in r["curve"]["loss"]]).all()}
    for r in done if r["method"] in METHODS
  ], "method", "seed")  # fmt: skip
  knn = {name: done.values("knn", method=name) for name in METHODS}
  untrained = done.where(method="untrained")[0]["knn"]
  least, lead = min(((name, v.min() - untrained) for name, v in knn.items()), key=lambda x: x[1])
  best, worst = extremes({name: knn[name] for name in PUBLISHED})
  counts = unpaired(knn[best], knn[worst]).above(3), "the seven methods without labels differ"
  first, _ = extremes(knn)
  order = stats.spearmanr([knn[name].mean() for name in PUBLISHED], [*PUBLISHED.values()])[0]
  yield Verdict(
    "learns", f"the smallest lead over the untrained encoder of any seed is {lead:.3f} ({least})",
    lead >= 0.05
  )  # fmt: skip
  yield Verdict("labels", f"{first} has the highest kNN", first == "SupCon", *counts)
  yield Verdict(
    "order", f"the rank correlation with solo-learn's table is {order:.2f}", order < 0.5, *counts
  )


def figure(records, canvas):
  axes = canvas.subplots()
  for name in METHODS:
    curves = records.values(lambda r: r["curve"]["eval/knn"], kind="run", method=name).mean(0)
    axes.plot(*curves.T, label=name, linewidth=1.5)
  axes.set(xlabel="step", ylabel="kNN among 2,000 training images, leave one out")
  axes.legend(frameon=False, ncols=2, fontsize=8)
  axes.spines[["top", "right"]].set_visible(False)


STUDY = Study(
  "methods", "The methods on CIFAR-10",
  measure=measure, report=report, figure=figure, size=(8, 4.5),
  stages=[
    lambda _: grid(kind=["trial"], method=EVERY, rate=RATES), runs,
    lambda _: grid(kind=["cost"], method=EVERY),
  ],
)  # fmt: skip
