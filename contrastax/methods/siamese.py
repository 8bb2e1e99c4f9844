"""Siamese: views of one input through one encoder; terms state what is minimized."""

from __future__ import annotations

import dataclasses

from contrastax.core import Encoder, Recipe, Schedule, UserError
from contrastax.methods.base import BaseMethod
from contrastax.paths import part


@dataclasses.dataclass(frozen=True, kw_only=True)
class Siamese(BaseMethod):
  """A method that is assembled from parts, from code or from a config.

    y = f(view),  z = g(y),  p = q(z)       seen as "encoder", "projection", "predictor"
    y', z'                                  with a momentum: "target.encoder", "target.projection"
    objective = Σ_terms weight · term

  Example, BYOL's objective without a class of its own:

    Siamese(
      encoder=…, projection=…, predictor=…, views=views.byol(224), momentum=0.996,
      terms=(Apply(loss=two_predictions, of=("predictor", "target.projection")),),
    )

  Args:
    encoder, projection, predictor: f, g and q; g and q may be None.
    views: a recipe for two views, or a tuple of recipes, one per view.
    momentum: m of the moving averages of f and g, a number or a schedule; None: there are none.
    reads: the output of the encoder that the projection reads, such as "tokens".
    terms: at least one.
  """

  encoder: Encoder
  projection: Encoder | None = None
  predictor: Encoder | None = None
  views: Recipe | tuple[Recipe, ...]
  momentum: float | Schedule | None = None
  reads: str = "embedding"

  def __post_init__(self):
    super().__post_init__()
    if not self.terms:
      raise UserError("Siamese minimizes its terms, and has none; give terms=(Contrast(…),)")
    if self.predictor is not None and self.projection is None:
      raise UserError("Siamese: a predictor reads the projection, and there is none")

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input)
    for run in (net, net.target) if self.momentum is not None else (net,):
      y = part(run("encoder", x), self.reads)
      if self.projection is not None:
        y = run("projection", y)
    if self.predictor is not None:
      net("predictor", {view: net.seen["projection"][view] for view in x})
