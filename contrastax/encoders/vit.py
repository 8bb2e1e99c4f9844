"""The Vision Transformer, with the changes of MoCo v3 for contrastive learning."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from contrastax.core import Array, Encoder, UserError
from contrastax.encoders.freezing import check_frozen_layers, freeze
from contrastax.encoders.nnx import check_dtype, check_image, embedding, from_nnx
from contrastax.encoders.transformer import XAVIER, AttentionPool, Block, rotary

POSITIONS = ("sincos", "learned", "rope")


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
    if frozen:
      freeze(self.proj)

  def __call__(self, x: Array) -> Array:
    """Returns the tokens [n, h/p · w/p, width] of images [n, h, w, c]."""
    y = self.proj(x)
    return y.reshape(y.shape[0], -1, y.shape[-1])


class ViT(nnx.Module):
  """A Vision Transformer: patches, further tokens, positions, blocks and a last LayerNorm.

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
    registers: int,
    layer_scale: float | None,
    pool: str,
    gelu: str,
    epsilon: float,
    frozen_layers: int,
    rngs: nnx.Rngs,
  ):
    self.grid = (shape[0] // patch, shape[1] // patch)
    self.patch_embed = Patches(shape[2], width, patch, freeze_patches, dtype, rngs)

    def drawn(count, deviation):
      return nnx.Param(deviation * jax.random.normal(rngs.params(), (1, count, width)))

    token = pool == "token"
    self.cls_token = drawn(1, 1e-6) if token else None
    # The default rules of the optimizers do not decay a parameter of this name.
    self.tokens = drawn(registers, 1e-6) if registers else None
    count = token + math.prod(self.grid)
    self.pos_embed = drawn(count, 0.02) if positions == "learned" else None
    options = {"layer_scale": layer_scale, "gelu": gelu, "epsilon": epsilon}
    self.blocks = nnx.List([Block(width, heads, dtype, rngs, **options) for _ in range(depth)])
    self.norm = nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)
    pooling = functools.partial(AttentionPool, width, heads, dtype, rngs, gelu, epsilon)
    self.attn_pool = None if token else pooling()
    if frozen_layers:
      freeze(self, "patch_embed", "cls_token", "tokens", "pos_embed")
    for block in list(self.blocks)[: max(0, frozen_layers - 1)]:
      freeze(block)
    self.heads, self.positions, self.remat, self.hidden = heads, positions, remat, hidden

  def __call__(self, x: Array) -> Any:
    """Returns the embedding [n, width], or a mapping of hidden layers and the embedding."""
    x = self.patch_embed(x)
    n, patches, width = x.shape

    def repeated(token: Any) -> list[Array]:
      if token is None:
        return []
      return [jnp.broadcast_to(token[...].astype(x.dtype), (n, *token.shape[1:]))]

    token = repeated(self.cls_token)
    x = jnp.concatenate([*token, x], 1) if token else x
    if self.pos_embed is not None:
      x = x + self.pos_embed[...].astype(x.dtype)
    elif self.positions == "sincos":
      x = x + jnp.asarray(sincos(*self.grid, width, len(token)), x.dtype)
    if registers := repeated(self.tokens):
      x = jnp.concatenate([x[:, : len(token)], *registers, x[:, len(token) :]], 1)
    angles = None
    if self.positions == "rope":
      angles = rotary(*self.grid, width // self.heads, x.shape[1] - patches)
    layers = {"patches": x}

    def plain(block, x):
      return block(x, angles=angles)

    run = nnx.remat(plain) if self.remat else plain
    for i, block in enumerate(self.blocks, 1):
      layers[f"block{i}"] = x = run(block, x)
    pooled = self.norm(x[:, 0]) if self.attn_pool is None else self.attn_pool(self.norm(x))
    return embedding({**layers, "embedding": pooled}, self.hidden)


def sincos(rows: int, columns: int, width: int, others: int = 1) -> np.ndarray:
  """Returns the fixed position embeddings, which are 0 for tokens that are no patches.

  The embedding of the patch at (r, c) is the concatenation of sin r·ω, cos r·ω, sin c·ω and cos
  c·ω, where ω_i = 10000^(−i/(width/4)), i = 0, …, width/4 − 1.

  Args:
    rows: the number of rows of patches.
    columns: the number of columns of patches.
    width: the width of a token, a multiple of 4.
    others: the number of tokens before the patches.

  Returns:
    [1, others + rows·columns, width].
  """
  omega = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
  angles = np.indices((rows, columns)).reshape(2, -1, 1) * omega  # [2, patches, width/4]
  patches = np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], -1)
  return np.concatenate([np.zeros((others, width)), patches])[None]


def vit(
  width: int = 384, depth: int = 12, heads: int = 12, *, patch: int = 16,
  positions: Literal["sincos", "learned", "rope"] = "sincos", freeze_patches: bool = True,
  dtype: str | None = None, remat: bool = False, hidden: tuple[str, ...] = (), registers: int = 0,
  layer_scale: float | None = None, pool: Literal["token", "attention"] = "token",
  gelu: Literal["exact", "tanh"] = "exact", epsilon: float = 1e-6, frozen_layers: int = 0,
) -> Encoder:  # fmt: skip
  """The Vision Transformer of MoCo v3.

      ViT-Ti  vit(192, heads=3)     ViT-S  vit(384)     ViT-B  vit(768)

  The embedding [n, width] of images [n, h, w, c] is the class token after the last LayerNorm. The network
  has pre-norm blocks, LayerNorm, GELU, an MLP of 4 · `width` units and no dropout.

  As in MoCo v3, ViT-S has 12 heads, positions are fixed, the random projection of patches is not
  trained, weights are Xavier uniform (for queries, keys and values separately), biases are 0, and
  the class token has standard deviation 1e-6. The bias of the keys is not trained.

  Other Vision Transformers differ in these arguments:

      DINOv2    positions="learned", layer_scale=1e-5, and registers=4 for its models "with registers"
      DINOv3    positions="rope", layer_scale=1e-5, registers=4, epsilon=1e-5
      SigLIP 2  positions="learned", pool="attention", gelu="tanh"

  If a linear layer and BatchNorm follow, the bias of the last LayerNorm has no effect, and its gradient
  consists of rounding errors.

  Args:
    width: the width of a token, a multiple of 4 and of `heads`.
    depth: the number of blocks.
    heads: the number of attention heads.
    patch: the side of a patch; it divides height and width of the images.
    positions: "sincos" computes fixed positions from the row and column of a patch; the images of
      `apply` may then have another size than those of `init`. "learned" positions are parameters,
      initialized with standard deviation 0.02. "rope" rotates queries and keys by angles that are
      proportional to the place of a patch, relative to the image; the images may have another size
      too. A head then has a width that is a multiple of 4.
    freeze_patches: whether the random projection of patches is state, which is not trained.
    dtype: the type of the computation, such as "bfloat16". None means the type of the parameters.
      Parameters, LayerNorm, the softmax and the result are float32.
    remat: whether the activations of each block are recomputed for the gradient instead of stored.
    hidden: names of hidden layers, `patches`, `block1`, … The output is then a mapping of
      `embedding` and these layers, which are tokens [n, t, width] with the class token first, then
      the registers, then the patches.
    registers: the number of further learned tokens, which have no position.
    layer_scale: the first value of a learned factor per channel of each attention and each MLP. None
      means that there are no such factors.
    pool: "token": the class token. "attention": there is no class token, and the embedding is the
      attention of a learned query to all tokens after the last LayerNorm, followed by an MLP.
    gelu: "exact" computes GELU by erf, "tanh" by its usual approximation.
    epsilon: ε of LayerNorm.
    frozen_layers: the number of first layers that are not trained: 1 is all that precedes the blocks,
      2 that and the first block, …. Their weights are state.

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
    Touvron et al., layer scale, 2021, arXiv 2103.17239. Darcet et al., registers, 2023, arXiv
    2309.16588. Siméoni et al., DINOv3, 2025, arXiv 2508.10104. Zhai et al., attention pooling, 2022,
    arXiv 2106.04560.

  In other libraries:
    The ViT-S of DeiT and timm has 6 heads; its weights have the same shapes.
  """
  for name, value in {"width": width, "depth": depth, "heads": heads, "patch": patch}.items():
    if not isinstance(value, int) or value < 1:
      raise UserError(f"vit: {name} must be a positive integer, not {value!r}")
  if width % heads or width % 4:
    raise UserError(f"vit: width={width} must be a multiple of heads={heads} and of 4")
  if positions not in POSITIONS:
    raise UserError(f"vit: positions must be 'sincos', 'learned' or 'rope', not {positions!r}")
  if positions == "rope" and width // heads % 4:
    raise UserError(
      f"vit: positions='rope' needs heads whose width is a multiple of 4, not {width // heads}"
    )
  if pool not in ("token", "attention"):
    raise UserError(f"vit: pool must be 'token' or 'attention', not {pool!r}")
  if gelu not in ("exact", "tanh"):
    raise UserError(f"vit: gelu must be 'exact' or 'tanh', not {gelu!r}")
  if isinstance(registers, bool) or not isinstance(registers, int) or registers < 0:
    raise UserError(f"vit: registers must be an integer of at least 0, not {registers!r}")
  if not 0 < epsilon < 1:
    raise UserError(f"vit: epsilon must be above 0 and below 1, not {epsilon!r}")
  check_frozen_layers("vit", frozen_layers, 1 + depth)
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
      registers=registers,
      layer_scale=layer_scale,
      pool=pool,
      gelu=gelu,
      epsilon=epsilon,
      frozen_layers=frozen_layers,
      rngs=rngs,
    )

  return from_nnx(build)
