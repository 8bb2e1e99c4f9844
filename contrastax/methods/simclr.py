"""SimCLR: two views of every example, each other's positive."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from contrastax.core import Criterion, Embedded, Encoder, Negatives, Recipe, Score, Temperature
from contrastax.losses.groups import info_nce
from contrastax.methods import contrast, networks
from contrastax.negatives import in_batch
from contrastax.pairwise import Plan, cosine
from contrastax.positives import Relation, same_example
from contrastax.temperatures import fixed
from contrastax.views import draw_views


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLR:
  """SimCLR (Chen et al. 2020, arXiv 2002.05709, Algorithm 1).

    x̃₁, x̃₂ = t(x), t'(x)          two random views of each of n examples
    h = f(x̃),  z = g(h)            encoder and projection head, on all 2n at once
    L = mean over the 2n of NT-Xent(z; τ)

  The paper's: τ = 0.5 (CIFAR-10) or 0.1 (ImageNet), LARS, batch 256 to 8,192. With more views
  than two, each has all the others as positives.

  Fields: `encoder` f, what remains after training; `projection` g; `views`, a recipe
  `(key, images, index) -> images`, or a tuple of recipes, one per view; `examples`, the size of
  the data set, for parts that keep a state per example; `loss`, any of
  `contrastax.losses.groups`; `plan`, how its pairs are evaluated: on several devices
  `Plan(mesh=mesh)`.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  temperature: Temperature = fixed(0.5)
  loss: Criterion = info_nce
  negatives: Negatives = in_batch()
  relation: Relation = same_example()
  score: Score = cosine()
  examples: int = 0
  plan: Plan = Plan()

  trained: ClassVar = ("encoder", "projection")
  averaged: ClassVar = ()
  init = contrast.init
  objective = contrast.objective
  advance = networks.stay

  def embed(self, params, state, batch, key):
    x = draw_views(self.views, key, batch["image"], batch["index"])
    z, state = networks.forward(self, self.trained, params, state, x, key)
    both = contrast.groups_of(batch, z, range(len(z)))
    return Embedded(both, both, state, same_set=True)
