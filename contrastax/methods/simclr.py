"""SimCLR: two views of every example, each other's positive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from contrastax.core import Embedded, Encoder, Group, Negatives, Score, Temperature, join, named
from contrastax.losses.groups import info_nce
from contrastax.methods import contrast
from contrastax.negatives import in_batch
from contrastax.pairwise import Plan, cosine
from contrastax.positives import Relation, same_example
from contrastax.temperatures import fixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLR:
  """SimCLR (Chen et al. 2020, arXiv 2002.05709, Algorithm 1).

    x̃₁, x̃₂ = t(x), t'(x)          two random views of each of n examples
    h = f(x̃),  z = g(h)            encoder and projection head, on all 2n at once
    L = mean over the 2n of NT-Xent(z; τ)

  Both views pass in one BatchNorm batch, whose statistics are those of the global batch.
  The paper's: τ = 0.5 (CIFAR-10) or 0.1 (ImageNet), LARS, batch 256 to 8,192.

  Fields: `encoder` f, what remains after training; `projection` g; `views(key, images,
  index) -> images`, a random view of each example; `examples`, the size of the data set,
  for parts that keep a state per example; `loss`, any of `contrastax.losses.groups`; `plan`, how
  its pairs are evaluated: on several devices `Plan(mesh=mesh)`.
  """

  encoder: Encoder
  projection: Encoder
  views: Callable
  temperature: Temperature = fixed(0.5)
  loss: Callable = info_nce
  negatives: Negatives = in_batch()
  relation: Relation = same_example()
  score: Score = cosine()
  examples: int = 0
  plan: Plan = Plan()

  init = contrast.init
  objective = contrast.objective

  def embed(self, params, state, batch, key):
    views = [self.views(named(key, f"view {v}"), batch["image"], batch["index"]) for v in range(2)]
    h, encoder_state = self.encoder.apply(
      params["encoder"], state["encoder"], jnp.concatenate(views), key=named(key, "f"), train=True
    )
    z, projection_state = self.projection.apply(
      params["projection"], state["projection"], h, key=named(key, "g"), train=True
    )
    sides = [contrast.side(batch, v, z.dtype) for v in range(2)]
    both = Group(z, join(*sides))
    state = {**state, "encoder": encoder_state, "projection": projection_state}
    return Embedded(both, both, state, same_set=True)

  def advance(self, params, state, step):
    return state
