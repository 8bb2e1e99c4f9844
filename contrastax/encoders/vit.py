"""The Vision Transformer, as contrastive learning trains it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from contrastax.core import Encoder, UserError
from contrastax.encoders.nnx import check_dtype, check_image, embedding, from_nnx

POSITIONS = ("sincos", "learned")
XAVIER = nnx.initializers.glorot_uniform()
LECUN = nnx.initializers.lecun_uniform()


class Frozen(nnx.Variable):
  """A drawn weight that no gradient trains: state, which no weight decay reaches either."""


class Patches(nnx.Module):
  """Patches p×p of an image [n, h, w, c], each linearly projected: [n, h/p · w/p, width]."""

  def __init__(self, channels, width, patch, frozen, dtype, rngs):
    def xavier(key, shape, dtype):  # of the linear map that this convolution is
      return XAVIER(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)

    size = (patch, patch)
    self.proj = nnx.Conv(
      channels, width, size, strides=size, padding=0, kernel_init=xavier, dtype=dtype, rngs=rngs
    )
    if frozen:
      self.proj.kernel = Frozen(self.proj.kernel[...])
      self.proj.bias = Frozen(self.proj.bias[...])

  def __call__(self, x):
    y = self.proj(x)
    return y.reshape(len(y), -1, y.shape[-1])


class QKV(nnx.Module):
  """Queries, keys and values [n, t, 3·width] of tokens [n, t, width].

  A bias of the keys adds the same to all logits of a query: its gradient is of rounding errors
  alone, which Adam blows up to full steps. It is kept, for others' weights, but not trained.
  """

  def __init__(self, width, dtype, rngs):
    # LeCun's bound √(3/width) is Xavier's for queries, keys and values as three maps.
    self.kernel = nnx.Param(LECUN(rngs.params(), (width, 3 * width)))
    self.bias = nnx.Param(jnp.zeros(3 * width))
    self.dtype = dtype

  def __call__(self, x):
    q, k, v = jnp.split(self.bias[...], 3)
    bias = jnp.concatenate([q, jax.lax.stop_gradient(k), v])
    dtype = self.dtype or jnp.promote_types(x.dtype, bias.dtype)
    return x.astype(dtype) @ self.kernel[...].astype(dtype) + bias.astype(dtype)


class Attention(nnx.Module):
  """Multi-head self-attention: softmax(q kᵀ / √(width/heads)) v per head.

  The softmax is in float32 at least; in float64 too, where `jax.nn.dot_product_attention` is not.
  seen: [n, t] bool, the tokens that are attended to; all by default.
  """

  def __init__(self, width, heads, dtype, rngs):
    self.qkv = QKV(width, dtype, rngs)
    self.proj = nnx.Linear(width, width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)
    self.heads = heads

  def __call__(self, x, seen=None):
    n, t, width = x.shape
    q, k, v = jnp.moveaxis(self.qkv(x).reshape(n, t, 3, self.heads, -1), 2, 0)
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("nihd,njhd->nhij", q, k, preferred_element_type=wide)
    logits = logits / math.sqrt(width // self.heads)
    if seen is not None:
      logits = jnp.where(seen[:, None, None], logits, jnp.finfo(wide).min)
    weights = jax.nn.softmax(logits).astype(q.dtype)
    return self.proj(jnp.einsum("nhij,njhd->nihd", weights, v).reshape(n, t, width))


class Feedforward(nnx.Module):
  """Linear to four times the width, GELU (exact, by erf), linear."""

  def __init__(self, width, dtype, rngs):
    self.fc1 = nnx.Linear(width, 4 * width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)
    self.fc2 = nnx.Linear(4 * width, width, kernel_init=XAVIER, dtype=dtype, rngs=rngs)

  def __call__(self, x):
    return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Block(nnx.Module):
  """x + Attention(LN(x)), then x + MLP(LN(x)): pre-norm."""

  def __init__(self, width, heads, dtype, rngs):
    self.norm1 = nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, rngs=rngs)
    self.attn = Attention(width, heads, dtype, rngs)
    self.norm2 = nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, rngs=rngs)
    self.mlp = Feedforward(width, dtype, rngs)

  def __call__(self, x, seen=None):
    x = x + self.attn(self.norm1(x), seen)
    return x + self.mlp(self.norm2(x))


class ViT(nnx.Module):
  """Patches and a class token, with their positions, through the blocks and a last LayerNorm."""

  def __init__(
    self, shape, *, width, depth, heads, patch, positions, freeze_patches, dtype, remat, hidden, rngs
  ):  # fmt: skip
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

  def __call__(self, x):
    x = self.patch_embed(x)
    token = jnp.broadcast_to(self.cls_token[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
    x = jnp.concatenate([token, x], 1)
    fixed = self.pos_embed is None
    positions = sincos(*self.grid, x.shape[-1]) if fixed else self.pos_embed[...]
    x = x + jnp.asarray(positions, x.dtype)
    layers = {"patches": x}
    run = nnx.remat(_run) if self.remat else _run
    for i, block in enumerate(self.blocks, 1):
      layers[f"block{i}"] = x = run(block, x)
    return embedding({**layers, "embedding": self.norm(x[:, 0])}, self.hidden)


def _run(block, x):
  return block(x)


def sincos(rows: int, columns: int, width: int) -> np.ndarray:
  """Fixed positions [1, 1 + rows·columns, width] of the class token (0) and the patches.

  Of the patch at (r, c): sin r·ω, cos r·ω, sin c·ω, cos c·ω side by side, where
  ω_i = 10000^(−i/(width/4)), i = 0, …, width/4 − 1.
  """
  omega = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
  places = np.indices((rows, columns)).reshape(2, -1, 1) * omega  # [2, patches, width/4]
  patches = np.concatenate([f(place) for place in places for f in (np.sin, np.cos)], -1)
  return np.concatenate([np.zeros((1, width)), patches])[None]


def vit(
  width: int = 384, depth: int = 12, heads: int = 12, *, patch: int = 16,
  positions: str = "sincos", freeze_patches: bool = True, dtype: str | None = None,
  remat: bool = False, hidden: tuple[str, ...] = (),
) -> Encoder:  # fmt: skip
  """The Vision Transformer (Dosovitskiy et al. 2021, arXiv 2010.11929), trained as MoCo v3 does.

    ViT-Ti  vit(192, heads=3)     ViT-S  vit(384)     ViT-B  vit(768)

  Images [n, h, w, c] become embeddings [n, width]: the class token after the last LayerNorm.
  Pre-norm blocks, LayerNorm with ε 1e-6, exact GELU, an MLP of 4·width, no dropout. From MoCo v3
  (Chen et al. 2021, 2104.02057, §4 and its code): ViT-S has 12 heads (DeiT's and timm's has 6,
  with the same weights' shapes); positions are fixed; the patches' projection stays as it was
  drawn; Xavier-uniform weights, for queries, keys and values each, biases 0, a class token of
  standard deviation 1e-6. Keys have no trained bias (see `QKV`). If a linear layer and BatchNorm
  follow, the last LayerNorm's bias has no effect and only rounding for a gradient.

  Args:
    width, depth, heads: heads divide the width, and so must 4.
    patch: side of a patch; divides height and width of the images.
    positions: "sincos", fixed, of rows and columns (see `sincos`; the images of `apply` may have
      another size than those of `init`); "learned", from a normal of deviation 0.02.
    freeze_patches: the patches' random projection is state, not a parameter; False trains it.
    dtype: what is computed in, such as "bfloat16": parameters, LayerNorm, the attention's softmax
      and the result stay float32. By default the parameters' type.
    remat: compute each block's activations again for the gradient, instead of keeping them.
    hidden: names of `patches`, `block1`, …: the result is then a mapping of these, tokens
      [n, 1 + patches, width] with the class token first, and `embedding`.
  """
  for name, value in {"width": width, "depth": depth, "heads": heads, "patch": patch}.items():
    if not isinstance(value, int) or value < 1:
      raise UserError(f"vit: {name} must be a positive integer, not {value!r}")
  if width % heads or width % 4:
    raise UserError(f"vit: heads={heads} and 4 must divide width={width}")
  if positions not in POSITIONS:
    raise UserError(f"vit: positions must be 'sincos' or 'learned', not {positions!r}")
  check_dtype(dtype)

  def build(x, rngs):
    check_image("vit", x)
    h, w, _ = x.shape
    if h % patch or w % patch:
      sides = [d for d in range(1, min(h, w) + 1) if h % d == 0 == w % d]
      near = min(sides, key=lambda d: abs(d - patch))
      raise UserError(f"vit: patch={patch} does not divide images of {h}×{w}; take patch={near}")
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
