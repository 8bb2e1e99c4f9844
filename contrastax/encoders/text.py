"""A small transformer over the bytes of short texts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from contrastax.core import Encoder, UserError
from contrastax.encoders.nnx import from_nnx
from contrastax.encoders.vit import Block


class ByteTransformer(nnx.Module):
  """Bytes and their places through pre-norm blocks; then the mean of the tokens, normalized."""

  def __init__(self, length, *, width, depth, heads, rngs):
    self.tokens = nnx.Param(0.02 * jax.random.normal(rngs.params(), (256, width)))
    self.pos_embed = nnx.Param(0.02 * jax.random.normal(rngs.params(), (length, width)))
    self.blocks = nnx.List([Block(width, heads, None, rngs) for _ in range(depth)])
    self.norm = nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, rngs=rngs)

  def __call__(self, x):
    seen = x > 0
    y = self.tokens[...][x.astype(jnp.int32)] + self.pos_embed[...]
    for block in self.blocks:
      y = block(y, seen)
    y = jnp.where(seen[:, :, None], self.norm(y), 0)
    return y.sum(1) / jnp.maximum(seen.sum(1, keepdims=True), 1)


def text(width: int = 128, depth: int = 2, heads: int = 4) -> Encoder:
  """Texts of a few words: bytes [n, length], UTF-8, 0 after the end, become vectors [n, width].

  A transformer whose tokens are bytes, so that it needs no vocabulary. An empty text is 0.
  """
  if min(width, depth, heads) < 1 or width % heads:
    raise UserError(f"text: heads={heads} must divide width={width}, and all be at least 1")

  def build(x, rngs):
    if len(x.shape) != 1 or not jnp.issubdtype(x.dtype, jnp.integer):
      raise UserError(f"text takes bytes [n, length], not {x.dtype} of shape [n, *{x.shape}]")
    return ByteTransformer(x.shape[0], width=width, depth=depth, heads=heads, rngs=rngs)

  return from_nnx(build)
