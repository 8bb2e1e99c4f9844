"""W-MSE: views agree after whitening."""

from __future__ import annotations

import dataclasses
import itertools

import jax

from contrastax import losses
from contrastax.core import Encoder, Recipe, named
from contrastax.methods.base import BaseMethod, summary
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class WMSE(BaseMethod):
  """W-MSE (Ermolov et al. 2021, arXiv 2007.06346, eqs. 3 to 5).

    z₁, z₂ = g(f(x₁)), g(f(x₂))
    w = z whitened over a random slice of the batch;   L = mean over examples of ‖w̄₁ − w̄₂‖²

  mean over `draws` divisions of the batch into `slices`. The paper's: 64 dimensions (CIFAR),
  slices of 128 examples, batch 512, Adam. Of more views than two all pairs meet: with four it
  is the paper's W-MSE 4. See `losses.w_mse`.

  Fields: `encoder` f, `projection` g; `views`, a recipe for two views, or a tuple of recipes;
  `slices`, `draws`, at least 1; `shrinkage` of the covariance towards the identity.
  """

  encoder: Encoder
  projection: Encoder
  views: Recipe | tuple[Recipe, ...]
  slices: int = 1
  draws: int = 1
  shrinkage: float = 0.0

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input)
    z = net("projection", embedding(net("encoder", x)))
    pairs = list(itertools.combinations(z.values(), 2))

    def of_draw(key):
      order = jax.random.permutation(key, len(z[0]))
      whitening = {"slices": self.slices, "shrinkage": self.shrinkage}
      return sum(losses.w_mse(a[order], b[order], **whitening).mean() for a, b in pairs)

    keys = jax.random.split(named(net.key, "slices"), self.draws)
    return jax.vmap(of_draw)(keys).mean() / len(pairs), summary(z[0], z[1])
