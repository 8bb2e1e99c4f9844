"""MoCo v3: MoCo without a queue, with a predictor, in both directions."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from contrastax.core import Encoder, Recipe, Schedule, Temperature
from contrastax.methods.base import ContrastiveMethod
from contrastax.paths import embedding
from contrastax.relations import Relation, other_view, same_example
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCoV3(ContrastiveMethod):
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
  views: Recipe | tuple[Recipe, ...]
  momentum: float | Schedule = 0.99
  temperature: Temperature = fixed(0.2)
  relation: Relation = same_example() & other_view()

  contrasted: ClassVar = {"anchors": "predictor", "keys": "target.projection"}

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input, count=2)
    net("predictor", net("projection", embedding(net("encoder", x))))
    net.target("projection", embedding(net.target("encoder", x)))
