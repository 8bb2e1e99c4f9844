"""VICReg: variance, invariance and covariance regularization."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from contrastax import losses
from contrastax.core import Array, Batch, Encoder, Metrics, Recipe
from contrastax.methods.base import BaseMethod, summary
from contrastax.networks import Net
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class VICReg(BaseMethod):
  """VICReg: views agree, every dimension varies, and the dimensions are uncorrelated.

      z₁, z₂ = g(f(x₁)), g(f(x₂))
      L = λ invariance(z₁, z₂) + μ variance(z₁, z₂) + ν covariance(z₁, z₂)

  See `losses.vicreg` for the three terms. The paper uses λ = μ = 25, ν = 1, three layers of 8,192 units
  as g, LARS with a learning rate of 0.2 per 256 images and batches of 2,048.

  Args:
    encoder: f. It is kept after training.
    projection: g, the expander of the paper.
    views: a recipe that draws both views, or a tuple of two recipes.
    invariance_weight: λ.
    variance_weight: μ.
    covariance_weight: ν.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.VICReg(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   views=views.simclr(32),
    ... )

  References:
    Bardes et al., "VICReg", 2022, arXiv 2105.04906, Algorithm 1.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  invariance_weight: float = 25.0
  variance_weight: float = 25.0
  covariance_weight: float = 1.0

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input, count=2)
    z = net("projection", embedding(net("encoder", x)))
    loss = losses.vicreg(
      z[0], z[1], invariance_weight=self.invariance_weight,
      variance_weight=self.variance_weight, covariance_weight=self.covariance_weight,
    )  # fmt: skip
    return loss, summary(z[0], z[1])
