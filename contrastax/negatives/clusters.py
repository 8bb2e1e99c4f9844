"""Online clusters of the embeddings, to find false negatives and hard negatives."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Compare, Group, State, UserError
from contrastax.negatives.sources import NegativeSource, rng_per_vector, synthetic_candidates
from contrastax.pairwise import unit

NAME = "cluster"


@dataclasses.dataclass(frozen=True)
class clusters(NegativeSource):
  """Attaches the side `cluster`, and adds each anchor's second nearest centroid as a negative.

      cluster(x) = argmax_c cos(x, μ_c),      hard(i) = the c of the second highest cos(a_i, μ_c)
      μ_c ← momentum · μ_c + (1 − momentum) · mean of the step's keys of cluster c,   after the step

  The filter `negatives_differ("cluster")` then removes the candidates of the anchor's own cluster,
  which are probably false negatives. Put this source to the right of all sources of candidates, as
  in `in_batch() + queue(4096) + clusters(128)`, because candidates that are added later have no
  side `cluster`. There is no gradient. A step computes a product [m, count] for m vectors.

  Up to and including step `warmup`, the hard negatives have the weight 0, and `cluster` is −1 for
  anchors and −2 for candidates. So no pair has the same cluster.

  Args:
    count: the number of centroids, at least 2.
    momentum: the weight of the old centroid, at least 0 and below 1.
    shared: whether each anchor has the hard negatives of all anchors, as in the paper. The group is
      then the centroids [count, d], and the weight of centroid c is the number of anchors i with
      hard(i) = c. Otherwise each anchor has its own hard negative only, [n, 1, d]. The `cluster` of
      a centroid is its own number, so the filter also removes the anchor's nearest centroid.
    warmup: the step after which the centroids are initialized with `count` of its keys. The keys
      are drawn at random, in a way that depends on example and view only.

  Raises:
    UserError: an argument is outside its range, a step has fewer keys than centroids, or the data
      already have an array `cluster`.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 8, 3))
    >>> relation = relations.same_example() & relations.negatives_differ("cluster")
    >>> source = negatives.in_batch() + negatives.clusters(4)
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relation, rng=jax.random.key(1)
    ... )
    >>> groups[1].side["cluster"].shape
    (4,)

  References:
    Deng et al. (ClusterNS), 2023, arXiv 2305.09892, with 128 clusters.

  In other libraries:
    In the paper, false negatives remain in the denominator, and another loss with two margins keeps
    them near the positive. The paper's code updates the centroids before a step uses them, from the
    anchors, with AdamW or toward the sum of their members. This class updates them after the step,
    so that the negatives of a step do not depend on its keys. It updates them from the keys and
    toward the mean, which does not depend on the batch size. The paper's code initializes the
    centroids when the mean cosine has fallen to 0.4, with a sequence of keys in which each is the
    least similar to the one before.
  """

  count: int
  momentum: float = 0.99
  shared: bool = True
  warmup: int = 0

  def __post_init__(self):
    for name, least in {"count": 2, "warmup": 0}.items():
      value = getattr(self, name)
      if not isinstance(value, int) or value < least:
        raise UserError(f"clusters: {name} must be an integer of at least {least}, not {value!r}")
    if not (isinstance(self.momentum, int | float) and 0 <= self.momentum < 1):
      raise UserError(f"clusters: momentum must be at least 0 and below 1, not {self.momentum!r}")

  @override
  def init(self, rng: Array, keys: Group, examples: int) -> State:
    n, d = keys.vectors.shape
    if n < self.count:
      raise UserError(
        f"{self.count:,} clusters need as many keys in one step, which has {n:,}; use fewer clusters, "
        "or a larger batch"
      )
    if NAME in keys.side:
      raise UserError(
        f"clusters attaches the side {NAME!r}, but the data have an array {NAME!r}; rename it"
      )
    centroids = jnp.zeros((self.count, d), jnp.promote_types(keys.vectors.dtype, jnp.float32))
    return {"step": jnp.int32(0), "key": jax.random.key_data(rng), "centroids": centroids}

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    started, centroids = state["step"] > self.warmup, state["centroids"]

    def attach(group, before):
      nearest = _similarity(group.vectors, centroids).argmax(-1).astype(jnp.int32)
      return group.attach(**{NAME: jnp.where(started, nearest, before)})

    _, nearest_two = jax.lax.top_k(_similarity(anchors.vectors, centroids), 2)
    second = nearest_two[:, 1:]  # [n, 1]
    centroid_numbers = jnp.arange(self.count, dtype=jnp.int32)
    selected = centroid_numbers if self.shared else second
    times = (second == centroid_numbers).sum(0) if self.shared else 1
    anchors, groups = attach(anchors, -1), tuple(attach(group, -2) for group in groups)
    hard = synthetic_candidates(centroids[selected].astype(anchors.vectors.dtype), groups[0])
    weight = jnp.where(started, times * hard.side["as_negative"], 0)
    return anchors, (*groups, hard.attach(as_negative=weight, **{NAME: selected}))

  @override
  def advance(self, state: State, keys: Group) -> State:
    centroids, vectors = state["centroids"], jax.lax.stop_gradient(keys.vectors)
    vectors = vectors.astype(centroids.dtype)
    nearest = _similarity(vectors, centroids).argmax(-1)
    members = nearest == jnp.arange(self.count)[:, None]  # [count, n]
    number = members.sum(1, keepdims=True)
    total = jnp.matmul(members.astype(vectors.dtype), vectors, precision="highest")
    mean = jnp.where(number > 0, total / jnp.maximum(number, 1), centroids)
    moved = self.momentum * centroids + (1 - self.momentum) * mean
    step = state["step"]
    started = jnp.where(step == self.warmup, self._first(state["key"], keys, vectors), moved)
    centroids = jnp.where(step < self.warmup, centroids, started)
    return {**state, "step": step + 1, "centroids": centroids}

  def _first(self, rng, keys, vectors):
    """Draws `count` of the keys. The draw does not depend on their rows or devices."""
    rngs = rng_per_vector(jax.random.wrap_key_data(rng), keys.side)
    _, drawn = jax.lax.top_k(jax.vmap(jax.random.uniform)(rngs), self.count)
    return vectors[drawn]


def _similarity(vectors: Array, centroids: Array) -> Array:
  """Returns the cosines, [..., count]."""
  return jnp.matmul(unit(vectors), unit(centroids).T, precision="highest")
