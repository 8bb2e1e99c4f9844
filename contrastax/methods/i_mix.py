"""i-Mix: mixed images are to find each example that they are made of, by their shares."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from contrastax.core import Encoder, Recipe, Temperature
from contrastax.methods.base import ContrastiveMethod
from contrastax.paths import embedding
from contrastax.relations import Relation, virtual_labels
from contrastax.temperatures import fixed
from contrastax.views import mixup


@dataclasses.dataclass(frozen=True, kw_only=True)
class IMix(ContrastiveMethod):
  """i-Mix of the N-pair loss (Lee et al. 2021, arXiv 2010.08887, eq. 4 and Algorithm 1).

    x̂_i = λ_i t(x_i) + (1 − λ_i) t(x_p(i));   a = g(f(x̂)),  k = g(f(t'(x)))
    L = mean over i of λ_i CE_i(i) + (1 − λ_i) CE_i(p(i)),   CE_i(j) = −log softmax_j(a_i·k/τ)

  Only the anchors are mixed. Gradients flow through both. The paper's: λ ~ Beta(1, 1), a
  permutation p of the batch; its code takes the larger of λ and 1 − λ, so that the own example
  dominates, and its p may leave an example alone. τ = 0.2 (images), where domains have no views
  of their own, `mix` alone serves.

  Fields: `mix`, `views.mixup(…)` or `views.cutmix(…)`; for the others see `SimCLR`.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  mix: Recipe = mixup()
  temperature: Temperature = fixed(0.2)
  relation: Relation = virtual_labels()

  contrasted: ClassVar = {
    "anchors": "projection.0",
    "keys": "projection.1",
    "attached": ("mix.partner", "mix.share"),
  }

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input, count=2)
    mixed, partner, share = self.mix(net.key, x[0], batch["index"])
    net.record("mix", {"partner": jnp.take(batch["index"], partner), "share": share})
    net("projection", embedding(net("encoder", {0: mixed, 1: x[1]})))
