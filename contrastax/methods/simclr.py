"""SimCLR: contrasts two views of every example."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe
from contrastax.methods.base import ContrastiveMethod
from contrastax.networks import Net
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLR(ContrastiveMethod):
  """SimCLR: two views of an example are positives, views of other examples are negatives.

      x̃₁, x̃₂ = t(x), t'(x)           two random views of each of n examples
      z = g(f(x̃))                    embedding and projection of all 2n views at once
      L = mean over the 2n of NT-Xent(z; τ)

  The paper uses τ = 0.5 (CIFAR-10) or 0.1 (ImageNet), LARS and batches of 256 to 8,192. With more than
  two views, each view has all other views of its example as positives.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    views: a recipe that draws two views, or a tuple of recipes, one per view.

  The other arguments are those of `ContrastiveMethod`.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.SimCLR(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   views=views.simclr(32),
    ...   temperature=0.5,
    ... )

  References:
    Chen et al., "A simple framework for contrastive learning of visual representations", 2020, arXiv
    2002.05709, Algorithm 1.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input)
    net("projection", embedding(net("encoder", x)))
