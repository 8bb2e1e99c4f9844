"""W-MSE: views agree after whitening."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator

import jax
from typing_extensions import override

from contrastax import losses
from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, named
from contrastax.methods.base import BaseMethod, summary
from contrastax.networks import Net
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class WMSE(BaseMethod):
  """W-MSE: the mean squared error of whitened, normalized projections.

      z₁, z₂ = g(f(x₁)), g(f(x₂))
      w = z whitened over a random slice of the batch
      L = mean over examples of ‖w̄₁ − w̄₂‖²,   w̄ = w/‖w‖

  The loss is the mean over `draws` random divisions of the batch into `slices`, and over all pairs of
  views; four views give W-MSE 4. See `losses.w_mse`. The paper uses 64 dimensions (CIFAR), slices of 128
  examples, batches of 512 and Adam.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    views: a recipe that draws two views, or a tuple of recipes, one per view.
    slices: the number of slices, at least 1.
    draws: the number of random divisions, at least 1.
    shrinkage: the shrinkage of the covariance toward the identity.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.WMSE(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   views=views.simclr(32),
    ... )

  References:
    Ermolov et al., "Whitening for self-supervised representation learning", 2021, arXiv 2007.06346,
    eqs. 3 to 5.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  slices: int = 1
  draws: int = 1
  shrinkage: float = 0.0

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input)
    z = net("projection", embedding(net("encoder", x)))
    pairs = list(itertools.combinations(z.values(), 2))

    def draw_loss(key: Array) -> Array:
      order = jax.random.permutation(key, len(z[0]))
      values = [
        losses.w_mse(a[order], b[order], slices=self.slices, shrinkage=self.shrinkage).mean()
        for a, b in pairs
      ]
      return functools.reduce(operator.add, values)

    keys = jax.random.split(named(net.key, "slices"), self.draws)
    return jax.vmap(draw_loss)(keys).mean() / len(pairs), summary(z[0], z[1])
