"""Negatives from noise, which gradient ascent moves toward the anchors (DCLR)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Compare, Group, Pairs, State, UserError, per_example
from contrastax.negatives.sources import NegativeSource, synthetic_candidates
from contrastax.pairwise import log_sum_exp, reduce, unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class noise(NegativeSource):
  """Adds `count` vectors of noise as negatives of all anchors, moved to increase the anchors' loss.

      v_c ~ N(0, 1)^d,   then `steps` times   v_c ← v_c + size · g_c / ‖g_c‖,   g = ∂L/∂v
      L = Σ_i ( −s⁺_i/τ + log( Σ_j (w⁺_ij + w⁻_ij) e^{s_ij/τ} + Σ_c e^{s_ic/τ} ) )

  s is the method's score. j runs over all candidates to the left, with their weights under the
  method's relation. The noise moves to regions in which the embeddings are dense. As a negative, it
  then pushes these embeddings apart.

  The noise belongs to no example. It is a group [count, d] without a gradient. It is not
  normalized, because the cosine uses directions only. The drawn values depend only on the random
  key of the step and the number of the vector. A step costs as much as `count` further candidates,
  forward and backward. The candidates to the left are compared once.

  Args:
    count: the number of vectors, at least 1. In the paper it is 1 to 5 times the batch size.
    steps: the number of steps of gradient ascent, at least 0. With 0, the noise stays as drawn.
    size: the length of a step, above 0, in units of the vectors. It is 1e-3 in the public code.
    temperature: the temperature τ > 0 of L. It is an argument because the method's temperature may
      be learned, or differ between anchors. It is 0.05 in the public code.

  Raises:
    UserError: an argument is outside its range.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 4, 3))
    >>> source = negatives.noise(count=8, steps=2, size=1e-3, temperature=0.05)
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> [group.vectors.shape for group in groups]
    [(4, 3), (8, 3)]

  References:
    Zhou et al., Debiased Contrastive Learning of Unsupervised Sentence Representations, 2022, arXiv
    2205.00656, §3.2.

  In other libraries:
    The steps are the same as in the paper's public code. The loss of that code is a binary
    cross-entropy, with e^0 for the candidates that its filter removes.
  """

  count: int
  steps: int
  size: float
  temperature: float

  def __post_init__(self):
    for name, least in (("count", 1), ("steps", 0)):
      value = getattr(self, name)
      if not isinstance(value, int) or value < least:
        raise UserError(f"noise: {name} must be an integer of at least {least}, not {value!r}")
    for name in ("size", "temperature"):
      value = getattr(self, name)
      if not (isinstance(value, int | float) and 0 < value < math.inf):
        raise UserError(f"noise: {name} must be a number above 0, not {value!r}")

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    dtype, d = anchors.vectors.dtype, anchors.vectors.shape[-1]
    wide = jnp.promote_types(dtype, jnp.float32)
    rngs = per_example(rng, jnp.arange(self.count))
    drawn = jax.vmap(lambda rng: jax.random.normal(rng, (d,), wide))(rngs)
    moved = self._moved(drawn, *jax.lax.stop_gradient((anchors, groups)), compare)
    return anchors, (*groups, synthetic_candidates(moved.astype(dtype), groups[0]))

  def _moved(
    self, vectors: Array, anchors: Group, groups: tuple[Group, ...], compare: Compare
  ) -> Array:
    """Moves the vectors by `steps` steps of gradient ascent on L."""
    if not self.steps:
      return vectors
    relation, score, params, same_set, plan = compare
    channels, params = _Logits(relation, self.temperature), jax.lax.stop_gradient(params)

    def log_sum(anchors, groups, same_set):
      return reduce(
        channels, anchors, groups, reductions={"all": log_sum_exp}, score=score,
        score_params=params, same_set=same_set, plan=plan,
      )["all"]  # fmt: skip

    others = log_sum(anchors, groups, same_set)
    anchors = dataclasses.replace(anchors, vectors=anchors.vectors.astype(vectors.dtype))

    def loss(vectors):
      own = log_sum(anchors, (synthetic_candidates(vectors, groups[0]),), False)
      has_pairs = own != -jnp.inf
      total = jnp.logaddexp(others, jnp.where(has_pairs, own, 0))
      return jnp.where(has_pairs, total, 0).sum()

    def step(_, vectors):
      gradient = jax.grad(loss)(vectors)
      largest = jnp.abs(gradient).max(-1, keepdims=True)
      # At low temperatures a vector may have a small share of the sum, and a gradient so short that
      # `unit` would return 0. So the gradient is divided by its largest entry first.
      return vectors + self.size * unit(gradient / jnp.where(largest > 0, largest, 1))

    return jax.lax.fori_loop(0, self.steps, step, vectors)


@dataclasses.dataclass(frozen=True)
class _Logits:
  """The weighted logit as a channel; −∞ for an ignored pair."""

  relation: Callable[..., Pairs]
  temperature: float

  def __call__(self, similarity, a, c, shared):
    pairs = self.relation(a, c, jax.lax.stop_gradient(similarity))
    weight = pairs.positive * c["as_positive"] + pairs.negative * c["as_negative"]
    is_pair = ~(weight <= 0)
    logit = similarity / self.temperature + jnp.log(jnp.where(is_pair, weight, 1))
    return {"all": jnp.where(is_pair, logit, -jnp.inf)}
