"""Relational reasoning (Patacchiola & Storkey 2020, arXiv 2006.05849): a head tells whether two
embeddings are of one example."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from parts import digits

from contrastax import data, encoders, methods, views
from contrastax.core import Encoder
from contrastax.paths import embedding
from contrastax.terms import Measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relational(Measured):
  """Binary cross-entropy of r([z_i, z_j]), of views of one example and of different ones."""

  head: Encoder
  weight: float = 1.0
  tag: str = "relation"

  def measure(self, net, seen):
    z = list(embedding(seen["encoder"]).values())
    pairs = list(itertools.combinations(z, 2))
    same = [jnp.concatenate([a, b], -1) for a, b in pairs]
    other = [jnp.concatenate([a, jnp.roll(b, 1 + i, 0)], -1) for i, (a, b) in enumerate(pairs)]
    logits = net("head", {0: jnp.concatenate(same), 1: jnp.concatenate(other)})
    hits = jnp.concatenate([logits[0] > 0, logits[1] < 0]).astype(logits[0].dtype)
    loss = jax.nn.softplus(-logits[0]).mean() + jax.nn.softplus(logits[1]).mean()
    return loss / 2, {"accuracy": hits}


method = methods.Siamese(
  encoder=encoders.mlp((64,)),
  views=(views.affine_jitter(),) * 3,
  terms=(Relational(head=encoders.projection((64,), 1)),),
)


def source(**how):
  return data.Resident(digits, batch_size=64, **how)
