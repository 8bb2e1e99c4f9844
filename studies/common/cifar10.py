"""Runs on CIFAR-10 with the ConvNet 32-64-128 of configs/cifar10_convnet_simclr.py.

`contrastax prepare cifar10` prepares the data. `measure` trains a config and returns:

  knn, rank    at the last step: kNN (k = 20) of the 10,000 test images, effective rank
  held_out     the same kNN of held-out training images, where the config holds some out
  curve        at eight points of the run, of one fixed batch of training images:
    knn          of 2,000 training images, leave one out
    uniformity, tolerance   of the anchors
    divergence   of the weights e^{s/τ} of the negatives from uniform weights, in nats
    proxy        the share of anchors whose positive is more similar than every negative
    hardest      the mean similarity of the hardest negative that is an example
    mixes        the mean similarity of the hardest synthetic negative, where there are any
    false        the share of negatives of the anchor's class; false_64: among the 64 hardest
    precision, recall   of the rule "drop negatives above a similarity", for each of `LIMITS`
    weight       the share of the weight e^{β s/τ} on negatives of the anchor's class, for `BETAS`
"""

from __future__ import annotations

import functools
import json
import pathlib
import runpy
import tempfile

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from contrastax import core, data, evaluation, training
from contrastax.core import key_for
from contrastax.experiments.build import build
from contrastax.parts import assemble
from studies.common import fit

EVERY, CURVE = 8, 2_000
LIMITS, BETAS = (0.5, 0.6, 0.7, 0.8, 0.9), (0, 0.5, 1, 2, 6)
PATH = pathlib.Path(__file__).parents[2] / "configs" / "cifar10_convnet_simclr.py"
get_config = runpy.run_path(str(PATH))["get_config"]  # configs are files, not a package

images = functools.cache(lambda: data.load("tfds:cifar10"))
candidates = jax.jit(lambda *given: fit.candidates(*given)[:2], static_argnums=0)


def base(pairs: int, batch: int, *, optimizer=(), validation: int = 0, **method) -> ConfigDict:
  """Returns the config with this number of pairs and batch size, and changes of the method."""
  config = get_config().to_dict()
  config |= {"batch_size": batch, "steps": pairs // batch, "validation": validation}
  config["method"] |= method
  config["optimizer"] |= {"warmup": config["steps"] // 10, **dict(optimizer)}
  return ConfigDict(config)


def parts_of(config: ConfigDict):
  """Builds the method and the optimizer of a config, without its data."""
  method = assemble(core.Method, config.method.to_dict(), "config.method")
  given, own = {"steps": config.steps}, config.optimizer.to_dict()
  return method, assemble(optax.GradientTransformation, own, "config.optimizer", given=given)


def train(parts, steps: int, seed: int, evaluate=None, eval_every: int = 100):
  """Returns the last state, and the lines of the log."""
  with tempfile.TemporaryDirectory() as folder:
    state = training.train(
      parts.method, parts.optimizer, parts.source, steps=steps, seed=seed, workdir=folder,
      evaluate=evaluate, log_every=min(50, steps), eval_every=eval_every, checkpoint_every=steps,
    )  # fmt: skip
    lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
  return state, [json.loads(line) for line in lines]


def measure(config: ConfigDict, seed: int) -> dict:
  config.seed = seed
  parts, curve = build(config, training.make_mesh()), []

  def evaluate(state):
    curve.append({"step": int(state.step), **in_training(parts, state)})
    return {}

  state, log = train(parts, config.steps, seed, evaluate, -(-config.steps // EVERY))
  losses = [line["loss"] for line in log if "loss" in line]
  labels = parts.dataset.train["label"], images().test["label"]
  ours, theirs = (
    fit.embed(parts.method, state, x["image"]) for x in (parts.dataset.train, images().test)
  )
  found = {
    "knn": evaluation.knn(ours, labels[0], theirs, labels[1]), "rank": fit.rank(theirs[:CURVE]),
    "finite": bool(np.isfinite(losses).all()), "loss": losses[-1], "curve": curve,
  }  # fmt: skip
  if config.validation:
    held = parts.dataset.test
    h = fit.embed(parts.method, state, held["image"])
    found["held_out"] = evaluation.knn(ours, labels[0], h, held["label"])
  return found


def in_training(parts, state) -> dict:
  """Measures one point of the curve; `parts` has a method, a dataset and a source."""
  method, train = parts.method, parts.dataset.train
  features = fit.embed(method, state, train["image"][:CURVE])
  anchors, groups = candidates(method, state, parts.source.batch(0), key_for(0, "curve"))
  ranked = functools.partial(
    evaluation.ranked_negatives, anchors, relation=method.relation, score=method.score
  )
  of = ranked([group for group in groups if not group.per_anchor])
  everything = ranked(groups).negative[:, 0]
  tau = float(fit.temperature(method, state, anchors.side))
  found = {
    "knn": evaluation.knn_leave_one_out(features, train["label"][:CURVE]),
    "uniformity": float(evaluation.uniformity(anchors.vectors)),
    "tolerance": float(evaluation.tolerance(anchors.vectors, anchors.side["label"])),
    "proxy": float(np.mean(np.nanmax(of.positive, 1) > np.nan_to_num(everything, nan=-np.inf))),
    "temperature": tau,
  }
  there, false = ~np.isnan(of.negative), of.false == 1
  if not there.any():  # before a queue has its first keys
    return found
  mixes = [group for group in groups if group.per_anchor]
  made = ranked(mixes).means() if mixes else {}
  if "hardest_similarity" in made:  # there are none during their warm-up
    found["mixes"] = made["hardest_similarity"]
  dropped = [there & (of.negative > limit) for limit in LIMITS]
  logits = np.where(there, (of.negative - of.negative[:, :1]) / tau, 0)

  def weights(beta):
    weight = np.where(there, np.exp(beta * logits), 0)
    return weight / weight.sum(1, keepdims=True)

  log_weight = np.log(weights(1), where=weights(1) > 0, out=np.zeros_like(logits))
  return found | {
    "hardest": float(np.nanmean(of.negative[:, 0])),
    "false": float(false.sum() / there.sum()),
    "false_64": float(false[:, :64].sum() / there[:, :64].sum()),
    "precision": [float((d & false).sum() / d.sum()) if d.any() else None for d in dropped],
    "recall": [float((d & false).sum() / max(false.sum(), 1)) for d in dropped],
    "divergence": float(((weights(1) * log_weight).sum(1) + np.log(there.sum(1))).mean()),
    "weight": [float((weights(beta) * false).sum(1).mean()) for beta in BETAS],
  }


def last(key: str):
  """Returns a function of a record: its entry, or that of the last point of its curve, or NaN."""
  return lambda record: record.get(key, record["curve"][-1].get(key, np.nan))
