"""CLIP: two encoders, of two kinds of input, meet in one space."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from contrastax.core import (
  Criterion,
  Embedded,
  Encoder,
  Negatives,
  Recipe,
  Score,
  Temperature,
  UserError,
  named,
)
from contrastax.losses.groups import info_nce
from contrastax.methods import contrast, networks
from contrastax.negatives import in_batch
from contrastax.pairwise import Plan, cosine
from contrastax.positives import Relation, other_view, same_example
from contrastax.temperatures import learned
from contrastax.views.images import as_input

CHAINS = (("encoder", "projection"), ("other_encoder", "other_projection"))


def unchanged(key, inputs, index):
  """The inputs as evaluation gives them to an encoder: images in [0, 1], others as they are."""
  return as_input(inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
  """CLIP (Radford et al. 2021, arXiv 2103.00020, figure 3), of any two kinds of input.

    a = g(f(t(x))),  b = g'(f'(t'(y)))          x, y: two inputs of each example
    L = ½ InfoNCE(a → b) + ½ InfoNCE(b → a),    negatives: the other examples' inputs of that kind

  The paper's: x an image, y its text, linear projections, τ learned from 0.07 and at least
  0.01, batch 32,768, AdamW. The encoders have nothing in common but the last dimension.

  Fields: `inputs`, the names of x and y in the batch; `encoder` f and `projection` g of x, what
  evaluation sees; `other_encoder` f' and `other_projection` g' of y; `views` t and `other_views`
  t', `(key, inputs, index) -> inputs`; for the others see `SimCLR`.
  """

  encoder: Encoder
  projection: Encoder
  other_encoder: Encoder
  other_projection: Encoder
  inputs: tuple[str, str] = ("image", "text")
  views: Recipe
  other_views: Recipe = unchanged
  temperature: Temperature = learned(0.07)
  loss: Criterion = info_nce
  negatives: Negatives = in_batch()
  relation: Relation = same_example() & other_view()
  score: Score = cosine()
  examples: int = 0
  plan: Plan = Plan()

  objective = contrast.objective
  advance = networks.stay

  def init(self, key, batch):
    params, state = {}, {}
    for x, names in zip(self._draw(batch, key), CHAINS, strict=True):
      own, own_state = networks.init_chain(self, names, key, x)
      params, state = {**params, **own}, {**state, **own_state}
    return contrast.complete(self, params, state, batch, key, rows=len(CHAINS) * self.examples)

  def embed(self, params, state, batch, key):
    vectors = []
    for x, names in zip(self._draw(batch, key), CHAINS, strict=True):
      (z,), state = networks.forward(self, names, params, state, [x], key)
      vectors.append(z)
    both = contrast.groups_of(batch, vectors, [0, 1])
    # An example's x and its y are two anchors, each with what is kept of it.
    index, view = both.side["index"], both.side["view"]
    row = jnp.where(index < self.examples, index + self.examples * view, -1)
    return Embedded(both.attach(row=row), both, state, same_set=True)

  def _draw(self, batch, key):
    for name in self.inputs:
      if name not in batch:
        raise UserError(f"Clip: the batch has no {name!r}; it has {', '.join(sorted(batch))}")
    recipes = (self.views, self.other_views)
    return [
      recipe(named(key, f"view {v}"), batch[name], batch["index"])
      for v, (recipe, name) in enumerate(zip(recipes, self.inputs, strict=True))
    ]
