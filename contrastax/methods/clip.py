"""CLIP: two encoders, of two kinds of input, meet in one space."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from contrastax.core import Encoder, Recipe, Temperature
from contrastax.methods.base import ContrastiveMethod, Evaluated
from contrastax.networks import embedding
from contrastax.positives import Relation, other_view, same_example
from contrastax.temperatures import learned
from contrastax.views import unchanged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip(ContrastiveMethod):
  """The inputs as evaluation gives them to an encoder: images in [0, 1], others as they are."""

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
