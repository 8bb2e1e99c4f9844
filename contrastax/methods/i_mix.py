"""i-Mix: mixed images are classified as their two source examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, Temperature
from contrastax.methods.base import ContrastiveMethod
from contrastax.networks import Net
from contrastax.paths import embedding
from contrastax.relations import Relation, virtual_labels
from contrastax.temperatures import fixed
from contrastax.views import mixup


@dataclasses.dataclass(frozen=True, kw_only=True)
class IMix(ContrastiveMethod):
  """i-Mix of the N-pair loss: mixes the anchors and their virtual labels.

      x̂_i = λ_i t(x_i) + (1 − λ_i) t(x_p(i));   a = g(f(x̂)),  k = g(f(t'(x)))
      L = mean over i of λ_i CE_i(i) + (1 − λ_i) CE_i(p(i)),   CE_i(j) = −log softmax_j(a_i·k/τ)

  Only the anchors are mixed. Both a and k have a gradient. The paper draws λ from Beta(1, 1) and
  uses a permutation p of the batch and τ = 0.2 for images. For domains without augmentations,
  mixing is its only augmentation. The code of the paper replaces λ by the larger of λ and 1 − λ, so
  that the first example dominates, and its p may have fixed points.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    views: a recipe that draws both views, or a tuple of two recipes.
    mix: `views.mixup(…)` or `views.cutmix(…)`.

  The other arguments are those of `ContrastiveMethod`.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.IMix(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   views=views.simclr(32),
    ...   mix=views.mixup(),
    ... )

  References:
    Lee et al., "i-Mix", 2021, arXiv 2010.08887, eq. 4 and Algorithm 1.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  mix: Recipe = mixup()
  temperature: Temperature | float = fixed(0.2)
  relation: Relation = virtual_labels()

  contrasted: ClassVar[Mapping[str, Any]] = {
    "anchors": "projection.0",
    "keys": "projection.1",
    "attached": ("mix.partner", "mix.share"),
  }

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input, count=2)
    mixed, partner, share = self.mix(net.key, x[0], batch["index"])
    net.record("mix", {"partner": jnp.take(batch["index"], partner), "share": share})
    net("projection", embedding(net("encoder", {0: mixed, 1: x[1]})))
