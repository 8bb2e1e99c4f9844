"""NNCLR: the positive is the nearest neighbour, in a support set, of the other view."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from contrastax.core import (
  Criterion,
  Embedded,
  Encoder,
  Group,
  Negatives,
  Recipe,
  Score,
  Temperature,
)
from contrastax.losses.groups import info_nce
from contrastax.methods import contrast, networks
from contrastax.negatives import entries, hardest, in_batch, queue
from contrastax.pairwise import Plan, cosine
from contrastax.positives import Relation, other_view, same_example
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class NNCLR:
  """NNCLR (Dwibedi et al. 2021, arXiv 2104.14548, eqs. 2 to 4).

    z₁, z₂ = g(f(x₁)), g(f(x₂));   q = p(z)
    n_i = the vector of the support set of the highest cosine with z_i, without gradient
    L = ½ InfoNCE(n₁ → q₂) + ½ InfoNCE(n₂ → q₁),   negatives: the other examples' q of that view

  The support set is a queue of `support` older z₁; until it holds another example, z_i stands
  for n_i. The paper's: 98,304 of them, τ = 0.1, batch 4,096, output BatchNorm in g. The paper
  allows a neighbour that is the example itself, an epoch ago; here it is another one, which
  differs where the support set is not small beside the data.

  Fields: `predictor` p; for the others see `SimCLR`.
  """

  encoder: Encoder
  projection: Encoder
  predictor: Encoder
  views: Recipe | tuple[Recipe, Recipe]
  support: int = 98304
  temperature: Temperature = fixed(0.1)
  loss: Criterion = info_nce
  negatives: Negatives = in_batch()
  relation: Relation = same_example() & other_view()
  score: Score = cosine()
  examples: int = 0
  plan: Plan = Plan()

  trained: ClassVar = ("encoder", "projection", "predictor")
  averaged: ClassVar = ()
  objective = contrast.objective
  advance = networks.stay

  def init(self, key, batch):
    params, state = networks.init(self, key, batch)
    x = networks.two_views(self, batch, key)
    first, *_ = jax.eval_shape(lambda: self._project(params, state, x, key)[0])
    keys = jax.eval_shape(lambda z: contrast.groups_of(batch, [z], [0]), first)
    return contrast.complete(
      self,
      params,
      {**state, "support": queue(self.support).init(key, keys, self.examples)},
      batch,
      key,
    )

  def embed(self, params, state, batch, key):
    x = networks.two_views(self, batch, key)
    z, state = self._project(params, state, x, key)
    q, state = networks.forward(self, ("predictor",), params, state, z, key)
    z = jax.lax.stop_gradient(contrast.groups_of(batch, z, [0, 1]))
    found = hardest(z, (entries(state["support"]),), 1, relation=same_example(), plan=self.plan)
    there = found.side["as_negative"] > 0  # [2n, 1]
    neighbours = Group(jnp.where(there, found.vectors[:, 0], z.vectors), z.side)
    older = queue(self.support).advance(
      state["support"], jax.tree.map(lambda a: a[: len(a) // 2], z)
    )
    keys = contrast.groups_of(batch, q, [0, 1])
    return Embedded(neighbours, keys, {**state, "support": older}, same_set=False)

  def _project(self, params, state, x, key):
    return networks.forward(self, ("encoder", "projection"), params, state, x, key)
