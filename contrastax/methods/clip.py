"""CLIP: contrasts two inputs of each example, such as an image and its text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, Temperature
from contrastax.methods.base import ContrastiveMethod, Evaluated
from contrastax.networks import Net
from contrastax.paths import embedding
from contrastax.relations import Relation, other_view, same_example
from contrastax.temperatures import learned
from contrastax.views import unchanged


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIP(ContrastiveMethod):
  """CLIP: contrasts two inputs of each example, encoded by two networks.

      a = g(f(t(x))),  b = g'(f'(t'(y)))          x, y: two inputs of each example
      L = ½ InfoNCE(a → b) + ½ InfoNCE(b → a)

  The negatives of a are the b of the other examples, and vice versa. Both projections need the same
  number of outputs.

  In the paper x is an image and y is its text. The projections are linear. τ is learned, starts at
  0.07 and is at least 0.01. The paper uses AdamW and batches of 32,768.

  Args:
    encoder: f, the encoder of x. It is evaluated.
    projection: g.
    other_encoder: f', the encoder of y.
    other_projection: g'.
    inputs: the names of x and y in the batch.
    views: t, a recipe.
    other_views: t', a recipe.

  The other arguments are those of `ContrastiveMethod`.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.CLIP(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection((), 64),
    ...   other_encoder=encoders.text(),
    ...   other_projection=encoders.projection((), 64),
    ...   views=views.unchanged(),
    ... )

  References:
    Radford et al., "Learning transferable visual models from natural language supervision", 2021,
    arXiv 2103.00020, figure 3.
  """

  encoder: Encoder
  projection: Encoder
  other_encoder: Encoder
  other_projection: Encoder
  inputs: tuple[str, str] = ("image", "text")
  views: Recipe
  other_views: Recipe = unchanged()
  temperature: Temperature | float = learned(0.07)
  relation: Relation = same_example() & other_view()

  # The two inputs of an example are two anchors with a table row each.
  contrasted: ClassVar[Mapping[str, Any]] = {
    "anchors": ("projection", "other_projection"),
    "rows": 2,
  }

  @property
  @override
  def evaluated(self) -> Evaluated:
    return Evaluated("encoder", self.inputs[0], self.views)

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views((self.views,), batch, self.inputs[0])
    y = net.views((self.other_views,), batch, self.inputs[1], first=1)
    net("projection", embedding(net("encoder", x)))
    net("other_projection", embedding(net("other_encoder", y)))
