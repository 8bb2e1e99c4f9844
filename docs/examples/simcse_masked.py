"""SimCSE with masked tokens: the encoder also restores hidden bytes of a third view."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from parts import MASK, byte_encoder, documentation, linear

from contrastax import data, encoders, methods, temperatures, views
from contrastax.core import Encoder, View, per_example
from contrastax.relations import other_view, same_example
from contrastax.terms import Contrast, Measured


@dataclasses.dataclass(frozen=True)
class hide:
  """A share of the bytes is replaced by MASK; sides: which, and the original."""

  share: float = 0.15

  def __call__(self, key, text, index):
    draw = jax.vmap(lambda key: jax.random.uniform(key, text.shape[1:]))(per_example(key, index))
    hidden = (draw < self.share) & (text > 0)
    return View(jnp.where(hidden, MASK, text), {"hidden": hidden, "original": text})


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedTokens(Measured):
  """The mean cross-entropy of the hidden bytes of one view."""

  decoder: Encoder
  view: int
  weight: float = 1.0
  tag: str = "masked"

  def measure(self, net, seen):
    side = seen["side"][self.view]
    logits = net("decoder", seen["encoder"][self.view]["tokens"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, side["original"].astype(int))
    return (loss * side["hidden"]).sum() / jnp.maximum(side["hidden"].sum(), 1), {}


method = methods.Siamese(
  encoder=byte_encoder(),
  projection=encoders.projection((32,), 32),
  input="text",
  views=(views.unchanged(), views.unchanged(), hide()),
  terms=(
    Contrast(
      anchors=("projection.0", "projection.1"),
      temperature=temperatures.fixed(0.05),
      relation=same_example() & other_view(),
    ),
    MaskedTokens(decoder=linear(256), view=2, weight=0.1),
  ),
)


def source(**how):
  return data.Resident(documentation(), batch_size=64, **how)
