"""A student learns the similarities of a frozen teacher beside its own contrast.

As SEED (Fang et al. 2021, arXiv 2101.04731), within the batch. The teacher's embedding here is the
raw pixels; `encoders.frozen(run.encoder, run.params, run.state)` of a trained run serves as well.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from parts import digits

from contrastax import data, encoders, methods, temperatures, views
from contrastax.core import Encoder
from contrastax.pairwise import unit
from contrastax.paths import embedding
from contrastax.terms import Contrast, Measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation(Measured):
  """Cross-entropy of the student's softmax over the batch with the teacher's, per view."""

  teacher: Encoder
  temperature: float = 0.1
  weight: float = 1.0
  tag: str = "distillation"

  def measure(self, net, seen):
    def logits(z):
      others = ~jnp.eye(len(z), dtype=bool)
      return jnp.where(others, unit(z) @ unit(z).T / self.temperature, -1e9)

    guide, student = embedding(net("teacher", seen["view"])), embedding(seen["encoder"])
    losses = [
      optax.softmax_cross_entropy(logits(student[v]), jax.nn.softmax(logits(guide[v])))
      for v in student
    ]
    return sum(losses) / len(losses), {}


pixels = Encoder(
  init=lambda key, x: ((), ()),
  apply=lambda params, state, x, **how: (x.reshape(len(x), -1), state),
)
method = methods.Siamese(
  encoder=encoders.mlp((64,)),
  projection=encoders.projection((32,), 16),
  views=views.affine_jitter(),
  terms=(
    Contrast(temperature=temperatures.fixed(0.2)),
    Distillation(teacher=encoders.frozen(pixels, (), ()), weight=0.5),
  ),
)


def source(**how):
  return data.Resident(digits, batch_size=64, **how)
