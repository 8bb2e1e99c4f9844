"""A small convolutional network, for small images and few cores."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from flax import nnx
from jax import lax

from contrastax.core import Encoder
from contrastax.encoders.batch_norm import BatchNorm
from contrastax.encoders.nnx import check_image, check_widths, from_nnx
from contrastax.propagate import relu


class ConvNet(nnx.Module):
  """Per width: 3×3 convolution of stride 2 without bias, BatchNorm, ReLU; then the global mean.

  Images [n, h, w, c] in [0, 1] become embeddings [n, widths[-1]].
  """

  def __init__(self, channels: int, widths, *, rngs: nnx.Rngs):
    self.layers = nnx.List([])
    for width in widths:
      conv = nnx.Conv(
        channels, width, (3, 3), strides=2, use_bias=False,
        conv_general_dilated=convolution, rngs=rngs,
      )  # fmt: skip
      self.layers.append(conv)
      self.layers.append(BatchNorm(width, rngs))
      channels = width

  def __call__(self, x):
    for conv, norm in zip(self.layers[::2], self.layers[1::2], strict=True):
      x = relu(norm(conv(x)))
    return x.mean((1, 2))


def convolution(x, kernel, strides, padding, **others):
  """`lax.conv_general_dilated` of images [n, h, w, c]; on a CPU, one product of all patches.

  The same sums in another order, and there faster than XLA's convolution, above all backwards
  and with many channels: see benchmarks/throughput.py. Without dilation or groups.
  """
  conv = functools.partial(
    lax.conv_general_dilated, window_strides=strides, padding=padding, **others
  )
  product = functools.partial(_product_of_patches, strides=strides, padding=padding)
  return lax.platform_dependent(x, kernel, cpu=product, default=conv)


def _product_of_patches(x, kernel, strides, padding):
  h, w, channels, out = kernel.shape
  x = jnp.pad(x, ((0, 0), *lax.padtype_to_pads(x.shape[1:3], (h, w), strides, padding), (0, 0)))
  rows, columns = ((a - b) // s + 1 for a, b, s in zip(x.shape[1:3], (h, w), strides, strict=True))
  # lax.slice and a product of two matrices: indexing, and a product of more axes, are slower.
  patches = [
    lax.slice(
      x,
      (0, i, j, 0),
      (len(x), i + strides[0] * (rows - 1) + 1, j + strides[1] * (columns - 1) + 1, channels),
      (1, *strides, 1),
    )
    for i in range(h)
    for j in range(w)
  ]
  patches = jnp.concatenate(patches, -1).reshape(-1, h * w * channels)
  return (patches @ kernel.reshape(-1, out)).reshape(len(x), rows, columns, out)


def convnet(widths: tuple[int, ...] = (32, 64, 128)) -> Encoder:
  """`ConvNet(widths)` as an encoder; its channels are those of the images."""
  check_widths(widths)

  def build(x, rngs):
    check_image("convnet", x)
    return ConvNet(x.shape[-1], widths, rngs=rngs)

  return from_nnx(build)
