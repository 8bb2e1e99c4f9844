"""SwAV: each view predicts the cluster assignments of the other views."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, UserError
from contrastax.losses import sinkhorn, swapped_prediction
from contrastax.methods.base import BaseMethod, check_first_two, summary
from contrastax.networks import Net
from contrastax.pairwise import unit
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwAV(BaseMethod):
  """SwAV: swapped prediction of cluster assignments.

      z_a = g(f(x_a)),  s_a = cos(z_a, prototypes)      for all views a
      q_a = Sinkhorn(s_a / ε), over the batch and a queue of older z_a    for a = 1, 2
      L = mean over examples, a and b ≠ a of −Σ_k q_ak log softmax_k(s_b / τ)

  The queue is used once it is full. The paper uses 3,000 prototypes, ε = 0.05, three iterations,
  τ = 0.1, two large and six small views (`views.multi_crop`), and frozen prototypes in the first epoch.
  For batches of 256 it uses a queue of 3,840 from epoch 15 on.

  Args:
    encoder: f. It is kept after training.
    projection: g.
    prototypes: the output layer, see `encoders.prototypes`.
    views: a recipe that draws two views, or a tuple of recipes. The first two have the same size.
    epsilon: ε.
    iterations: the number of iterations of Sinkhorn's algorithm.
    softmax_temperature: τ.
    frozen_steps: the prototypes are not trained in the first `frozen_steps` steps.
    queue_size: the number of older examples in the queue, a multiple of the batch size, or 0.
    queue_from: the first step in which the queue is used.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.SwAV(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   prototypes=encoders.prototypes(64),
    ...   views=views.simclr(32),
    ... )

  References:
    Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments", 2020,
    arXiv 2006.09882, Algorithm 1.
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

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input)
    check_first_two(self, x)
    z = net("projection", embedding(net("encoder", x)))
    net.freeze("prototypes", net.step < self.frozen_steps)
    scores = net("prototypes", z)
    assignments = self._assign(net, [z[0], z[1]], [scores[0], scores[1]])
    loss = swapped_prediction(
      jnp.stack(list(scores.values())), assignments, temperature=self.softmax_temperature
    )
    # The perplexity of the mean assignment measures how many prototypes are in use.
    share = assignments.mean((0, 1))
    used = jnp.exp(-(share * jnp.log(jnp.maximum(share, 1e-30))).sum())
    return loss, {**summary(z[0], z[1]), "prototypes_used": used}

  def _assign(self, net: Net, zs: list[Array], scores: list[Array]) -> Array:
    """Returns the assignments [2, n, K] of the first two views, over the batch and the queue."""
    n, d = zs[0].shape
    if self.queue_size % n:
      raise UserError(
        f"SwAV: queue_size must be a multiple of the batch size {n:,}, not {self.queue_size:,}"
      )

    def assign(scores, queue_scores):
      all_scores = jnp.concatenate([scores, queue_scores])
      return sinkhorn(all_scores, epsilon=self.epsilon, iterations=self.iterations)[:n]

    def without_queue():
      return jnp.stack([assign(s, s[:0]) for s in scores])

    older = net.begun(
      "queue", lambda: jnp.zeros((2, self.queue_size, d)) if self.queue_size else ()
    )
    if not self.queue_size:
      return without_queue()

    def with_queue():
      weights = net.params["prototypes"], net.state["prototypes"]
      queue = [self.prototypes.apply(*weights, z, key=net.key, train=True)[0] for z in older]
      return jnp.stack([assign(*pair) for pair in zip(scores, queue, strict=True)])

    newest = jax.lax.stop_gradient(jnp.stack([unit(z) for z in zs]))
    net.keep("queue", jnp.concatenate([newest.astype(older.dtype), older[:, :-n]], 1))
    since = max(self.queue_from, self.queue_size // n)
    return jax.lax.cond(net.step >= since, with_queue, without_queue)
