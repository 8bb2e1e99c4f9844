"""Residual networks, for ImageNet's images, for CIFAR's, and for a few cores."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from flax import nnx

from contrastax.core import Encoder, UserError
from contrastax.encoders.batch_norm import BatchNorm, in_groups
from contrastax.encoders.nnx import check_dtype, check_image, check_widths, embedding, from_nnx
from contrastax.propagate import relu

STEMS = ("imagenet", "cifar")
ZERO = nnx.initializers.zeros


class BasicBlock(nnx.Module):
  """x + [3×3 conv, BN, ReLU, 3×3 conv, BN](x), then ReLU; the first convolution has the stride."""

  expansion = 1

  def __init__(self, channels, width, stride, conv, norm):
    self.conv1, self.bn1 = conv(channels, width, 3, stride), norm(width)
    self.conv2, self.bn2 = conv(width, width, 3, 1), norm(width, scale_init=ZERO)
    self.downsample = shortcut(channels, width, stride, conv, norm)

  def __call__(self, x):
    y = relu(self.bn1(self.conv1(x)))
    return relu(self.bn2(self.conv2(y)) + project(self.downsample, x))


class Bottleneck(nnx.Module):
  """x + [1×1, 3×3, 1×1](x), each with BN; the 3×3 convolution has the stride (v1.5), the last
  four times the width."""

  expansion = 4

  def __init__(self, channels, width, stride, conv, norm):
    self.conv1, self.bn1 = conv(channels, width, 1, 1), norm(width)
    self.conv2, self.bn2 = conv(width, width, 3, stride), norm(width)
    self.conv3, self.bn3 = conv(width, 4 * width, 1, 1), norm(4 * width, scale_init=ZERO)
    self.downsample = shortcut(channels, 4 * width, stride, conv, norm)

  def __call__(self, x):
    y = relu(self.bn1(self.conv1(x)))
    y = relu(self.bn2(self.conv2(y)))
    return relu(self.bn3(self.conv3(y)) + project(self.downsample, x))


def shortcut(channels, features, stride, conv, norm):
  """A 1×1 convolution and BatchNorm where the shape changes (option B), else nothing."""
  changes = channels != features or stride != 1
  return nnx.List([conv(channels, features, 1, stride), norm(features)] if changes else [])


def project(layers, x):
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
  """Images [n, h, w, c] → stem, stages of residual blocks, the mean over places [n, d].

  Every stage after the first halves height and width and doubles the channels.
  """

  def __init__(
    self, channels, block, blocks, *, stem, width, bn_groups, dtype, remat, hidden, rngs
  ):  # fmt: skip
    norm = functools.partial(BatchNorm, rngs=rngs, groups=bn_groups, dtype=dtype)

    def conv(channels, features, size, stride):
      return nnx.Conv(
        channels,
        features,
        (size, size),
        strides=stride,
        padding=size // 2,  # on both sides, as PyTorch; "SAME" would pad an even image on one
        use_bias=False,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        rngs=rngs,
      )

    self.imagenet, self.remat, self.hidden = stem == "imagenet", remat, hidden
    self.conv1 = conv(channels, width, 7, 2) if self.imagenet else conv(channels, width, 3, 1)
    self.bn1 = norm(width)
    self.stages = nnx.List([])
    channels = width
    for i, number in enumerate(blocks):
      stage = nnx.List([])
      for j in range(number):
        stride = 2 if i > 0 and j == 0 else 1
        stage.append(block(channels, width * 2**i, stride, conv, norm))
        channels = width * 2**i * block.expansion
      self.stages.append(stage)

  def __call__(self, x):
    x = relu(self.bn1(self.conv1(x)))
    if self.imagenet:
      x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    layers = {"stem": x}
    run = nnx.remat(_run) if self.remat else _run
    for i, stage in enumerate(self.stages, 1):
      for block in stage:
        x = run(block, x)
      layers[f"stage{i}"] = x
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return embedding({**layers, "embedding": x.mean((1, 2), dtype=wide)}, self.hidden)


def _run(block, x):
  return block(x)


def resnet(
  depth: int = 18, *, stem: str = "imagenet", width: int = 64, bn_groups: int = 1,
  dtype: str | None = None, remat: bool = False, hidden: tuple[str, ...] = (),
) -> Encoder:  # fmt: skip
  """ResNet-18, -34 or -50, or CIFAR's ResNet-8 (He et al. 2016, arXiv 1512.03385).

  Images [n, h, w, c] become embeddings [n, d], d = 8·width (8·4·width for 50): the mean over
  places after the last stage. Weights and activations are those of torchvision's, whose ResNet-50
  is "v1.5": the stride is in the 3×3 convolution. Convolutions before BatchNorm have no bias.
  Initialized as there: He normal by fan-out (1502.01852), BatchNorm's scale 1 and bias 0; but the
  last scale of every block is 0, so that each starts as the identity (Goyal et al. 2017,
  1706.02677, §5.1).

  BatchNorm has momentum 0.9 and ε 1e-5. All images of a call are one BatchNorm batch: where a
  method embeds both views at once, both views'; on several devices, all devices'.

  Args:
    depth: 18, 34, 50; or 8, three stages of one basic block, d = 4·width, for few cores (the
      CIFAR network of §4.2 with n = 1): `resnet(8, stem="cifar", width=16)`, 77,392 parameters;
      256 images of 32×32 took 1.3 s with their gradient and 0.2 s without on two busy CPU cores.
    stem: "imagenet", a 7×7 convolution of stride 2 and a 3×3 max-pool of stride 2; "cifar", a 3×3
      convolution of stride 1 and no pool (SimCLR, 2002.05709, §B.9).
    width: the first stage's; 128 is SimCLR's ResNet (2×), all channels doubled.
    bn_groups: BatchNorm's statistics are of this many random groups of the batch, drawn from
      `key` (MoCo's ShuffleBN on 8 GPUs: 8); by default of the whole batch. See `in_groups`.
    dtype: what is computed in, such as "bfloat16": parameters, BatchNorm's statistics and
      arithmetic, the mean over places and the result stay float32. By default the parameters'.
    remat: compute each block's activations again for the gradient, instead of keeping them.
    hidden: names of `stem`, `stage1`, …: the result is then a mapping of these [n, h', w', c'] and
      `embedding`.
  """
  if depth not in DEPTHS:
    raise UserError(f"resnet: depth must be one of {', '.join(map(str, DEPTHS))}, not {depth!r}")
  if stem not in STEMS:
    raise UserError(f"resnet: stem must be 'imagenet' or 'cifar', not {stem!r}")
  check_widths((width,))
  check_dtype(dtype)
  block, blocks = DEPTHS[depth]

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
      rngs=rngs,
    )

  return in_groups(from_nnx(build), bn_groups)
