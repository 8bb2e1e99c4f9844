"""Training and probing as the studies do them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from contrastax import evaluation, training


def fit(
  method,
  optimizer,
  source,
  *,
  steps: int,
  seed: int,
  look: Callable[[Any, int], None] = lambda state, t: None,
):
  """Trains a method; returns its last state and the metrics of its last step.

  Args:
    method: The method.
    optimizer: An optax transformation.
    source: The source of batches.
    steps: How many steps are taken.
    seed: The seed of the initial parameters and of the views.
    look: Is called with the state and the number of steps taken, before each step and at the end.
  """
  state = training.init(method, optimizer, source.batch(0), seed=seed)
  step = training.make_train_step(method, optimizer)
  metrics: dict = {}
  for t in range(steps):
    look(state, t)
    state, metrics = step(state, source.batch(t))
  look(state, steps)
  return state, metrics


def embed(method, state, images) -> np.ndarray:
  """Returns the features h of the encoder."""
  own = state.params["encoder"], state.state["encoder"]
  return evaluation.embed(method.encoder, *own, images)


def sets(dataset, features: Iterable[np.ndarray]) -> tuple:
  """Returns (training features, labels, test features, labels) for the probes."""
  ours, theirs = features
  return ours, dataset.train["label"], theirs, dataset.test["label"]


def rank(features) -> float:
  return float(evaluation.effective_rank(jnp.asarray(features)))


def one_label(split) -> float:
  """Returns the mean accuracy of a probe with one label per class, over the fixed draws."""
  return float(evaluation.few_label(*split, per_class=1).mean())


def candidates(method, state, batch, key):
  """Returns the anchors and the groups of candidates of a contrastive method, and its score."""
  own = state.params["terms"]["contrast"], state.state["terms"]["contrast"]
  seen = method.seen(state.params, state.state, batch, key)
  anchors, _, groups, compare = method.main.candidates(*own, seen, key)
  return anchors, groups, compare


def temperature(method, state, side):
  """Returns τ of the anchors with this side information."""
  own, kept = (x["terms"]["contrast"]["temperature"] for x in (state.params, state.state))
  return method.temperature.value(own, kept, side)
