"""What all contrastive methods share: from anchors and keys to the objective.

A method states its parts as fields (its networks, `views`, `negatives`, `relation`, `score`,
`temperature`, `loss`, `examples`, `plan`) and `embed`; these two functions are its `init` and
`objective`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax.core import (
  Compare,
  Criterion,
  Group,
  Score,
  Temperature,
  UserError,
  check_kind,
  join,
  named,
)
from contrastax.criteria.family import STATS, penalty
from contrastax.evaluation import embedding_std
from contrastax.labels import signed
from contrastax.methods import networks
from contrastax.temperatures import fixed


def init(method, key, batch):
  """Parameters and state, one entry per part."""
  return complete(method, *networks.init(method, key, batch), batch, key)


def complete(method, params, state, batch, key, rows=None):
  """Those of the networks, and what else `embed` reads, given: the entries of the other parts.

  rows: how many anchors the loss and the temperature may keep something of, by default one for
  each of `method.examples`.
  """
  _check(method)
  rows = method.examples if rows is None else rows
  params["temperature"], state["temperature"] = method.temperature.init(rows)
  state["loss"] = method.loss.init(rows)
  _, keys, *_ = jax.eval_shape(method.embed, params, state, batch, key)
  params["score"] = method.score.init(named(key, "score"), keys.vectors.shape[-1])
  state["negatives"] = method.negatives.init(named(key, "negatives"), keys, method.examples)
  return params, state


def meeting(method, params, state, batch, key):
  """Whom the loss compares, and how: (anchors, keys, groups of candidates, `Compare`, next state)."""
  anchors, keys, state, same_set = method.embed(params, state, batch, key)
  compare = Compare(method.relation, method.score, params["score"], same_set, method.plan)
  anchors, groups = method.negatives.candidates(
    state["negatives"], anchors, (keys,), named(key, "negatives"), compare
  )
  return anchors, keys, groups, compare, state


def objective(method, params, state, batch, key):
  """The scalar to minimise, and (the next state, metrics).

  The mean over anchors of the temperature's weighing of the loss. Metrics, all scalars:
  `loss`; `temperature`, the mean, and of one with bounds `at_bound`, the share at one of them;
  `similarity` of positives; `margin`, by how much the positive's logit exceeds the log-mean-exp of
  the negatives' (0: no better than chance, and InfoNCE is then log(1 + negatives)); `negatives`,
  their number per anchor, and `effective_negatives`, the perplexity of their softmax;
  `embedding_std`, the standard deviation of a dimension of the unit anchors times √d (1: spread
  over the sphere, 0: collapsed); `penalty`, where the score has one, minimised beside the loss.
  """
  anchors, keys, groups, compare, state = meeting(method, params, state, batch, key)
  tau = method.temperature.value(params["temperature"], state["temperature"], anchors.side)
  bias = {"bias": params["temperature"]["bias"]} if method.temperature.learns_bias else {}
  value, _, stats, memory = method.loss(
    anchors, groups, compare, temperature=tau, memory=state["loss"], stats=STATS, **bias
  )
  taus = jnp.broadcast_to(tau, value.shape)
  state = {
    **state,
    "loss": memory,
    "negatives": method.negatives.advance(state["negatives"], keys),
    "temperature": method.temperature.advance(state["temperature"], anchors.side, taus, stats),
  }
  spread = stats["log_mean"] - stats["mean_logit"]  # −KL(softmax of the negatives ‖ uniform)
  metrics = {
    "loss": value,
    "temperature": taus,
    "similarity": stats["positive"] * taus,
    "margin": stats["positive"] - stats["log_mean"],
    "negatives": stats["count"],
    "effective_negatives": stats["count"] * jnp.exp(spread),
    "embedding_std": embedding_std(anchors.vectors),
  }
  if method.temperature.bounds is not None:
    low, high = method.temperature.bounds
    rounding = 1e-6  # a learned one is the exponential of a logarithm
    at_bound = (taus <= low * (1 + rounding)) | (taus >= high * (1 - rounding))
    metrics["at_bound"] = at_bound.astype(taus.dtype)
  minimised = method.temperature.weigh(value, taus)
  if method.score.penalized is not None:
    metrics["penalty"] = penalty(anchors, groups, compare)
    minimised += method.score.regularizer * metrics["penalty"]
  metrics = {name: jax.lax.stop_gradient(values).mean() for name, values in metrics.items()}
  return minimised.mean(), (state, metrics)


def _check(method):
  """That loss, temperature and score are of their kinds and fit each other."""
  check_kind("loss", method.loss, Criterion, "criteria.info_nce()")
  check_kind("temperature", method.temperature, Temperature, "temperatures.fixed(0.2)")
  check_kind("score", method.score, Score, "pairwise.cosine()")
  if method.temperature.learns_bias and not method.loss.learns_bias:
    raise UserError(
      "a bias changes no softmax, so only the loss siglip learns one; leave bias out of learned, "
      "or take siglip"
    )
  if method.score.has_temperature and method.temperature != fixed(1.0):
    raise UserError(
      f"{type(method.score).__name__} has temperatures of its own, so the method's is fixed(1.0), "
      f"not {method.temperature}"
    )


def groups_of(batch, vectors, views):
  """One group of all vectors, [n, d] for each of `views`, with what each of them carries.

  views: the number of each view, by which `same_example` tells a vector from its positives.
  Besides that a vector carries whatever the batch has of its example in one number, such as its
  label, and its `guide`.
  """
  index = batch["index"]
  if "label" in batch and batch["label"].shape == (len(index), 1):
    batch = {**batch, "label": batch["label"][:, 0]}
  one = jnp.ones(index.shape, vectors[0].dtype)
  carried = {name: signed(x) for name, x in batch.items() if x.ndim == 1 or name == "guide"}
  sides = [
    {**carried, "view": jnp.full_like(index, view), "as_positive": one, "as_negative": 0 * one}
    for view in views
  ]  # fmt: skip
  return Group(jnp.concatenate(vectors), join(*sides))
