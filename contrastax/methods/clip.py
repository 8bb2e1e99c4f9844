"""CLIP: two encoders, of two kinds of input, meet in one space."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from contrastax.core import Encoder, Recipe, Temperature
from contrastax.methods.base import ContrastiveMethod, Evaluated
from contrastax.paths import embedding
from contrastax.relations import Relation, other_view, same_example
from contrastax.temperatures import learned
from contrastax.views import unchanged


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIP(ContrastiveMethod):
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
  other_views: Recipe = unchanged()
  temperature: Temperature = learned(0.07)
  relation: Relation = same_example() & other_view()

  # An example's x and its y are two anchors, each with what is kept of it.
  contrasted: ClassVar = {"anchors": ("projection", "other_projection"), "rows": 2}

  @property
  def evaluated(self):
    return Evaluated("encoder", self.inputs[0], self.views)

  def see(self, net, batch):
    x = net.views((self.views,), batch, self.inputs[0])
    y = net.views((self.other_views,), batch, self.inputs[1], first=1)
    net("projection", embedding(net("encoder", x)))
    net("other_projection", embedding(net("other_encoder", y)))
