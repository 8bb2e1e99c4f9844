"""NNCLR: the positive is the nearest neighbor, in a support set, of the other view."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from contrastax.core import Encoder, Recipe, Temperature, join
from contrastax.methods.base import ContrastiveMethod
from contrastax.negatives import entries, hardest, queue
from contrastax.paths import embedding
from contrastax.relations import Relation, other_view, same_example
from contrastax.temperatures import fixed
from contrastax.terms.groups import of_examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class NNCLR(ContrastiveMethod):
  """NNCLR (Dwibedi et al. 2021, arXiv 2104.14548, eqs. 2 to 4).

    z₁, z₂ = g(f(x₁)), g(f(x₂));   q = p(z)
    n_i = the vector of the support set of the highest cosine with z_i, without gradient
    L = ½ InfoNCE(n₁ → q₂) + ½ InfoNCE(n₂ → q₁),   negatives: the other examples' q of that view

  The support set is a queue of `support` older z₁; until it holds another example, z_i stands
  for n_i. The paper's: 98,304 of them, τ = 0.1, batch 4,096, output BatchNorm in g. The paper
  allows a neighbor that is the example itself, an epoch ago; here it is another one, which
  differs where the support set is not small beside the data.

  Fields: `predictor` p; for the others see `SimCLR`.
  """

  encoder: Encoder
  projection: Encoder
  predictor: Encoder
  views: Recipe | tuple[Recipe, ...]
  support: int = 98304
  temperature: Temperature = fixed(0.1)
  relation: Relation = same_example() & other_view()

  contrasted: ClassVar = {"anchors": "neighbors", "keys": "predictor"}

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input, count=2)
    z = net("projection", embedding(net("encoder", x)))
    net("predictor", z)
    older = queue(self.support)
    first, second = (
      of_examples({"batch": batch}, jax.lax.stop_gradient(z[view]), view) for view in (0, 1)
    )
    support = net.begun("support", lambda: older.init(net.key, first, self.examples))
    both = join(first, second)
    found = hardest(both, (entries(support),), 1, relation=same_example(), plan=self.plan)
    there = found.side["as_negative"] > 0  # [2n, 1]
    neighbors = jnp.where(there, found.vectors[:, 0], both.vectors)
    net.record("neighbors", dict(enumerate(jnp.split(neighbors, 2))))
    net.keep("support", older.advance(support, first))
