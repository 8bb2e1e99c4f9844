"""Multiview: any number of views of every example in one loss."""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp

from contrastax import losses
from contrastax.core import (
  ArrayLoss,
  Criterion,
  Encoder,
  Recipe,
  Temperature,
  UserError,
  check_kind,
)
from contrastax.losses import mv_dhel, mv_info_nce, poly_view
from contrastax.methods.base import BaseMethod, summary
from contrastax.pairwise import Plan
from contrastax.paths import embedding
from contrastax.temperatures import fixed

OF_VIEWS = (mv_dhel, mv_info_nce, poly_view)
LOSSES = tuple(loss for loss in vars(losses).values() if callable(loss))


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
    loss = self.loss.func if isinstance(self.loss, functools.partial) else self.loss
    if (
      not callable(loss) or isinstance(loss, Criterion) or (loss in LOSSES and loss not in OF_VIEWS)
    ):
      raise UserError(
        "Multiview takes a loss of all views at a temperature, such as losses.mv_dhel, not "
        f"{getattr(loss, '__name__', loss)}"
      )
    check_kind("temperature", self.temperature, Temperature, "temperatures.fixed(0.2)")
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
