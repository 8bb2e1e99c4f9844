"""SimSiam: one view predicts the other, whose gradient is stopped."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe
from contrastax.losses import negative_cosine
from contrastax.methods.base import BaseMethod, summary
from contrastax.networks import Net
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimSiam(BaseMethod):
  """SimSiam: predicts the projection of the other view, without negatives or moving averages.

      z₁, z₂ = g(f(x₁)), g(f(x₂));   p₁, p₂ = h(z₁), h(z₂)
      L = mean over examples of −½ cos(p₁, stop z₂) − ½ cos(p₂, stop z₁)

  In the paper g has three layers of 2,048 units, also with BatchNorm on its output (`norm_out`),
  and h has a bottleneck of 512 units. The paper uses SGD with a learning rate of 0.05 per 256
  images, which is constant for h (`optimizers.sgd(constant="^predictor/")`).

  Args:
    encoder: f. It is kept after training.
    projection: g.
    predictor: h.
    views: a recipe that draws both views, or a tuple of two recipes.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.SimSiam(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   predictor=encoders.projection(),
    ...   views=views.simclr(32),
    ... )

  References:
    Chen and He, "Exploring simple Siamese representation learning", 2021, arXiv 2011.10566,
    Algorithm 1.
  """

  encoder: Encoder
  projection: Encoder
  predictor: Encoder
  views: Recipe | tuple[Recipe, ...]

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input, count=2)
    z = net("projection", embedding(net("encoder", x)))
    p = net("predictor", z)
    loss = negative_cosine(p[0], z[1]) / 2 + negative_cosine(p[1], z[0]) / 2
    return loss, summary(z[0], z[1])
