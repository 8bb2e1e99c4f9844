"""SimCLR: two views of every example, each other's positive."""

from __future__ import annotations

import dataclasses

from contrastax.core import Encoder, Recipe
from contrastax.methods.base import ContrastiveMethod
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLR(ContrastiveMethod):
  """SimCLR (Chen et al. 2020, arXiv 2002.05709, Algorithm 1).

    x̃₁, x̃₂ = t(x), t'(x)          two random views of each of n examples
    h = f(x̃),  z = g(h)            encoder and projection head, on all 2n at once
    L = mean over the 2n of NT-Xent(z; τ)

  The paper's: τ = 0.5 (CIFAR-10) or 0.1 (ImageNet), LARS, batch 256 to 8,192. With more views
  than two, each has all the others as positives.

  Fields: `encoder` f, what remains after training; `projection` g; `views`, a recipe
  `(key, images, index) -> images`, or a tuple of recipes, one per view; `examples`, the size of
  the data set, for parts that keep a state per example; `loss`, any of
  `contrastax.criteria`; `plan`, how its pairs are evaluated: on several devices
  `Plan(mesh=mesh)`.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input)
    net("projection", embedding(net("encoder", x)))
