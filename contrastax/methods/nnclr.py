"""NNCLR: the positive is the nearest neighbor of the other view in a support set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, Temperature, join
from contrastax.methods.base import ContrastiveMethod
from contrastax.negatives import entries, hardest, queue
from contrastax.networks import Net
from contrastax.paths import embedding
from contrastax.relations import Relation, other_view, same_example
from contrastax.temperatures import fixed
from contrastax.terms.groups import of_examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class NNCLR(ContrastiveMethod):
  """NNCLR: contrasts nearest neighbors with predictions.

      z₁, z₂ = g(f(x₁)), g(f(x₂));   q = p(z)
      n_i = the vector of the support set with the highest cosine with z_i, without gradient
      L = ½ InfoNCE(n₁ → q₂) + ½ InfoNCE(n₂ → q₁)

  The negatives are the q of the same view of the other examples. The support set is a queue of z₁
  of earlier steps. While it contains no other example, z_i is used instead of n_i.

  The paper uses a support set of 98,304, τ = 0.1, batches of 4,096, and BatchNorm on the output of
  g. In the paper the neighbor may be the same example in the previous epoch. Here it is always
  another example, which matters if the support set is not small compared to the data set.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    predictor: p.
    views: a recipe that draws both views, or a tuple of two recipes.
    support: the size of the support set.

  The other arguments are those of `ContrastiveMethod`.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.NNCLR(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   predictor=encoders.projection(),
    ...   views=views.simclr(32),
    ...   support=4096,
    ... )

  References:
    Dwibedi et al., "With a little help from my friends", 2021, arXiv 2104.14548, eqs. 2 to 4.
  """

  encoder: Encoder
  projection: Encoder
  predictor: Encoder
  views: Recipe | tuple[Recipe, ...]
  support: int = 98304
  temperature: Temperature | float = fixed(0.1)
  relation: Relation = same_example() & other_view()

  contrasted: ClassVar[Mapping[str, Any]] = {"anchors": "neighbors", "keys": "predictor"}

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input, count=2)
    z = net("projection", embedding(net("encoder", x)))
    net("predictor", z)
    older = queue(self.support)
    first, second = (
      of_examples({"batch": batch}, jax.lax.stop_gradient(z[view]), view) for view in (0, 1)
    )
    support = net.begun("support", lambda: older.init(net.key, first, self.examples))
    both = join(first, second)
    nearest = hardest(both, (entries(support),), 1, relation=same_example(), plan=self.plan)
    exists = nearest.side["as_negative"] > 0  # [2n, 1]
    neighbors = jnp.where(exists, nearest.vectors[:, 0], both.vectors)
    net.record("neighbors", dict(enumerate(jnp.split(neighbors, 2))))
    net.keep("support", older.advance(support, first))
