"""Multiview: any number of views of every example in one loss."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from contrastax.core import ArrayLoss, Criterion, Encoder, Recipe, Temperature, UserError
from contrastax.losses import mv_dhel
from contrastax.methods.base import BaseMethod, summary
from contrastax.networks import embedding
from contrastax.pairwise import Plan
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multiview(BaseMethod):
  """MV-DHEL and MV-InfoNCE (Koromilas et al. 2025, arXiv 2507.06979), poly-view contrastive
  learning (Shidani et al. 2024, arXiv 2403.05490).

    z_a = g(f(x_a)),  a = 1 … v views
    L = mean over examples of loss(z_1, …, z_v; τ)

  With a fixed batch, v views cost v forward passes. Poly-view's result at equal cost is with
  batch/v examples: set `batch_size` so.

  Fields: `encoder` f, `projection` g; `views`, a tuple of recipes, one per view, of one size;
  `temperature`, one for all anchors; `loss`, `mv_dhel`, `mv_info_nce` or `poly_view` of
  `contrastax.losses`; `plan`, how its pairs are evaluated.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  temperature: Temperature = fixed(0.2)
  loss: ArrayLoss = mv_dhel
  plan: Plan = Plan()

  def __post_init__(self):
    super().__post_init__()
    if isinstance(self.loss, Criterion) or not callable(self.loss):
      raise UserError(
        f"Multiview takes a loss of all views at a temperature, such as losses.mv_dhel, not {self.loss!r}"
      )
    if not isinstance(self.temperature, Temperature):
      raise UserError(
        f"temperature must be a Temperature, such as temperatures.fixed(0.2), not {self.temperature!r}"
      )
    if self.temperature.learns_bias:
      raise UserError("a bias changes no softmax; leave it out of Multiview's temperature")
    if self.temperature.per_anchor:
      raise UserError(
        "Multiview's losses give no statistics of one anchor's negatives, by which individual "
        "temperatures move; give it one temperature for all anchors"
      )

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input)
    z = net("projection", embedding(net("encoder", x)))
    side = {"index": batch["index"]}
    params = net.param("temperature", lambda: self.temperature.init(self.examples)[0])
    state = net.begun("temperature", lambda: self.temperature.init(self.examples)[1])
    tau = self.temperature.value(params, state, side)
    value = self.loss(jnp.stack(list(z.values())), temperature=tau, plan=self.plan)
    net.keep("temperature", self.temperature.advance(state, side, tau, {}))
    return value, {**summary(z[0], z[1]), "temperature": tau}
