"""Barlow Twins: the dimensions of two views correlate each with itself and with no other."""

from __future__ import annotations

import dataclasses

from contrastax import losses
from contrastax.core import Encoder, Recipe
from contrastax.methods.base import BaseMethod, summary
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class BarlowTwins(BaseMethod):
  """Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230, Algorithm 1).

    z₁, z₂ = g(f(x₁)), g(f(x₂))
    L = Σ_k (C_kk − 1)² + λ Σ_{k ≠ l} C_kl²,   C the cross-correlation of z₁ and z₂ over the batch

  The paper's: λ = 0.0051, g of three layers of 8,192, LARS, batch 2,048; its code multiplies
  the rate of weights by 0.2 and of biases by 0.0048 per 256 images. See `losses.barlow_twins`.

  Fields: `encoder` f, `projection` g; `views`, a recipe, or a tuple of two;
  `redundancy_weight` λ.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  redundancy_weight: float = 0.0051

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input, count=2)
    z = net("projection", embedding(net("encoder", x)))
    loss = losses.barlow_twins(z[0], z[1], redundancy_weight=self.redundancy_weight)
    return loss, summary(z[0], z[1])
