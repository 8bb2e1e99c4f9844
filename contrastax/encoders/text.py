"""A small transformer for the bytes of short texts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from contrastax.core import Array, Encoder, UserError
from contrastax.encoders.nnx import check_dtype, from_nnx
from contrastax.encoders.transformer import Block


class ByteTransformer(nnx.Module):
  """Byte and position embeddings, pre-norm blocks, LayerNorm, and the mean over the bytes.

  Args:
    length: the number of bytes of a text, with padding.
    width: the width of a token.
    depth: the number of blocks.
    heads: the number of attention heads.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
  """

  def __init__(
    self, length: int, *, width: int, depth: int, heads: int, dtype: str | None, rngs: nnx.Rngs
  ):
    self.tokens = nnx.Param(0.02 * jax.random.normal(rngs.params(), (256, width)))
    self.pos_embed = nnx.Param(0.02 * jax.random.normal(rngs.params(), (length, width)))
    self.blocks = nnx.List([Block(width, heads, dtype, rngs) for _ in range(depth)])
    self.norm = nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, rngs=rngs)

  def __call__(self, x: Array) -> Array:
    """Returns the embeddings [n, width] of texts [n, length], in which 0 is padding."""
    mask = x > 0
    y = self.tokens[...][x.astype(jnp.int32)] + self.pos_embed[...]
    for block in self.blocks:
      y = block(y, mask)
    y = jnp.where(mask[:, :, None], self.norm(y), 0)
    return y.sum(1) / jnp.maximum(mask.sum(1, keepdims=True), 1)


def text(width: int = 128, depth: int = 2, heads: int = 4, *, dtype: str | None = None) -> Encoder:
  """A transformer for texts of a few words. Its tokens are bytes, so it needs no tokenizer.

  Texts are bytes [n, length] in UTF-8, with 0 after the end. The embedding of an empty text is 0.

  Args:
    width: the dimension of the embedding.
    depth: the number of blocks.
    heads: the number of attention heads, a divisor of `width`.
    dtype: the type of the computation of the blocks, such as "bfloat16". None means the type of the
      parameters. Parameters, LayerNorm, the softmax and the result are float32.

  Returns:
    The encoder.

  Raises:
    UserError: an argument is below 1, `heads` does not divide `width`, or `dtype` is not a
      floating-point type.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from contrastax import encoders
    >>> encoder = encoders.text(16, depth=1)
    >>> words = jnp.array([[*b"cat", 0], [*b"bird"]], jnp.uint8)
    >>> params, state = encoder.init(jax.random.key(0), words)
    >>> encoder.apply(params, state, words, key=None, train=False)[0].shape
    (2, 16)
  """
  if min(width, depth, heads) < 1 or width % heads:
    raise UserError(
      f"text: heads={heads} must divide width={width}, and width, depth and heads must be at least 1"
    )
  check_dtype(dtype)

  def build(x, rngs):
    if len(x.shape) != 1 or not jnp.issubdtype(x.dtype, jnp.integer):
      shape = ", ".join(map(str, ("n", *x.shape)))
      raise UserError(f"text takes bytes [n, length], not {x.dtype} of shape [{shape}]")
    return ByteTransformer(
      x.shape[0], width=width, depth=depth, heads=heads, dtype=dtype, rngs=rngs
    )

  return from_nnx(build)
