"""The blocks of transformers: attention, MLP, layer scale, rotary positions and attention pooling."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from contrastax.core import Array

XAVIER = nnx.initializers.glorot_uniform()
LECUN = nnx.initializers.lecun_uniform()


class QKV(nnx.Module):
  """Queries, keys and values of tokens, or keys and values only.

  A bias of the keys adds the same number to all logits of a query. So its gradient consists of
  rounding errors only, which Adam would scale up to full steps. The bias exists for pretrained
  weights, but it is not trained.

  Args:
    width: the width of a token.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
    queries: whether there are queries.
  """

  def __init__(self, width: int, dtype: str | None, rngs: nnx.Rngs, queries: bool = True):
    # LeCun's bound √(3/width) of this map is Xavier's bound of its two or three maps.
    self.parts = 3 if queries else 2
    self.kernel = nnx.Param(LECUN(rngs.params(), (width, self.parts * width)))
    self.bias = nnx.Param(jnp.zeros(self.parts * width))
    self.dtype = dtype

  def __call__(self, x: Array) -> Array:
    """Returns queries, keys and values [n, t, 3·width] of tokens [n, t, width]."""
    *q, k, v = jnp.split(self.bias[...], self.parts)
    bias = jnp.concatenate([*q, jax.lax.stop_gradient(k), v])
    dtype = self.dtype or jnp.promote_types(x.dtype, bias.dtype)
    return x.astype(dtype) @ self.kernel[...].astype(dtype) + bias.astype(dtype)


class Attention(nnx.Module):
  """Multi-head self-attention: softmax(q kᵀ / √(width/heads)) v per head.

  The softmax is in float32 at least, and in float64 for float64 inputs, unlike that of
  `jax.nn.dot_product_attention`.

  Args:
    width: the width of a token.
    heads: the number of heads.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
  """

  def __init__(self, width: int, heads: int, dtype: str | None, rngs: nnx.Rngs):
    self.qkv = QKV(width, dtype, rngs)
    self.proj = nnx.Linear(width, width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)
    self.heads = heads

  def __call__(
    self, x: Array, mask: Array | None = None, angles: np.ndarray | None = None
  ) -> Array:
    """Returns the new tokens.

    Args:
      x: tokens [n, t, width].
      mask: which tokens are attended to, [n, t]; None: all.
      angles: the angles [t, width / heads / 2] by which queries and keys are rotated, or None.
    """
    n, t, width = x.shape
    q, k, v = jnp.moveaxis(self.qkv(x).reshape(n, t, 3, self.heads, -1), 2, 0)
    if angles is not None:
      q, k = rotated(q, angles), rotated(k, angles)
    return self.proj(attended(q, k, v, mask).reshape(n, t, width))


def attended(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
  """Returns softmax(q kᵀ / √d) v for queries [n, i, heads, d], and keys and values [n, j, heads, d].

  The softmax is in float32 at least.
  """
  wide = jnp.promote_types(q.dtype, jnp.float32)
  logits = jnp.einsum("nihd,njhd->nhij", q, k, preferred_element_type=wide)
  logits = logits / math.sqrt(q.shape[-1])
  if mask is not None:
    logits = jnp.where(mask[:, None, None], logits, jnp.finfo(wide).min)
  weights = jax.nn.softmax(logits).astype(q.dtype)
  return jnp.einsum("nhij,njhd->nihd", weights, v)


def rotated(x: Array, angles: np.ndarray) -> Array:
  """Rotates the pairs (x_i, x_(i + d/2)) of queries or keys [n, t, heads, d] by angles [t, d/2]."""
  wide = jnp.promote_types(x.dtype, jnp.float32)
  cos, sin = (jnp.asarray(f(angles), wide)[:, None] for f in (np.cos, np.sin))
  a, b = jnp.split(x.astype(wide), 2, -1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def rotary(rows: int, columns: int, d: int, others: int) -> np.ndarray:
  """Returns the angles of rotary position embeddings, which are 0 for tokens that are no patches.

  The angles of the patch at (r, c) are 2π y ω_i and 2π x ω_i for i = 0, …, d/4 − 1, where y = 2 (r +
  ½) / rows − 1, x = 2 (c + ½) / columns − 1 and ω_i = 100^(−4 i / d), as in DINOv3 (without its random
  changes of the coordinates in training).

  Args:
    rows: the number of rows of patches.
    columns: the number of columns of patches.
    d: the width of a head, a multiple of 4.
    others: the number of tokens before the patches.

  Returns:
    [others + rows·columns, d/2].
  """
  omega = 100.0 ** (-4 * np.arange(d // 4) / d)
  sides = np.array([rows, columns]).reshape(2, 1)
  places = 2 * (np.indices((rows, columns)).reshape(2, -1) + 0.5) / sides - 1
  angles = 2 * np.pi * places[:, :, None] * omega  # [2, patches, d/4]
  return np.concatenate([np.zeros((others, d // 2)), np.concatenate([*angles], -1)])


class Feedforward(nnx.Module):
  """A linear map to 4 · `width`, GELU, and a linear map to `width`.

  Args:
    width: the width of a token.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
    gelu: "exact" (by erf) or "tanh", its approximation.
  """

  def __init__(self, width: int, dtype: str | None, rngs: nnx.Rngs, gelu: str = "exact"):
    self.approximate = gelu == "tanh"
    self.fc1 = nnx.Linear(width, 4 * width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)
    self.fc2 = nnx.Linear(4 * width, width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)

  def __call__(self, x: Array) -> Array:
    """Returns the new tokens [n, t, width]."""
    return self.fc2(jax.nn.gelu(self.fc1(x), approximate=self.approximate))


class LayerScale(nnx.Module):
  """Multiplies tokens by a learned factor per channel.

  Args:
    width: the width of a token.
    start: the first value of the factors.
  """

  def __init__(self, width: int, start: float):
    self.scale = nnx.Param(jnp.full(width, start))

  def __call__(self, x: Array) -> Array:
    """Returns the scaled tokens."""
    return x * self.scale[...].astype(x.dtype)


class AttentionPool(nnx.Module):
  """The attention of one learned query to all tokens, a, then a + MLP(LN(a)).

  Args:
    width: the width of a token.
    heads: the number of attention heads.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
    gelu: see `Feedforward`.
    epsilon: ε of LayerNorm.
  """

  def __init__(
    self, width: int, heads: int, dtype: str | None, rngs: nnx.Rngs, gelu: str, epsilon: float
  ):
    self.tokens = nnx.Param(jax.random.normal(rngs.params(), (1, 1, width)) / math.sqrt(width))
    self.q = nnx.Linear(width, width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)
    self.kv = QKV(width, dtype, rngs, queries=False)
    self.proj = nnx.Linear(width, width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)
    self.norm = nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)
    self.mlp = Feedforward(width, dtype, rngs, gelu)
    self.heads = heads

  def __call__(self, x: Array) -> Array:
    """Returns the pooled tokens [n, width]."""
    n, t, width = x.shape
    k, v = jnp.moveaxis(self.kv(x).reshape(n, t, 2, self.heads, -1), 2, 0)
    q = jnp.broadcast_to(
      self.q(self.tokens[...]).reshape(1, 1, self.heads, -1), (n, 1, *k.shape[2:])
    )
    y = self.proj(attended(q, k, v).reshape(n, width))
    return y + self.mlp(self.norm(y))


class Block(nnx.Module):
  """A pre-norm block: x + Attention(LN(x)), then x + MLP(LN(x)).

  Args:
    width: the width of a token.
    heads: the number of attention heads.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
    layer_scale: the first value of the factors of both summands; None: there are no factors.
    gelu: see `Feedforward`.
    epsilon: ε of LayerNorm.
  """

  def __init__(
    self, width: int, heads: int, dtype: str | None, rngs: nnx.Rngs, *,
    layer_scale: float | None = None, gelu: str = "exact", epsilon: float = 1e-6,
  ):  # fmt: skip
    self.norm1 = nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)
    self.attn = Attention(width, heads, dtype, rngs)
    self.norm2 = nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)
    self.mlp = Feedforward(width, dtype, rngs, gelu)
    self.ls1 = None if layer_scale is None else LayerScale(width, layer_scale)
    self.ls2 = None if layer_scale is None else LayerScale(width, layer_scale)

  def __call__(
    self, x: Array, mask: Array | None = None, angles: np.ndarray | None = None
  ) -> Array:
    """Returns the new tokens [n, t, width]. See `Attention` for the arguments."""
    y = self.attn(self.norm1(x), mask, angles)
    x = x + (y if self.ls1 is None else self.ls1(y))
    y = self.mlp(self.norm2(x))
    return x + (y if self.ls2 is None else self.ls2(y))
