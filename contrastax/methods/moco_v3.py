"""MoCo v3: MoCo without a queue, with a predictor, in both directions."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from contrastax.core import (
  Criterion,
  Embedded,
  Encoder,
  Negatives,
  Recipe,
  Schedule,
  Score,
  Temperature,
)
from contrastax.losses.groups import info_nce
from contrastax.methods import contrast, networks
from contrastax.negatives import in_batch
from contrastax.pairwise import Plan, cosine
from contrastax.positives import Relation, other_view, same_example
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCoV3:
  """MoCo v3 (Chen et al. 2021, arXiv 2104.02057, Algorithm 1).

    q₁, q₂ = p(g(f(x₁))), p(g(f(x₂)))
    k₁, k₂ = g'(f'(x₁)), g'(f'(x₂))             without gradient
    L = ½ ctr(q₁, k₂) + ½ ctr(q₂, k₁),   ctr: InfoNCE with the other keys of that view
    θ' ← m θ' + (1 − m) θ

  The paper's: τ = 0.2 (ViT) or 1.0 (ResNet-50), m from 0.99 to 1 by `schedules.cosine`, batch
  4,096; its code multiplies the sum of both directions by 2τ: 4τ times L.

  Fields: `predictor` p; `momentum` m, a number or a schedule; for the others see `SimCLR`.
  """

  encoder: Encoder
  projection: Encoder
  predictor: Encoder
  views: Recipe | tuple[Recipe, Recipe]
  momentum: float | Schedule = 0.99
  temperature: Temperature = fixed(0.2)
  loss: Criterion = info_nce
  negatives: Negatives = in_batch()
  relation: Relation = same_example() & other_view()
  score: Score = cosine()
  examples: int = 0
  plan: Plan = Plan()

  trained: ClassVar = ("encoder", "projection", "predictor")
  averaged: ClassVar = ("encoder", "projection")
  init = contrast.init
  objective = contrast.objective
  advance = networks.follow

  def embed(self, params, state, batch, key):
    x = networks.two_views(self, batch, key)
    q, state = networks.forward(self, self.trained, params, state, x, key)
    k, state = networks.targets(self, state, x, key)
    anchors, keys = contrast.groups_of(batch, q, [0, 1]), contrast.groups_of(batch, k, [0, 1])
    return Embedded(anchors, keys, state, same_set=False)
