"""VICReg: views agree, every dimension varies, and no two vary together."""

from __future__ import annotations

import dataclasses

from contrastax import losses
from contrastax.core import Encoder, Recipe
from contrastax.methods.base import BaseMethod, summary
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class VICReg(BaseMethod):
  """VICReg (Bardes et al. 2022, arXiv 2105.04906, Algorithm 1).

    z₁, z₂ = g(f(x₁)), g(f(x₂))
    L = λ invariance(z₁, z₂) + μ variance(z₁, z₂) + ν covariance(z₁, z₂)

  The paper's: λ = μ = 25, ν = 1, g of three layers of 8,192, LARS with a rate of 0.2 per 256
  images, batch 2,048. See `losses.vicreg` for the terms.

  Fields: `encoder` f, `projection` g, the paper's expander; `views`, a recipe, or a tuple of two;
  `invariance_weight` λ, `variance_weight` μ, `covariance_weight` ν.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  invariance_weight: float = 25.0
  variance_weight: float = 25.0
  covariance_weight: float = 1.0

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input, count=2)
    z = net("projection", embedding(net("encoder", x)))
    loss = losses.vicreg(
      z[0], z[1], invariance_weight=self.invariance_weight,
      variance_weight=self.variance_weight, covariance_weight=self.covariance_weight,
    )  # fmt: skip
    return loss, summary(z[0], z[1])
