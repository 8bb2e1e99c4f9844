"""Barlow Twins: the cross-correlation of two views becomes the identity matrix."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from contrastax import losses
from contrastax.core import Array, Batch, Encoder, Metrics, Recipe
from contrastax.methods.base import BaseMethod, summary
from contrastax.networks import Net
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class BarlowTwins(BaseMethod):
  """Barlow Twins: decorrelates the dimensions of the projection.

      z₁, z₂ = g(f(x₁)), g(f(x₂))
      L = Σ_k (C_kk − 1)² + λ Σ_{k ≠ l} C_kl²

  C is the cross-correlation of z₁ and z₂ over the batch; see `losses.barlow_twins`.

  The paper uses λ = 0.0051, three layers of 8,192 units as g, LARS and batches of 2,048. Its code
  multiplies the learning rate of weights by 0.2 and of biases by 0.0048 per 256 images.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    views: a recipe that draws both views, or a tuple of two recipes.
    redundancy_weight: λ.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.BarlowTwins(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   views=views.simclr(32),
    ... )

  References:
    Zbontar et al., "Barlow Twins", 2021, arXiv 2103.03230, Algorithm 1.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  redundancy_weight: float = 0.0051

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input, count=2)
    z = net("projection", embedding(net("encoder", x)))
    loss = losses.barlow_twins(z[0], z[1], redundancy_weight=self.redundancy_weight)
    return loss, summary(z[0], z[1])
