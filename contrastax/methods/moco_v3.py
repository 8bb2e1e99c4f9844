"""MoCo v3: momentum contrast with a predictor and without a queue."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, Schedule, Temperature
from contrastax.methods.base import ContrastiveMethod
from contrastax.networks import Net
from contrastax.paths import embedding
from contrastax.relations import Relation, other_view, same_example
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCoV3(ContrastiveMethod):
  """MoCo v3: momentum contrast of both views with the keys of the batch.

      q₁, q₂ = p(g(f(x₁))), p(g(f(x₂)))
      k₁, k₂ = g'(f'(x₁)), g'(f'(x₂))             without gradient
      L = ½ ctr(q₁, k₂) + ½ ctr(q₂, k₁)
      θ' ← m θ' + (1 − m) θ

  ctr is InfoNCE; its negatives are the other keys of the same view. The paper uses τ = 0.2 (ViT) or 1.0
  (ResNet-50), m from 0.99 to 1 with `schedules.cosine` and batches of 4,096.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    predictor: p.
    views: a recipe that draws both views, or a tuple of two recipes.
    momentum: m, a number or a schedule.

  The other arguments are those of `ContrastiveMethod`.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.MoCoV3(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   predictor=encoders.projection(),
    ...   views=views.simclr(32),
    ... )

  References:
    Chen et al., "An empirical study of training self-supervised vision transformers", 2021, arXiv
    2104.02057, Algorithm 1.

  In other libraries:
    The code of the paper multiplies the sum of both directions by 2τ, so its loss is 4τ L.
  """

  encoder: Encoder
  projection: Encoder
  predictor: Encoder
  views: Recipe | tuple[Recipe, ...]
  momentum: float | Schedule = 0.99
  temperature: Temperature | float = fixed(0.2)
  relation: Relation = same_example() & other_view()

  contrasted: ClassVar[Mapping[str, Any]] = {"anchors": "predictor", "keys": "target.projection"}

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input, count=2)
    net("predictor", net("projection", embedding(net("encoder", x))))
    net.target("projection", embedding(net.target("encoder", x)))
