"""The softmax family's pair quantities, and what its losses make of their reductions."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.pairwise import reduce, softmax_mean, sum_

STATS = ("positive", "count", "log_mean", "mean_logit")


@dataclasses.dataclass(frozen=True)
class Channels:
  """Of a pair with weights w⁺, w⁻ and logit ℓ = s/τ: what the losses reduce."""

  relation: object
  beta: float = 0.0

  def __call__(self, similarity, a, c, shared):
    pairs = self.relation(a, c, similarity)
    positive = pairs.positive * c["as_positive"]
    negative = pairs.negative * c["as_negative"]
    logit = similarity / a["temperature"]
    return {
      "pull": positive * logit,
      "positive_weight": positive,
      "negative_weight": negative,
      "all": (logit, positive + negative),
      "positive": (logit, positive),
      "negative": (logit, negative),
      "negatives": (logit, negative, logit),
      "hardened": ((1 + self.beta) * logit, negative),
      "hardness": (self.beta * logit, negative),
    }


class Found(NamedTuple):
  """Reductions, each [n]: `rows` those asked for, the others of use to all losses."""

  rows: dict
  positive: jax.Array
  positive_weight: jax.Array
  some_positive: jax.Array
  temperature: jax.Array
  stats: dict


def find(channels, anchors, groups, temperature, rows, stats, **how) -> Found:
  """The reductions of one direction."""
  anchors = attach(anchors, temperature)
  found = reduce(channels, anchors, groups, **wanted(rows, stats), **how)
  return read(found, rows, anchors, stats)


def find_both(channels, anchors, keys, temperatures, rows, **how) -> tuple[Found, Found]:
  """The reductions of two directions, anchors to keys and back, on the same scores."""
  anchors, keys = map(attach, (anchors, keys), temperatures)
  found, (back,) = reduce(channels, anchors, (keys,), both=True, **wanted(rows, ()), **how)
  return read(found, rows, anchors, ()), read(back, rows, keys, ())


def wanted(rows, stats):
  """`rows` and `observe` of `reduce`: what is needed and nothing else."""
  unknown = set(stats) - set(STATS)
  if unknown:
    raise ValueError(f"unknown stats {sorted(unknown)}; known: {', '.join(STATS)}")
  rows = {"pull": sum_, "positive_weight": sum_, **rows}
  observe = {}
  if {"log_mean", "mean_logit"} & set(stats):
    observe["negatives"] = softmax_mean
  if set(stats) - {"positive"} and "negative_weight" not in rows:
    observe["negative_weight"] = sum_
  return {"rows": rows, "observe": observe}


def read(r, rows, anchors, stats) -> Found:
  weight = r["positive_weight"]
  some = weight > 0
  positive = jnp.where(some, r["pull"] / jnp.where(some, weight, 1), 0)
  observed = {"positive": positive}
  if "negative_weight" in r:
    observed["count"] = count = r["negative_weight"]
  if "negatives" in r:
    log_sum, observed["mean_logit"] = r["negatives"]
    log_count = jnp.log(jnp.where(count > 0, count, 1))
    observed["log_mean"] = jnp.where(count > 0, log_sum - log_count, 0)
  return Found(
    rows={name: r[name] for name in rows},
    positive=positive,
    positive_weight=jnp.where(some, weight, 1),
    some_positive=some,
    temperature=anchors.side["temperature"],
    stats={name: jax.lax.stop_gradient(observed[name]) for name in stats},
  )


def attach(anchors, temperature):
  """The anchors with τ as a side [n]; refuses one that is not above 0, where its value is known."""
  n = anchors.vectors.shape[0]
  if jnp.shape(temperature) not in ((), (n,)):
    raise ValueError(
      f"a temperature is a scalar or one for each of {n} anchors, not of shape {jnp.shape(temperature)}"
    )
  if not isinstance(temperature, jax.core.Tracer) and not (np.asarray(temperature) > 0).all():
    raise ValueError(f"a temperature must be above 0, not {np.min(temperature)}")
  dtype = jnp.promote_types(anchors.vectors.dtype, jnp.float32)
  return anchors.attach(temperature=jnp.broadcast_to(jnp.asarray(temperature, dtype), (n,)))


def difference(defined, lse, positive):
  """lse − positive where defined, else 0 without a gradient (lse is −∞ there)."""
  return jnp.where(defined, jnp.where(defined, lse, 0) - jnp.where(defined, positive, 0), 0)
