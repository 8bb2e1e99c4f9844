"""Multiview: any number of views of every example in one loss."""

from __future__ import annotations

import dataclasses
import inspect
from types import ModuleType
from typing import ClassVar

import jax.numpy as jnp

from contrastax.core import ArrayLoss, Encoder, Recipe, Temperature, UserError
from contrastax.losses import multiview
from contrastax.methods import networks
from contrastax.pairwise import Plan
from contrastax.temperatures import fixed
from contrastax.views import draw_views


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multiview:
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
  loss: ArrayLoss = multiview.mv_dhel
  examples: int = 0
  plan: Plan = Plan()

  losses: ClassVar[ModuleType] = multiview
  trained: ClassVar = ("encoder", "projection")
  averaged: ClassVar = ()
  advance = networks.stay

  def __post_init__(self):
    if not {"views", "temperature"} <= set(inspect.signature(self.loss).parameters):
      raise UserError("Multiview takes a loss of all views at a temperature, such as mv_dhel")
    if getattr(self.temperature, "bias", None) is not None:
      raise UserError("a bias changes no softmax; leave it out of Multiview's temperature")
    if hasattr(self.temperature, "each"):
      raise UserError(
        "Multiview's losses say nothing of one anchor's negatives, by which individual temperatures "
        "move; give it one temperature for all anchors"
      )

  def init(self, key, batch):
    params, state = networks.init(self, key, batch)
    params["temperature"], state["temperature"] = self.temperature.init(self.examples)
    return params, state

  def objective(self, params, state, batch, key):
    x = draw_views(self.views, key, batch["image"], batch["index"])
    z, state = networks.forward(self, self.trained, params, state, x, key)
    side = {"index": batch["index"]}
    tau = self.temperature.value(params["temperature"], state["temperature"], side)
    value = self.loss(jnp.stack(z), temperature=tau, plan=self.plan)
    moved = self.temperature.advance(state["temperature"], side, tau, {})
    metrics = networks.summary(value.mean(), z[0], z[1])
    return value.mean(), ({**state, "temperature": moved}, {**metrics, "temperature": tau})
