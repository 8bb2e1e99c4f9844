"""Siamese: views of one input through one encoder, with any terms."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, Schedule, UserError
from contrastax.methods.base import BaseMethod
from contrastax.networks import Net
from contrastax.paths import part


@dataclasses.dataclass(frozen=True, kw_only=True)
class Siamese(BaseMethod):
  """Encodes views of one input; its terms are the objective.

      y = f(view),  z = g(y),  p = q(z)       paths "encoder", "projection", "predictor"
      y', z'                                  with a momentum: "target.encoder", "target.projection"
      objective = Σ over terms of weight · term

  Args:
    encoder: f. It is kept after training.
    projection: g, or None.
    predictor: q, or None.
    views: a recipe that draws two views, or a tuple of recipes, one per view.
    momentum: m of the moving averages of f and g, a number or a schedule. None: there are no moving
      averages.
    reads: the output of the encoder that the projection reads, such as "tokens".
    terms: at least one term.
    input: the field of the batch that is encoded, or a tuple of fields.
    examples: the size of the data set, for parts with a table of all examples.

  Example:
    The objective of BYOL, up to a constant:

    >>> from contrastax import encoders, losses, methods, views
    >>> from contrastax.terms import Apply
    >>> def two_predictions(p1, p2, z1, z2):
    ...   return losses.negative_cosine(p1, z2) + losses.negative_cosine(p2, z1)
    >>> method = methods.Siamese(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   predictor=encoders.projection(),
    ...   views=views.byol(32),
    ...   momentum=0.996,
    ...   terms=(Apply(loss=two_predictions, of=("predictor", "target.projection"), weight=2.0),),
    ... )
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
      raise UserError(
        "the terms are the objective of Siamese, and there are none; give terms=(Contrast(…),)"
      )
    if self.predictor is not None and self.projection is None:
      raise UserError(
        "Siamese: the predictor needs a projection, and there is none; give projection=…"
      )

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input)
    for run in (net, net.target) if self.momentum is not None else (net,):
      y = part(run("encoder", x), self.reads)
      if self.projection is not None:
        y = run("projection", y)
    if self.predictor is not None:
      net("predictor", {view: net.seen["projection"][view] for view in x})
