"""Residual networks for ImageNet, for CIFAR, and for few CPU cores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx

from contrastax.core import Array, Encoder, UserError
from contrastax.encoders.batch_norm import BatchNorm, in_groups
from contrastax.encoders.freezing import check_frozen_layers, freeze
from contrastax.encoders.nnx import check_dtype, check_image, check_widths, embedding, from_nnx
from contrastax.propagate import relu

STEMS = ("imagenet", "cifar")
ZERO = nnx.initializers.zeros

Layer = Callable[..., Any]


class BasicBlock(nnx.Module):
  """x + [3×3 conv, BN, ReLU, 3×3 conv, BN](x), then ReLU.

  The first convolution has the stride.

  Args:
    channels: the channels of x.
    width: the channels of the result.
    stride: the stride.
    conv: `(channels, features, size, stride) -> nnx.Conv`.
    norm: `(features, **options) -> BatchNorm`.
  """

  expansion = 1

  def __init__(self, channels: int, width: int, stride: int, conv: Layer, norm: Layer):
    self.conv1, self.bn1 = conv(channels, width, 3, stride), norm(width)
    self.conv2, self.bn2 = conv(width, width, 3, 1), norm(width, scale_init=ZERO)
    self.downsample = shortcut(channels, width, stride, conv, norm)

  def __call__(self, x: Array) -> Array:
    """Returns the output of the block for x [n, h, w, channels]."""
    y = relu(self.bn1(self.conv1(x)))
    return relu(self.bn2(self.conv2(y)) + project(self.downsample, x))


class Bottleneck(nnx.Module):
  """x + [1×1, 3×3, 1×1 convolutions, each with BN](x), then ReLU.

  The 3×3 convolution has the stride (v1.5). The result has 4 · `width` channels. The arguments are those
  of `BasicBlock`.
  """

  expansion = 4

  def __init__(self, channels: int, width: int, stride: int, conv: Layer, norm: Layer):
    self.conv1, self.bn1 = conv(channels, width, 1, 1), norm(width)
    self.conv2, self.bn2 = conv(width, width, 3, stride), norm(width)
    self.conv3, self.bn3 = conv(width, 4 * width, 1, 1), norm(4 * width, scale_init=ZERO)
    self.downsample = shortcut(channels, 4 * width, stride, conv, norm)

  def __call__(self, x: Array) -> Array:
    """Returns the output of the block for x [n, h, w, channels]."""
    y = relu(self.bn1(self.conv1(x)))
    y = relu(self.bn2(self.conv2(y)))
    return relu(self.bn3(self.conv3(y)) + project(self.downsample, x))


def shortcut(channels: int, features: int, stride: int, conv: Layer, norm: Layer) -> nnx.List[Any]:
  """Returns a 1×1 convolution and BatchNorm if the shape changes (option B), else no layers."""
  changes = channels != features or stride != 1
  return nnx.List([conv(channels, features, 1, stride), norm(features)] if changes else [])


def project(layers: nnx.List[Any], x: Array) -> Array:
  """Applies the layers of a shortcut."""
  for layer in layers:
    x = layer(x)
  return x


DEPTHS = {
  8: (BasicBlock, (1, 1, 1)),
  18: (BasicBlock, (2, 2, 2, 2)),
  34: (BasicBlock, (3, 4, 6, 3)),
  50: (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nnx.Module):
  """A stem, stages of residual blocks, and the mean over positions, for images [n, h, w, c].

  Every stage after the first halves height and width and doubles the channels. See `resnet` for the
  arguments.
  """

  def __init__(
    self,
    channels: int,
    block: type[BasicBlock] | type[Bottleneck],
    blocks: Sequence[int],
    *,
    stem: str,
    width: int,
    bn_groups: int,
    dtype: str | None,
    remat: bool,
    hidden: tuple[str, ...],
    frozen_layers: int = 0,
    rngs: nnx.Rngs,
  ):
    norm = functools.partial(BatchNorm, rngs=rngs, groups=bn_groups, dtype=dtype)

    def conv(channels, features, size, stride):
      return nnx.Conv(
        channels,
        features,
        (size, size),
        strides=stride,
        padding=size // 2,  # on both sides, as in PyTorch; "SAME" pads an even image on one side
        use_bias=False,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        rngs=rngs,
      )

    self.imagenet, self.remat, self.hidden = stem == "imagenet", remat, hidden
    self.conv1 = conv(channels, width, 7, 2) if self.imagenet else conv(channels, width, 3, 1)
    self.bn1 = norm(width)
    self.stages: nnx.List[Any] = nnx.List([])
    channels = width
    for i, number in enumerate(blocks):
      stage: nnx.List[Any] = nnx.List([])
      for j in range(number):
        stride = 2 if i > 0 and j == 0 else 1
        stage.append(block(channels, width * 2**i, stride, conv, norm))
        channels = width * 2**i * block.expansion
      self.stages.append(stage)
    if frozen_layers:
      freeze(self, "conv1", "bn1")
    for stage in list(self.stages)[: max(0, frozen_layers - 1)]:
      freeze(stage)

  def __call__(self, x: Array) -> Any:
    """Returns the embedding [n, d], or a mapping of hidden layers and the embedding."""
    x = relu(self.bn1(self.conv1(x)))
    if self.imagenet:
      padding = ((1, 1), (1, 1))
      # Flax annotates `padding` as a string only.
      x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=padding)  # pyright: ignore[reportArgumentType]
    layers = {"stem": x}
    run = nnx.remat(_run) if self.remat else _run
    for i, stage in enumerate(self.stages, 1):
      for block in stage:
        x = run(block, x)
      layers[f"stage{i}"] = x
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return embedding({**layers, "embedding": x.mean((1, 2), dtype=wide)}, self.hidden)


def _run(block: Layer, x: Array) -> Array:
  return block(x)


def resnet(
  depth: Literal[8, 18, 34, 50] = 18, *, stem: Literal["imagenet", "cifar"] = "imagenet", width: int = 64, bn_groups: int = 1,
  dtype: str | None = None, remat: bool = False, hidden: tuple[str, ...] = (), frozen_layers: int = 0,
) -> Encoder:  # fmt: skip
  """ResNet-18, -34 and -50, and the ResNet-8 for CIFAR.

  The embedding [n, d] of images [n, h, w, c] is the mean over positions after the last stage, where
  d is 8 · `width` (depths 18 and 34), 32 · `width` (depth 50) or 4 · `width` (depth 8).

  Weights and activations are those of torchvision. Its ResNet-50 is "v1.5": the 3×3 convolution has the
  stride. Convolutions before BatchNorm have no bias. The weights are He normal by fan-out (arXiv
  1502.01852); the scales of BatchNorm are 1 and the biases 0. Unlike in torchvision the last scale of
  every block is 0, so that each block starts as the identity (arXiv 1706.02677, §5.1).

  BatchNorm has momentum 0.9 and ε = 1e-5. Its statistics are those of all images of a call, on all
  devices. They include both views if a method encodes both at once.

  Args:
    depth: 18, 34, 50 or 8. Depth 8 has three stages of one basic block (the network for CIFAR of
      §4.2 with n = 1), for few CPU cores. `resnet(8, stem="cifar", width=16)` has 77,392
      parameters; on two busy CPU cores, 256 images of 32×32 took 1.3 s with the gradient and 0.2 s
      without it.
    stem: "imagenet": a 7×7 convolution of stride 2 and a 3×3 max-pool of stride 2. "cifar": a 3×3
      convolution of stride 1 and no pooling (SimCLR, arXiv 2002.05709, §B.9).
    width: the channels of the first stage; 128 gives the ResNet (2×) of SimCLR.
    bn_groups: the number of random groups of the batch over which BatchNorm computes its statistics; 8
      is ShuffleBN of MoCo on 8 GPUs. See `in_groups` in `contrastax.encoders.batch_norm`.
    dtype: the type of the computation, such as "bfloat16". None means the type of the parameters.
      Parameters, BatchNorm, the mean over positions and the result are float32.
    remat: whether the activations of each block are recomputed for the gradient instead of stored.
    hidden: names of hidden layers, `stem`, `stage1`, … The output is then a mapping of these layers
      [n, h', w', c'] and `embedding`.
    frozen_layers: the number of first layers that are not trained: 1 is the stem, 2 the stem and
      the first stage, …. Their weights are state, and their BatchNorms use their running averages
      in training too, without changing them.

  Returns:
    The encoder.

  Raises:
    UserError: an argument is invalid.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from contrastax import encoders
    >>> encoder = encoders.resnet(8, stem="cifar", width=4)
    >>> params, state = encoder.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    >>> encoder.apply(params, state, jnp.zeros((2, 8, 8, 3)), key=None, train=False)[0].shape
    (2, 16)

  References:
    He et al., "Deep residual learning for image recognition", 2016, arXiv 1512.03385.
  """
  if depth not in DEPTHS:
    raise UserError(f"resnet: depth must be one of {', '.join(map(str, DEPTHS))}, not {depth!r}")
  if stem not in STEMS:
    raise UserError(f"resnet: stem must be 'imagenet' or 'cifar', not {stem!r}")
  check_widths((width,))
  check_dtype(dtype)
  block, blocks = DEPTHS[depth]
  check_frozen_layers("resnet", frozen_layers, 1 + len(blocks))

  def build(x, rngs):
    check_image("resnet", x)
    return ResNet(
      x.shape[-1],
      block,
      blocks,
      stem=stem,
      width=width,
      bn_groups=bn_groups,
      dtype=dtype,
      remat=remat,
      hidden=hidden,
      frozen_layers=frozen_layers,
      rngs=rngs,
    )

  return in_groups(from_nnx(build), bn_groups)
