"""Clusters of the embeddings, found online: whose vectors may be false negatives, and hard ones."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import UserError
from contrastax.negatives.sources import NegativeSource, rng_per_vector, synthetic_candidates
from contrastax.pairwise import unit

NAME = "cluster"


@dataclasses.dataclass(frozen=True)
class clusters(NegativeSource):
  """Every vector gets the side `cluster`, and each anchor's second nearest centroid is a negative.

    cluster(x) = argmax_c cos(x, μ_c),      hard(i) = the c of the second highest cos(a_i, μ_c)
    μ_c ← momentum · μ_c + (1 − momentum) · mean of the step's keys of cluster c,   after the step

  The filter `negatives_differ("cluster")` then drops what is of the anchor's own cluster, taken for
  false negatives. To be written to the right of the sources of all candidates, `in_batch() +
  queue(4096) + clusters(128)`: what is on its right carries no cluster. Without gradient, by a
  product [m, count] of m vectors.

  shared: every anchor meets the hard negatives of all, as in the paper: a group [count, d] of the
    centroids, which weigh as often as they are hard(i). False: its own alone, [n, 1, d]. A
    centroid's `cluster` is its own number, so the filter also drops the anchor's nearest one.
  warmup: the centroids begin as `count` keys of step `warmup`, drawn at random by example and view.
    Until then hard negatives weigh nothing, and `cluster` is −1 of anchors and −2 of candidates:
    all differ, and none share.

  ClusterNS: Deng et al. 2023, arXiv 2305.09892, 128 clusters; there false negatives stay in the
  denominator, and a further loss, of two margins, holds them near the positive. Its code moves the
  centroids before a step uses them, by the anchors, with AdamW or towards the sum of their members;
  here after the step, so that its negatives are of what was before it, by the keys, and towards the
  mean, which does not depend on the batch size. Its code begins where the mean cosine has fallen to
  0.4, with keys of which each is least similar to the one before.

  Raises UserError for fewer keys of a step than centroids, and where the data have an array
  `cluster` already.
  """

  count: int
  momentum: float = 0.99
  shared: bool = True
  warmup: int = 0

  def __post_init__(self):
    for name, least in {"count": 2, "warmup": 0}.items():
      value = getattr(self, name)
      if not isinstance(value, int) or value < least:
        raise UserError(f"clusters: {name} is a number of at least {least}, not {value!r}")
    if not (isinstance(self.momentum, int | float) and 0 <= self.momentum < 1):
      raise UserError(f"clusters: momentum is at least 0 and below 1, not {self.momentum!r}")

  def init(self, rng, keys, examples):
    n, d = keys.vectors.shape
    if n < self.count:
      raise UserError(
        f"{self.count:,} clusters begin as keys of one step, which has {n:,}; take fewer clusters, "
        "or a larger batch"
      )
    if NAME in keys.side:
      raise UserError(
        f"clusters finds the side {NAME!r} itself, and the data have an array {NAME!r}; rename it"
      )
    centroids = jnp.zeros((self.count, d), jnp.promote_types(keys.vectors.dtype, jnp.float32))
    return {"step": jnp.int32(0), "key": jax.random.key_data(rng), "centroids": centroids}

  def candidates(self, state, anchors, groups, rng, compare):
    started, centroids = state["step"] > self.warmup, state["centroids"]

    def attach(group, before):
      nearest = _similarity(group.vectors, centroids).argmax(-1).astype(jnp.int32)
      return group.attach(**{NAME: jnp.where(started, nearest, before)})

    _, two = jax.lax.top_k(_similarity(anchors.vectors, centroids), 2)
    second = two[:, 1:]  # [n, 1]
    numbers = jnp.arange(self.count, dtype=jnp.int32)
    chosen = numbers if self.shared else second
    times = (second == numbers).sum(0) if self.shared else 1
    anchors, groups = attach(anchors, -1), tuple(attach(group, -2) for group in groups)
    hard = synthetic_candidates(centroids[chosen].astype(anchors.vectors.dtype), groups[0])
    weight = jnp.where(started, times * hard.side["as_negative"], 0)
    return anchors, (*groups, hard.attach(as_negative=weight, **{NAME: chosen}))

  def advance(self, state, keys):
    centroids, vectors = state["centroids"], jax.lax.stop_gradient(keys.vectors)
    vectors = vectors.astype(centroids.dtype)
    nearest = _similarity(vectors, centroids).argmax(-1)
    members = nearest == jnp.arange(self.count)[:, None]  # [count, n]
    number = members.sum(1, keepdims=True)
    total = jnp.matmul(members.astype(vectors.dtype), vectors, precision="highest")
    mean = jnp.where(number > 0, total / jnp.maximum(number, 1), centroids)
    moved = self.momentum * centroids + (1 - self.momentum) * mean
    step = state["step"]
    now = jnp.where(step == self.warmup, self._first(state["key"], keys, vectors), moved)
    return {**state, "step": step + 1, "centroids": jnp.where(step < self.warmup, centroids, now)}

  def _first(self, rng, keys, vectors):
    """`count` of the keys, drawn by example and view: not by their rows or devices."""
    drawn = rng_per_vector(jax.random.wrap_key_data(rng), keys.side)
    _, chosen = jax.lax.top_k(jax.vmap(jax.random.uniform)(drawn), self.count)
    return vectors[chosen]


def _similarity(vectors, centroids):
  """The cosines, [..., count]."""
  return jnp.matmul(unit(vectors), unit(centroids).T, precision="highest")
