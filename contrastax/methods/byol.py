"""BYOL: one view predicts the other as a slowly moving encoder sees it; no negatives."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from contrastax.core import Encoder, Recipe, Schedule
from contrastax.losses import negative_cosine
from contrastax.methods import networks


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOL:
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
  views: Recipe | tuple[Recipe, Recipe]
  momentum: float | Schedule = 0.996

  trained: ClassVar = ("encoder", "projection", "predictor")
  averaged: ClassVar = ("encoder", "projection")
  init = networks.init
  advance = networks.follow

  def objective(self, params, state, batch, key):
    x = networks.two_views(self, batch, key)
    (p1, p2), state = networks.forward(self, self.trained, params, state, x, key)
    (z1, z2), state = networks.targets(self, state, x, key)
    loss = (4 + 2 * negative_cosine(p1, z2) + 2 * negative_cosine(p2, z1)).mean()
    return loss, (state, networks.summary(loss, p1, z2))
