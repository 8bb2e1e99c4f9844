"""SwAV: each view predicts the cluster assignments of the others."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Encoder, Recipe, UserError
from contrastax.losses import sinkhorn, swapped_prediction
from contrastax.methods.base import BaseMethod, check_first_two, summary
from contrastax.pairwise import unit
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwAV(BaseMethod):
  """SwAV (Caron et al. 2020, arXiv 2006.09882, Algorithm 1).

    z_a = g(f(x_a)),  s_a = cos(z_a, prototypes)      for all views a
    q_a = Sinkhorn(s_a / ε), over the batch and, once full, a queue of older z_a    a = 1, 2
    L = mean over examples, a and b ≠ a of −Σ_k q_ak log softmax_k(s_b / τ)

  The paper's: 3,000 prototypes, ε = 0.05, three iterations, τ = 0.1, two large views and six
  small ones (`views.multi_crop`), prototypes frozen for the first epoch, and for batches of 256
  a queue of 3,840 from epoch 15 on. Assignments are of the first two views.

  Fields: `encoder` f, `projection` g; `prototypes`, as `encoders.prototypes` gives them; `views`,
  a recipe for two views or a tuple of recipes, the first two of one size; `epsilon` ε,
  `iterations`, `softmax_temperature` τ; `frozen_steps`, for which prototypes are not trained;
  `queue_size`, of older examples, a multiple of the batch or 0; `queue_from`, the step from
  which they count.
  """

  encoder: Encoder
  projection: Encoder
  prototypes: Encoder
  views: Recipe | tuple[Recipe, ...]
  epsilon: float = 0.05
  iterations: int = 3
  softmax_temperature: float = 0.1
  frozen_steps: int = 0
  queue_size: int = 0
  queue_from: int = 0

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input)
    check_first_two(self, x)
    z = net("projection", embedding(net("encoder", x)))
    net.freeze("prototypes", net.step < self.frozen_steps)
    scores = net("prototypes", z)
    assignments = self._assign(net, [z[0], z[1]], [scores[0], scores[1]])
    loss = swapped_prediction(
      jnp.stack(list(scores.values())), assignments, temperature=self.softmax_temperature
    )
    # The perplexity of the mean assignment: how many prototypes are in use.
    share = assignments.mean((0, 1))
    used = jnp.exp(-(share * jnp.log(jnp.maximum(share, 1e-30))).sum())
    return loss, {**summary(z[0], z[1]), "prototypes_used": used}

  def _assign(self, net, zs, scores):
    """Assignments [2, n, K] of the first two views, among the batch and the queue."""
    n, d = zs[0].shape
    if self.queue_size % n:
      raise UserError(
        f"SwAV's queue of {self.queue_size:,} examples is not a multiple of the batch of {n:,}"
      )

    def among(scores, more):
      together = jnp.concatenate([scores, more])
      return sinkhorn(together, epsilon=self.epsilon, iterations=self.iterations)[:n]

    def alone():
      return jnp.stack([among(s, s[:0]) for s in scores])

    older = net.begun(
      "queue", lambda: jnp.zeros((2, self.queue_size, d)) if self.queue_size else ()
    )
    if not self.queue_size:
      return alone()

    def with_queue():
      own = net.params["prototypes"], net.state["prototypes"]
      more = [self.prototypes.apply(*own, z, key=net.key, train=True)[0] for z in older]
      return jnp.stack([among(*pair) for pair in zip(scores, more, strict=True)])

    kept = jax.lax.stop_gradient(jnp.stack([unit(z) for z in zs]))
    net.keep("queue", jnp.concatenate([kept.astype(older.dtype), older[:, :-n]], 1))
    since = max(self.queue_from, self.queue_size // n)
    return jax.lax.cond(net.step >= since, with_queue, alone)
