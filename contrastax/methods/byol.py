"""BYOL: one view predicts the other as a slowly moving encoder sees it; no negatives."""

from __future__ import annotations

import dataclasses

from contrastax.core import Encoder, Recipe, Schedule
from contrastax.losses import negative_cosine
from contrastax.methods.base import BaseMethod, summary
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOL(BaseMethod):
  """BYOL (Grill et al. 2020, arXiv 2006.07733, Algorithm 1).

    p₁, p₂ = q(g(f(x₁))), q(g(f(x₂)))
    z₁, z₂ = g'(f'(x₁)), g'(f'(x₂))             without gradient
    L = mean over examples of ‖p̄₁ − z̄₂‖² + ‖p̄₂ − z̄₁‖²,   v̄ = v/‖v‖
    θ' ← m θ' + (1 − m) θ

  The paper's: m from 0.996 to 1 by `schedules.cosine`, g and q with one hidden layer of 4,096
  and 256 dimensions, LARS with a rate of 0.2 per 256 images, batch 4,096.

  Fields: `encoder` f, `projection` g, `predictor` q; `views`, a recipe, or a tuple of two, as
  `views.byol` gives it; `momentum` m, a number or a schedule.
  """

  encoder: Encoder
  projection: Encoder
  predictor: Encoder
  views: Recipe | tuple[Recipe, ...]
  momentum: float | Schedule = 0.996

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input, count=2)
    p = net("predictor", net("projection", embedding(net("encoder", x))))
    z = net.target("projection", embedding(net.target("encoder", x)))
    loss = 4 + 2 * negative_cosine(p[0], z[1]) + 2 * negative_cosine(p[1], z[0])
    return loss, summary(p[0], z[1])
