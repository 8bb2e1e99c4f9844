"""Multi-view learning: any number of views of every example in one loss."""

from __future__ import annotations

import dataclasses
import functools
from types import FunctionType

import jax.numpy as jnp
from typing_extensions import override

from contrastax import losses
from contrastax.core import (
  Array,
  ArrayLoss,
  Batch,
  Criterion,
  Encoder,
  Metrics,
  Recipe,
  Temperature,
  UserError,
)
from contrastax.losses import mv_dhel, mv_info_nce, poly_view
from contrastax.methods.base import BaseMethod, summary
from contrastax.networks import Net
from contrastax.pairwise import Plan
from contrastax.paths import embedding
from contrastax.temperatures import fixed
from contrastax.terms.contrast import as_temperature

MULTIVIEW_LOSSES = (mv_dhel, mv_info_nce, poly_view)
ALL_LOSSES = tuple(loss for loss in vars(losses).values() if callable(loss))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multiview(BaseMethod):
  """MV-DHEL, MV-InfoNCE and poly-view learning: one loss of all views.

      z_a = g(f(x_a)),  a = 1 … v views
      L = mean over examples of loss(z_1, …, z_v; τ)

  With a fixed batch size, the cost is proportional to the number v of views. To compare at equal
  cost, as the poly-view paper does, use batches of `batch_size`/v examples.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    views: a tuple of one recipe per view. All views have the same size.
    temperature: one of `contrastax.temperatures` for all anchors. A number x means `fixed(x)`.
    loss: `mv_dhel`, `mv_info_nce` or `poly_view` of `contrastax.losses`.
    plan: how all pairs are evaluated; `Plan(mesh=mesh)` on several devices.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.Multiview(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   views=(views.simclr(32),) * 4,
    ... )

  References:
    Koromilas et al., "A principled framework for multi-view contrastive learning", 2025, arXiv
    2507.06979.
    Shidani et al., "Poly-view contrastive learning", 2024, arXiv 2403.05490.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  temperature: Temperature | float = fixed(0.2)
  loss: ArrayLoss = mv_dhel
  plan: Plan = Plan()

  def __post_init__(self):
    object.__setattr__(self, "temperature", as_temperature(self.temperature))
    super().__post_init__()
    loss = self.loss.func if isinstance(self.loss, functools.partial) else self.loss
    if (
      not callable(loss)
      or isinstance(loss, Criterion)
      or (loss in ALL_LOSSES and loss not in MULTIVIEW_LOSSES)
    ):
      raise UserError(
        f"Multiview: loss must be a loss of all views, such as losses.mv_dhel, not {_name(loss)}"
      )
    temperature = as_temperature(self.temperature)
    if temperature.learns_bias:
      raise UserError(
        "a bias has no effect on a softmax; leave it out of the temperature of Multiview"
      )
    if temperature.per_anchor:
      raise UserError(
        "the losses of Multiview give no statistics of the negatives of an anchor, which individual "
        "temperatures need; give Multiview one temperature for all anchors"
      )

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input)
    z = net("projection", embedding(net("encoder", x)))
    side = {"index": batch["index"]}
    temperature = as_temperature(self.temperature)
    params = net.param("temperature", lambda: temperature.init(self.examples)[0])
    state = net.begun("temperature", lambda: temperature.init(self.examples)[1])
    tau = temperature.value(params, state, side)
    value = self.loss(jnp.stack(list(z.values())), temperature=tau, plan=self.plan)
    net.keep("temperature", temperature.advance(state, side, tau, {}))
    return value, {**summary(z[0], z[1]), "temperature": tau}


def _name(loss: object) -> str:
  return loss.__name__ if isinstance(loss, FunctionType) else repr(loss)
