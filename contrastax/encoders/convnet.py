"""A small convolutional network for small images and few cores."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax

from contrastax.core import Array, Encoder
from contrastax.encoders.batch_norm import BatchNorm
from contrastax.encoders.nnx import check_dtype, check_image, check_widths, from_nnx
from contrastax.propagate import relu


class ConvNet(nnx.Module):
  """Convolutional layers and a global mean, for images [n, h, w, c] in [0, 1].

  Each layer is a 3×3 convolution of stride 2 without bias, BatchNorm and ReLU.

  Args:
    channels: the channels c of the images.
    widths: the channels of each layer.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
  """

  def __init__(
    self, channels: int, widths: Sequence[int], *, dtype: str | None = None, rngs: nnx.Rngs
  ):
    self.layers: nnx.List[Any] = nnx.List([])
    for width in widths:
      conv = nnx.Conv(
        channels, width, (3, 3), strides=2, use_bias=False,
        conv_general_dilated=convolution, dtype=dtype, rngs=rngs,
      )  # fmt: skip
      self.layers.append(conv)
      self.layers.append(BatchNorm(width, rngs, dtype=dtype))
      channels = width

  def __call__(self, x: Array) -> Array:
    """Returns the embeddings [n, widths[-1]] of images."""
    for conv, norm in zip(self.layers[::2], self.layers[1::2], strict=True):
      x = relu(norm(conv(x)))
    return x.mean((1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))


def convolution(
  x: Array, kernel: Array, strides: Sequence[int], padding: Any, **others: Any
) -> Array:
  """Convolves images [n, h, w, c]. On a CPU it computes one matrix product of all patches.

  The product computes the same sums in another order. On a CPU it is faster than XLA's convolution,
  in particular for gradients and many channels; see benchmarks/throughput.py. It supports neither
  dilation nor groups. The arguments are those of `jax.lax.conv_general_dilated`.
  """
  conv = functools.partial(
    lax.conv_general_dilated, window_strides=strides, padding=padding, **others
  )
  product = functools.partial(_product_of_patches, strides=strides, padding=padding)
  return lax.platform_dependent(x, kernel, cpu=product, default=conv)


def _product_of_patches(x: Array, kernel: Array, strides: Sequence[int], padding: Any) -> Array:
  h, w, channels, out = kernel.shape
  x = jnp.pad(x, ((0, 0), *lax.padtype_to_pads(x.shape[1:3], (h, w), strides, padding), (0, 0)))
  rows, columns = ((a - b) // s + 1 for a, b, s in zip(x.shape[1:3], (h, w), strides, strict=True))
  # Indexing instead of lax.slice, and a product over more axes, would be slower.
  patches = [
    lax.slice(
      x,
      (0, i, j, 0),
      (x.shape[0], i + strides[0] * (rows - 1) + 1, j + strides[1] * (columns - 1) + 1, channels),
      (1, *strides, 1),
    )
    for i in range(h)
    for j in range(w)
  ]
  patches = jnp.concatenate(patches, -1).reshape(-1, h * w * channels)
  return (patches @ kernel.reshape(-1, out)).reshape(x.shape[0], rows, columns, out)


def convnet(widths: tuple[int, ...] = (32, 64, 128), *, dtype: str | None = None) -> Encoder:
  """A small convolutional network for images [n, h, w, c] in [0, 1].

  Args:
    widths: the channels of each layer. The last is the dimension of the embedding. A layer is a 3×3
      convolution of stride 2 without bias, BatchNorm and ReLU. The embedding is the global mean.
    dtype: the type of the computation, such as "bfloat16". None means the type of the parameters.
      Parameters, BatchNorm, the mean over positions and the result are float32.

  Returns:
    The encoder.

  Raises:
    UserError: a width is not a positive integer, or `dtype` is not a floating-point type.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from contrastax import encoders
    >>> encoder, images = encoders.convnet((8, 16)), jnp.zeros((4, 32, 32, 3))
    >>> params, state = encoder.init(jax.random.key(0), images)
    >>> z, _ = encoder.apply(params, state, images, key=None, train=False)
    >>> z.shape
    (4, 16)
  """
  check_widths(widths)
  check_dtype(dtype)

  def build(x, rngs):
    check_image("convnet", x)
    return ConvNet(x.shape[-1], widths, dtype=dtype, rngs=rngs)

  return from_nnx(build)
