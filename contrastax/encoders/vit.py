"""The Vision Transformer, with the changes of MoCo v3 for contrastive learning."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from contrastax.core import Array, Encoder, UserError
from contrastax.encoders.nnx import check_dtype, check_image, embedding, from_nnx

POSITIONS = ("sincos", "learned")
XAVIER = nnx.initializers.glorot_uniform()
LECUN = nnx.initializers.lecun_uniform()


class Frozen(nnx.Variable):
  """A random weight that is not trained. It is state, so weight decay does not change it either."""


class Patches(nnx.Module):
  """A linear projection of the p×p patches of images.

  Args:
    channels: the channels of the images.
    width: the width of a token.
    patch: p.
    frozen: whether the projection is not trained.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
  """

  def __init__(
    self, channels: int, width: int, patch: int, frozen: bool, dtype: str | None, rngs: nnx.Rngs
  ):
    def xavier(key, shape, dtype):
      # The convolution is a linear map of patches, whose fan-in is the size of a patch.
      return XAVIER(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)

    size = (patch, patch)
    self.proj = nnx.Conv(
      channels, width, size, strides=size, padding=0, kernel_init=xavier, dtype=dtype, rngs=rngs
    )
    bias = self.proj.bias
    if frozen and bias is not None:
      # Flax annotates these attributes as Param, but accepts any Variable.
      self.proj.kernel = Frozen(self.proj.kernel[...])  # pyright: ignore[reportAttributeAccessIssue]
      self.proj.bias = Frozen(bias[...])  # pyright: ignore[reportAttributeAccessIssue]

  def __call__(self, x: Array) -> Array:
    """Returns the tokens [n, h/p · w/p, width] of images [n, h, w, c]."""
    y = self.proj(x)
    return y.reshape(y.shape[0], -1, y.shape[-1])


class QKV(nnx.Module):
  """Queries, keys and values of tokens.

  A bias of the keys adds the same number to all logits of a query. So its gradient consists of
  rounding errors only, which Adam would scale up to full steps. The bias exists for pretrained
  weights, but it is not trained.

  Args:
    width: the width of a token.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
  """

  def __init__(self, width: int, dtype: str | None, rngs: nnx.Rngs):
    # LeCun's bound √(3/width) of this map is Xavier's bound of the three maps of width × width.
    self.kernel = nnx.Param(LECUN(rngs.params(), (width, 3 * width)))
    self.bias = nnx.Param(jnp.zeros(3 * width))
    self.dtype = dtype

  def __call__(self, x: Array) -> Array:
    """Returns queries, keys and values [n, t, 3·width] of tokens [n, t, width]."""
    q, k, v = jnp.split(self.bias[...], 3)
    bias = jnp.concatenate([q, jax.lax.stop_gradient(k), v])
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

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns the new tokens [n, t, width]. `mask` [n, t] selects the tokens that are attended to."""
    n, t, width = x.shape
    q, k, v = jnp.moveaxis(self.qkv(x).reshape(n, t, 3, self.heads, -1), 2, 0)
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("nihd,njhd->nhij", q, k, preferred_element_type=wide)
    logits = logits / math.sqrt(width // self.heads)
    if mask is not None:
      logits = jnp.where(mask[:, None, None], logits, jnp.finfo(wide).min)
    weights = jax.nn.softmax(logits).astype(q.dtype)
    return self.proj(jnp.einsum("nhij,njhd->nihd", weights, v).reshape(n, t, width))


class Feedforward(nnx.Module):
  """A linear map to 4 · `width`, exact GELU (by erf), and a linear map to `width`.

  Args:
    width: the width of a token.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
  """

  def __init__(self, width: int, dtype: str | None, rngs: nnx.Rngs):
    self.fc1 = nnx.Linear(width, 4 * width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)
    self.fc2 = nnx.Linear(4 * width, width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)

  def __call__(self, x: Array) -> Array:
    """Returns the new tokens [n, t, width]."""
    return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Block(nnx.Module):
  """A pre-norm block: x + Attention(LN(x)), then x + MLP(LN(x)).

  Args:
    width: the width of a token.
    heads: the number of attention heads.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
  """

  def __init__(self, width: int, heads: int, dtype: str | None, rngs: nnx.Rngs):
    self.norm1 = nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, rngs=rngs)
    self.attn = Attention(width, heads, dtype, rngs)
    self.norm2 = nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, rngs=rngs)
    self.mlp = Feedforward(width, dtype, rngs)

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns the new tokens [n, t, width]. `mask` [n, t] selects the tokens that are attended to."""
    x = x + self.attn(self.norm1(x), mask)
    return x + self.mlp(self.norm2(x))


class ViT(nnx.Module):
  """A Vision Transformer: patches, a class token, positions, blocks and a last LayerNorm.

  Args:
    shape: [h, w, c] of an image.

  See `vit` for the other arguments.
  """

  def __init__(
    self,
    shape: tuple[int, ...],
    *,
    width: int,
    depth: int,
    heads: int,
    patch: int,
    positions: str,
    freeze_patches: bool,
    dtype: str | None,
    remat: bool,
    hidden: tuple[str, ...],
    rngs: nnx.Rngs,
  ):
    self.grid = (shape[0] // patch, shape[1] // patch)
    self.patch_embed = Patches(shape[2], width, patch, freeze_patches, dtype, rngs)
    self.cls_token = nnx.Param(1e-6 * jax.random.normal(rngs.params(), (1, 1, width)))
    if positions == "learned":
      tokens = 1 + math.prod(self.grid)
      self.pos_embed = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, tokens, width)))
    else:
      self.pos_embed = None
    self.blocks = nnx.List([Block(width, heads, dtype, rngs) for _ in range(depth)])
    self.norm = nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, rngs=rngs)
    self.remat, self.hidden = remat, hidden

  def __call__(self, x: Array) -> Any:
    """Returns the embedding [n, width], or a mapping of hidden layers and the embedding."""
    x = self.patch_embed(x)
    token = jnp.broadcast_to(self.cls_token[...].astype(x.dtype), (x.shape[0], 1, x.shape[-1]))
    x = jnp.concatenate([token, x], 1)
    learned = self.pos_embed
    positions = sincos(*self.grid, x.shape[-1]) if learned is None else learned[...]
    x = x + jnp.asarray(positions, x.dtype)
    layers = {"patches": x}
    run = nnx.remat(_run) if self.remat else _run
    for i, block in enumerate(self.blocks, 1):
      layers[f"block{i}"] = x = run(block, x)
    return embedding({**layers, "embedding": self.norm(x[:, 0])}, self.hidden)


def _run(block: Block, x: Array) -> Array:
  return block(x)


def sincos(rows: int, columns: int, width: int) -> np.ndarray:
  """Returns the fixed position embeddings, which are 0 for the class token.

  The embedding of the patch at (r, c) is the concatenation of sin r·ω, cos r·ω, sin c·ω and cos
  c·ω, where ω_i = 10000^(−i/(width/4)), i = 0, …, width/4 − 1.

  Args:
    rows: the number of rows of patches.
    columns: the number of columns of patches.
    width: the width of a token, a multiple of 4.

  Returns:
    [1, 1 + rows·columns, width].
  """
  omega = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
  angles = np.indices((rows, columns)).reshape(2, -1, 1) * omega  # [2, patches, width/4]
  patches = np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], -1)
  return np.concatenate([np.zeros((1, width)), patches])[None]


def vit(
  width: int = 384, depth: int = 12, heads: int = 12, *, patch: int = 16,
  positions: Literal["sincos", "learned"] = "sincos", freeze_patches: bool = True, dtype: str | None = None,
  remat: bool = False, hidden: tuple[str, ...] = (),
) -> Encoder:  # fmt: skip
  """The Vision Transformer of MoCo v3.

      ViT-Ti  vit(192, heads=3)     ViT-S  vit(384)     ViT-B  vit(768)

  The embedding [n, width] of images [n, h, w, c] is the class token after the last LayerNorm. The network
  has pre-norm blocks, LayerNorm with ε = 1e-6, exact GELU, an MLP of 4 · `width` units and no dropout.

  As in MoCo v3, ViT-S has 12 heads, positions are fixed, the random projection of patches is not
  trained, weights are Xavier uniform (for queries, keys and values separately), biases are 0, and
  the class token has standard deviation 1e-6. The bias of the keys is not trained.

  If a linear layer and BatchNorm follow, the bias of the last LayerNorm has no effect, and its gradient
  consists of rounding errors.

  Args:
    width: the width of a token, a multiple of 4 and of `heads`.
    depth: the number of blocks.
    heads: the number of attention heads.
    patch: the side of a patch; it divides height and width of the images.
    positions: "sincos" computes fixed positions from the row and column of a patch; the images of
      `apply` may then have another size than those of `init`. "learned" positions are parameters,
      initialized with standard deviation 0.02.
    freeze_patches: whether the random projection of patches is state, which is not trained.
    dtype: the type of the computation, such as "bfloat16". None means the type of the parameters.
      Parameters, LayerNorm, the softmax and the result are float32.
    remat: whether the activations of each block are recomputed for the gradient instead of stored.
    hidden: names of hidden layers, `patches`, `block1`, … The output is then a mapping of
      `embedding` and these layers, which are tokens [n, 1 + patches, width] with the class token
      first.

  Returns:
    The encoder.

  Raises:
    UserError: an argument is invalid.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from contrastax import encoders
    >>> encoder, images = encoders.vit(16, depth=1, heads=2, patch=4), jnp.zeros((2, 8, 8, 3))
    >>> params, state = encoder.init(jax.random.key(0), images)
    >>> encoder.apply(params, state, images, key=None, train=False)[0].shape
    (2, 16)

  References:
    Dosovitskiy et al., "An image is worth 16x16 words", 2021, arXiv 2010.11929.
    Chen et al., "An empirical study of training self-supervised vision transformers" (MoCo v3), 2021,
    arXiv 2104.02057, §4 and code.

  In other libraries:
    The ViT-S of DeiT and timm has 6 heads; its weights have the same shapes.
  """
  for name, value in {"width": width, "depth": depth, "heads": heads, "patch": patch}.items():
    if not isinstance(value, int) or value < 1:
      raise UserError(f"vit: {name} must be a positive integer, not {value!r}")
  if width % heads or width % 4:
    raise UserError(f"vit: width={width} must be a multiple of heads={heads} and of 4")
  if positions not in POSITIONS:
    raise UserError(f"vit: positions must be 'sincos' or 'learned', not {positions!r}")
  check_dtype(dtype)

  def build(x, rngs):
    check_image("vit", x)
    h, w, _ = x.shape
    if h % patch or w % patch:
      sides = [d for d in range(1, min(h, w) + 1) if h % d == 0 == w % d]
      nearest = min(sides, key=lambda d: abs(d - patch))
      raise UserError(f"vit: patch={patch} does not divide images of {h}×{w}; use patch={nearest}")
    return ViT(
      x.shape,
      width=width,
      depth=depth,
      heads=heads,
      patch=patch,
      positions=positions,
      freeze_patches=freeze_patches,
      dtype=dtype,
      remat=remat,
      hidden=hidden,
      rngs=rngs,
    )

  return from_nnx(build)
