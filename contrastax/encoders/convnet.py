"""A small convolutional network, for small images and few cores."""

from __future__ import annotations

import jax
from flax import nnx

from contrastax.core import Encoder
from contrastax.encoders.batch_norm import BatchNorm
from contrastax.encoders.nnx import check_image, check_widths, from_nnx


class ConvNet(nnx.Module):
  """Per width: 3×3 convolution of stride 2 without bias, BatchNorm, ReLU; then the global mean.

  Images [n, h, w, c] in [0, 1] become embeddings [n, widths[-1]].
  """

  def __init__(self, channels: int, widths, *, rngs: nnx.Rngs):
    self.layers = nnx.List([])
    for width in widths:
      conv = nnx.Conv(channels, width, (3, 3), strides=2, use_bias=False, rngs=rngs)
      self.layers.append(conv)
      self.layers.append(BatchNorm(width, rngs))
      channels = width

  def __call__(self, x):
    for conv, norm in zip(self.layers[::2], self.layers[1::2], strict=True):
      x = jax.nn.relu(norm(conv(x)))
    return x.mean((1, 2))


def convnet(widths: tuple[int, ...] = (32, 64, 128)) -> Encoder:
  """`ConvNet(widths)` as an encoder; its channels are those of the images."""
  check_widths(widths)

  def build(x, rngs):
    check_image("convnet", x)
    return ConvNet(x.shape[-1], widths, rngs=rngs)

  return from_nnx(build)
