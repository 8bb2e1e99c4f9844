"""MoCo: a query meets its key, and a queue of older ones, all from a slowly moving encoder."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from contrastax.core import Encoder, Negatives, Recipe, Schedule, Temperature
from contrastax.methods.base import ContrastiveMethod
from contrastax.negatives import queue
from contrastax.paths import embedding
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCo(ContrastiveMethod):
  """MoCo (He et al. 2020, arXiv 1911.05722, Algorithm 1; v2: Chen et al. 2020, arXiv 2003.04297).

    q = g(f(t(x))),  k = g'(f'(t'(x)))          k without gradient
    L = mean over i of −log( e^{q·k/τ} / (e^{q·k/τ} + Σ_queue e^{q·k⁻/τ}) )
    θ' ← m θ' + (1 − m) θ;   k joins the queue, the oldest leave it

  The paper's: 65,536 keys, m = 0.999. v1: τ = 0.07 and a linear `projection`; v2: τ = 0.2, one
  hidden layer, and the views of `views.moco_v2`. Their ShuffleBN is `bn_groups` of the encoder.

  With `negatives=in_batch() + queue(n)` the other keys of the batch are negatives as well. The
  keys of the anchor's own example in the queue are left out by `same_example`; MoCo's code
  counts them as negatives, which matters where the queue is not small beside the data.

  momentum: m, a number or a schedule. For the other fields see `SimCLR`.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  momentum: float | Schedule = 0.999
  temperature: Temperature = fixed(0.2)
  negatives: Negatives = queue(65536)

  contrasted: ClassVar = {"anchors": "projection", "keys": "target.projection"}

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input, count=2)
    net("projection", embedding(net("encoder", {0: x[0]})))
    net.target("projection", embedding(net.target("encoder", {1: x[1]})))
