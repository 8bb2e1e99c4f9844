"""SimSiam: one view predicts the other, and the gradient stops there."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from contrastax.core import Encoder, Recipe
from contrastax.losses import negative_cosine
from contrastax.methods import networks


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimSiam:
  """SimSiam (Chen & He 2021, arXiv 2011.10566, Algorithm 1).

    z₁, z₂ = g(f(x₁)), g(f(x₂));   p₁, p₂ = h(z₁), h(z₂)
    L = mean over examples of −½ cos(p₁, stop z₂) − ½ cos(p₂, stop z₁)

  The paper's: g of three layers of 2,048 with BatchNorm on its output too (`norm_out`), h a
  bottleneck of 512, SGD with a rate of 0.05 per 256 images, which for h stays constant
  (`optimizers.sgd(constant="^predictor/")`).

  Fields: `encoder` f, `projection` g, `predictor` h; `views`, a recipe, or a tuple of two.
  """

  encoder: Encoder
  projection: Encoder
  predictor: Encoder
  views: Recipe | tuple[Recipe, Recipe]

  trained: ClassVar = ("encoder", "projection", "predictor")
  averaged: ClassVar = ()
  init = networks.init
  advance = networks.stay

  def objective(self, params, state, batch, key):
    x = networks.two_views(self, batch, key)
    (z1, z2), state = networks.forward(self, ("encoder", "projection"), params, state, x, key)
    (p1, p2), state = networks.forward(self, ("predictor",), params, state, [z1, z2], key)
    loss = (negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2).mean()
    return loss, (state, networks.summary(loss, z1, z2))
