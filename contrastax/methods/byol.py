"""BYOL: one view predicts the target projection of the other; there are no negatives."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, Schedule
from contrastax.losses import negative_cosine
from contrastax.methods.base import BaseMethod, summary
from contrastax.networks import Net
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOL(BaseMethod):
  """BYOL: predicts the projection of a moving average of the network.

      p₁, p₂ = q(g(f(x₁))), q(g(f(x₂)))
      z₁, z₂ = g'(f'(x₁)), g'(f'(x₂))             without gradient
      L = mean over examples of ‖p̄₁ − z̄₂‖² + ‖p̄₂ − z̄₁‖²,   v̄ = v/‖v‖
      θ' ← m θ' + (1 − m) θ

  The paper increases m from 0.996 to 1 with `schedules.cosine`. g and q have one hidden layer of
  4,096 units and 256 outputs. The paper uses LARS with a learning rate of 0.2 per 256 images and
  batches of 4,096.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    predictor: q.
    views: a recipe that draws both views, or a tuple of two recipes, as `views.byol` returns it.
    momentum: m, a number or a schedule.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.BYOL(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   predictor=encoders.projection(),
    ...   views=views.byol(32),
    ... )

  References:
    Grill et al., "Bootstrap your own latent", 2020, arXiv 2006.07733, Algorithm 1.
  """

  encoder: Encoder
  projection: Encoder
  predictor: Encoder
  views: Recipe | tuple[Recipe, ...]
  momentum: float | Schedule = 0.996

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input, count=2)
    p = net("predictor", net("projection", embedding(net("encoder", x))))
    z = net.target("projection", embedding(net.target("encoder", x)))
    loss = 4 + 2 * negative_cosine(p[0], z[1]) + 2 * negative_cosine(p[1], z[0])
    return loss, summary(p[0], z[1])
