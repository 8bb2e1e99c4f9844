"""MoCo: contrasts queries with a queue of keys from a moving average of the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Negatives, Recipe, Schedule, Temperature
from contrastax.methods.base import ContrastiveMethod
from contrastax.negatives import queue
from contrastax.networks import Net
from contrastax.paths import embedding
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCo(ContrastiveMethod):
  """MoCo and MoCo v2: momentum contrast with a queue.

      q = g(f(t(x))),  k = g'(f'(t'(x)))          k without gradient
      L = mean over i of −log( e^{q·k/τ} / (e^{q·k/τ} + Σ_queue e^{q·k⁻/τ}) )
      θ' ← m θ' + (1 − m) θ;   k replaces the oldest keys of the queue

  The paper uses 65,536 keys and m = 0.999; v1 uses τ = 0.07 and a linear projection; v2 uses τ = 0.2,
  one hidden layer and the views of `views.moco_v2`. The argument `bn_groups` of an encoder replaces
  ShuffleBN.

  With `negatives=in_batch() + queue(n)` the other keys of the batch are negatives too. With the
  relation `same_example`, older keys of the anchor's own example are not negatives. In MoCo's code
  they are negatives, which matters if the queue is not small compared to the data set.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    views: a recipe that draws both views, or a tuple of two recipes.
    momentum: m, a number or a schedule.

  The other arguments are those of `ContrastiveMethod`.

  Example:
    >>> from contrastax import encoders, methods, negatives, views
    >>> method = methods.MoCo(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   views=views.moco_v2(32),
    ...   negatives=negatives.queue(4096),
    ... )

  References:
    He et al., "Momentum contrast", 2020, arXiv 1911.05722, Algorithm 1.
    Chen et al., "Improved baselines with momentum contrastive learning", 2020, arXiv 2003.04297.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  momentum: float | Schedule = 0.999
  temperature: Temperature | float = fixed(0.2)
  negatives: Negatives = queue(65536)

  contrasted: ClassVar[Mapping[str, Any]] = {"anchors": "projection", "keys": "target.projection"}

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input, count=2)
    net("projection", embedding(net("encoder", {0: x[0]})))
    net.target("projection", embedding(net.target("encoder", {1: x[1]})))
