"""What the studies of negatives on CIFAR-10 share: a run of the small encoder, and what it says.

benchmarks/mochi.py, dcl.py, hcl.py and temperature_cifar10.py change one thing of `base`, the ConvNet 32-64-128 of
configs/cifar10_convnet_simclr.py, and keep the rest. `measure` trains one config and returns:

  knn, rank      at the last step: kNN (k = 20) of the 10,000 test images, effective rank
  held_out       with `validation`, the same kNN of so many training images that were held out
  curve          every `EVERY`th of the run, of one fixed batch of training images in its state:
    knn          of 2,000 training images, leave one out; uniformity and tolerance, of the anchors
    divergence   of the negatives' weights e^{s/τ} from uniform ones, in nats, the mean over anchors
    proxy        the share of anchors whose positive is nearer than every negative
    hardest      mean similarity of each anchor's hardest negative, of candidates that are examples
    false        the share of negatives of the anchor's class; false_64, among its 64 hardest
    mixes        mean similarity of the hardest mix, where there are any
    precision, recall   of dropping negatives above a similarity, for each of `LIMITS`
    weight       the share of weight on negatives of the anchor's class, for weights e^{β s/τ},
                 for each of `BETAS`; β = 0 is `false` again
"""

from __future__ import annotations

import functools
import json
import pathlib
import runpy
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from contrastax import data, evaluation, training
from contrastax.core import key_for
from contrastax.experiments.build import build
from contrastax.experiments.workdir import circumstances

EVERY, CURVE = 8, 2_000
LIMITS, BETAS = (0.5, 0.6, 0.7, 0.8, 0.9), (0, 0.5, 1, 2, 6)

# By its path, for configs are files and not an installed package.
CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "cifar10_convnet_simclr.py"
get_config = runpy.run_path(str(CONFIG))["get_config"]

data.load = functools.cache(data.load)  # read once for all runs


def base(pairs: int, batch: int, *, optimizer=(), validation: int = 0, **method) -> ConfigDict:
  """The common config, of `pairs` pairs in batches of `batch`, with changes of the method."""
  config = get_config().to_dict()
  config |= {"batch_size": batch, "steps": pairs // batch, "validation": validation}
  config["method"] |= method
  config["optimizer"] |= {"warmup": config["steps"] // 10, **dict(optimizer)}
  return ConfigDict(config)


def measure(config, seed: int) -> dict:
  config.seed = seed
  parts, curve = build(config, training.make_mesh()), []

  def evaluate(state):
    curve.append({"step": int(state.step), **in_training(parts, state)})
    return {}

  with tempfile.TemporaryDirectory() as folder:
    state = training.train(
      parts.method, parts.optimizer, parts.source, steps=config.steps, seed=seed, workdir=folder,
      evaluate=evaluate, log_every=min(50, config.steps), eval_every=-(-config.steps // EVERY),
      checkpoint_every=config.steps,
    )  # fmt: skip
    lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
  losses = [value["loss"] for value in map(json.loads, lines) if "loss" in value]
  train, test = parts.dataset.train, data.load(config.data).test
  ours, theirs = (embed(parts, state, x["image"]) for x in (train, test))
  found = {
    "knn": evaluation.knn(ours, train["label"], theirs, test["label"]),
    "rank": float(evaluation.effective_rank(jnp.asarray(theirs[:CURVE]))),
    "finite": bool(np.isfinite(losses).all()),
    "loss": losses[-1],
    "curve": curve,
  }
  if config.validation:
    held = parts.dataset.test
    split = ours, train["label"], embed(parts, state, held["image"]), held["label"]
    found["held_out"] = evaluation.knn(*split)
  return found


def embed(parts, state, images):
  own = state.params["encoder"], state.state["encoder"]
  return evaluation.embed(parts.method.encoder, *own, images)


def in_training(parts, state) -> dict:
  """What the docstring calls the curve, of one state."""
  train = parts.dataset.train
  features = embed(parts, state, train["image"][:CURVE])
  batch, key = parts.source.batch(0), key_for(0, "curve")
  anchors, groups = candidates(parts.method, state.params, state.state, batch, key)
  how = {"relation": parts.method.relation, "score": parts.method.score}
  examples = [group for group in groups if not group.per_anchor]
  of = evaluation.ranked_negatives(anchors, examples, **how)
  positive = np.nanmax(of.positive, 1)
  everything = evaluation.ranked_negatives(anchors, groups, **how).negative[:, 0]
  found = {
    "knn": evaluation.knn_leave_one_out(features, train["label"][:CURVE]),
    "uniformity": float(evaluation.uniformity(anchors.vectors)),
    "tolerance": float(evaluation.tolerance(anchors.vectors, anchors.side["label"])),
    "proxy": float(np.mean(positive > np.nan_to_num(everything, nan=-np.inf))),
    "temperature": temperature(parts.method, state, anchors.side),
  }
  if np.isnan(of.negative).all():  # before a queue has its first keys
    return found
  mixes = [group for group in groups if group.per_anchor]
  made = evaluation.ranked_negatives(anchors, mixes, **how).means() if mixes else {}
  if "hardest_similarity" in made:  # not while they warm up
    found["mixes"] = made["hardest_similarity"]
  there, false = ~np.isnan(of.negative), of.false == 1
  found |= {
    "hardest": float(np.nanmean(of.negative[:, 0])),
    "false": float(false.sum() / there.sum()),
    "false_64": float(false[:, :64].sum() / there[:, :64].sum()),
  }
  dropped = [there & (of.negative > limit) for limit in LIMITS]
  found["precision"] = [float((d & false).sum() / d.sum()) if d.any() else None for d in dropped]
  found["recall"] = [float((d & false).sum() / max(false.sum(), 1)) for d in dropped]
  logits = np.where(there, of.negative, -np.inf) / found["temperature"]
  weights = np.where(there, np.exp(np.where(there, logits - logits[:, :1], 0)), 0)
  weights /= weights.sum(1, keepdims=True)
  terms = np.where(weights > 0, weights * np.log(np.where(weights > 0, weights, 1)), 0)
  found["divergence"] = float((terms.sum(1) + np.log(there.sum(1))).mean())
  found["weight"] = []
  for beta in BETAS:
    weight = np.where(there, np.exp(beta * np.where(there, logits - logits[:, :1], 0)), 0)
    found["weight"].append(float(((weight * false).sum(1) / weight.sum(1)).mean()))
  return found


@functools.partial(jax.jit, static_argnums=0)
def candidates(method, params, state, batch, key):
  """(anchors, groups of candidates) of the method's contrast."""
  own = params["terms"]["contrast"], state["terms"]["contrast"]
  anchors, _, groups, _ = method.main.candidates(*own, method.seen(params, state, batch, key), key)
  return anchors, groups


def temperature(method, state, side) -> float:
  own, kept = (x["terms"]["contrast"]["temperature"] for x in (state.params, state.state))
  return float(method.temperature.value(own, kept, side))


def read(results: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def run(results: pathlib.Path, runs) -> None:
  """`runs`: {what a run is called in its record, a tuple of pairs: (config, seed)}; resumable."""
  results.parent.mkdir(exist_ok=True)
  for name, (config, seed) in runs.items():
    if not any(dict(name).items() <= record.items() for record in read(results)):
      record = {**dict(name), **measure(config, seed)}
      record["circumstances"] = circumstances(" ".join(["python", *sys.argv]))
      with results.open("a") as file:
        file.write(json.dumps(record) + "\n")
      print({k: v for k, v in record.items() if k not in ("circumstances", "curve")}, flush=True)


def lead(ours, theirs) -> tuple[float, float]:
  """(difference of the means, its standard error) of the runs of two arms."""
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  error = np.hypot(*(x.std(ddof=1) / len(x) ** 0.5 for x in (ours, theirs)))
  return ours.mean() - theirs.mean(), error


def mean_error(values) -> str:
  values = np.asarray(values)
  if len(values) < 2:
    return f"{values[0]:.3f}"
  return f"{values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"
