"""i-Mix: mixed images are to find each example that they are made of, by their shares."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from contrastax.core import Criterion, Embedded, Encoder, Negatives, Recipe, Score, Temperature
from contrastax.losses.groups import info_nce
from contrastax.methods import contrast, networks
from contrastax.negatives import in_batch
from contrastax.pairwise import Plan, cosine
from contrastax.positives import Relation, virtual_labels
from contrastax.temperatures import fixed
from contrastax.views import mixup


@dataclasses.dataclass(frozen=True, kw_only=True)
class IMix:
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
  views: Recipe | tuple[Recipe, Recipe]
  mix: Recipe = mixup()
  temperature: Temperature = fixed(0.2)
  loss: Criterion = info_nce
  negatives: Negatives = in_batch()
  relation: Relation = virtual_labels()
  score: Score = cosine()
  examples: int = 0
  plan: Plan = Plan()

  trained: ClassVar = ("encoder", "projection")
  averaged: ClassVar = ()
  init = contrast.init
  objective = contrast.objective
  advance = networks.stay

  def embed(self, params, state, batch, key):
    of_anchor, of_key = networks.two_views(self, batch, key)
    mixed, partner, share = self.mix(key, of_anchor, batch["index"])
    x = [mixed, of_key]
    (a, k), state = networks.forward(self, self.trained, params, state, x, key)
    anchors, keys = contrast.groups_of(batch, [a], [0]), contrast.groups_of(batch, [k], [1])
    anchors = anchors.attach(partner=jnp.take(batch["index"], partner), share=share)
    return Embedded(anchors, keys, state, same_set=False)
