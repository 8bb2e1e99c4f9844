"""SimSiam: one view predicts the other, and the gradient stops there."""

from __future__ import annotations

import dataclasses

from contrastax.core import Encoder, Recipe
from contrastax.losses import negative_cosine
from contrastax.methods.base import BaseMethod, summary
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimSiam(BaseMethod):
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
  views: Recipe | tuple[Recipe, ...]

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input, count=2)
    z = net("projection", embedding(net("encoder", x)))
    p = net("predictor", z)
    loss = negative_cosine(p[0], z[1]) / 2 + negative_cosine(p[1], z[0]) / 2
    return loss, summary(z[0], z[1])
