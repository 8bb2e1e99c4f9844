"""Negatives out of noise, moved to where the anchors crowd: DCLR's."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from contrastax.core import UserError, per_example
from contrastax.negatives.sources import NegativeSource, synthetic_candidates
from contrastax.pairwise import log_sum_exp, reduce, unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class noise(NegativeSource):
  """`count` vectors of noise, the same negatives for every anchor, moved to raise their loss.

    v_c ~ N(0, 1)^d,   then `steps` times   v_c ← v_c + size · g_c / ‖g_c‖,   g = ∂L/∂v
    L = Σ_i ( −s⁺_i/τ + log( Σ_j (w⁺_ij + w⁻_ij) e^{s_ij/τ} + Σ_c e^{s_ic/τ} ) )

  with s the method's score and j all candidates to its left, under the method's relation. Where
  embeddings crowd they are most similar to noise, so it goes there, and pushes them apart. Noise
  is of no example, [count, d], as long as it comes (the cosine asks for directions alone), without
  gradient; what is drawn depends on the step's key and the vector's number only. A step costs what
  `count` further candidates cost, forward and backward; candidates to the left are met once.

  count: at least 1; in the paper 1 to 5 times the batch. steps: at least 0; 0 leaves noise as
  drawn. size: > 0, in units of the vectors; 1e-3 in the public code. temperature: τ > 0 of L,
  given here, because the method's may be learned or one per anchor; 0.05 in the public code.

  Zhou et al. 2022, arXiv 2205.00656, §3.2. The steps are those of its public code; its loss is
  another, a binary cross-entropy with e^0 for what its filter drops.

  Raises UserError for numbers outside these ranges.
  """

  count: int
  steps: int
  size: float
  temperature: float

  def __post_init__(self):
    for name, least in (("count", 1), ("steps", 0)):
      value = getattr(self, name)
      if not isinstance(value, int) or value < least:
        raise UserError(f"noise: {name} is a whole number, at least {least}, not {value!r}")
    for name in ("size", "temperature"):
      value = getattr(self, name)
      if not (isinstance(value, int | float) and 0 < value < math.inf):
        raise UserError(f"noise: {name} is a number above 0, not {value!r}")

  def candidates(self, state, anchors, groups, rng, compare):
    dtype, d = anchors.vectors.dtype, anchors.vectors.shape[-1]
    wide = jnp.promote_types(dtype, jnp.float32)
    keys = per_example(rng, jnp.arange(self.count))
    drawn = jax.vmap(lambda rng: jax.random.normal(rng, (d,), wide))(keys)
    moved = self._moved(drawn, *jax.lax.stop_gradient((anchors, groups)), compare)
    return anchors, (*groups, synthetic_candidates(moved.astype(dtype), groups[0]))

  def _moved(self, vectors, anchors, groups, compare):
    if not self.steps:
      return vectors
    relation, score, params, same_set, plan = compare
    channels, params = _Logits(relation, self.temperature), jax.lax.stop_gradient(params)

    def log_sum(anchors, groups, same_set):
      return reduce(
        channels, anchors, groups, reductions={"all": log_sum_exp}, score=score, score_params=params,
        same_set=same_set, plan=plan,
      )["all"]  # fmt: skip

    others = log_sum(anchors, groups, same_set)
    anchors = dataclasses.replace(anchors, vectors=anchors.vectors.astype(vectors.dtype))

    def loss(vectors):
      own = log_sum(anchors, (synthetic_candidates(vectors, groups[0]),), False)
      met = own != -jnp.inf
      return jnp.where(met, jnp.logaddexp(others, jnp.where(met, own, 0)), 0).sum()

    def step(_, vectors):
      gradient = jax.grad(loss)(vectors)
      largest = jnp.abs(gradient).max(-1, keepdims=True)
      # At low temperatures its length is that of a small share, which `unit` would take for 0.
      return vectors + self.size * unit(gradient / jnp.where(largest > 0, largest, 1))

    return jax.lax.fori_loop(0, self.steps, step, vectors)


@dataclasses.dataclass(frozen=True)
class _Logits:
  relation: object
  temperature: float

  def __call__(self, similarity, a, c, shared):
    pairs = self.relation(a, c, jax.lax.stop_gradient(similarity))
    weight = pairs.positive * c["as_positive"] + pairs.negative * c["as_negative"]
    there = ~(weight <= 0)
    logit = similarity / self.temperature + jnp.log(jnp.where(there, weight, 1))
    return {"all": jnp.where(there, logit, -jnp.inf)}
