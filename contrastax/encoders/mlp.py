"""A multilayer perceptron, and the projection head made of the same layers."""

from __future__ import annotations

import math

from flax import nnx

from contrastax.core import Encoder
from contrastax.encoders.batch_norm import BatchNorm
from contrastax.encoders.nnx import check_widths, from_nnx
from contrastax.propagate import relu


class MLP(nnx.Module):
  """Per hidden width: linear without bias, BatchNorm, ReLU; then a linear layer if `out`.

  With `norm_out` BatchNorm without scale and bias follows, and that layer has no bias. Input [n, …] is flattened. A bias before BatchNorm would have a gradient of rounding
  errors alone, which Adam blows up to full steps.
  """

  def __init__(self, features: int, widths, out: int | None, norm_out=False, *, rngs: nnx.Rngs):
    self.hidden = nnx.List([])
    for width in widths:
      self.hidden.append(nnx.Linear(features, width, use_bias=False, rngs=rngs))
      self.hidden.append(BatchNorm(width, rngs))
      features = width
    self.out = nnx.Linear(features, out, use_bias=not norm_out, rngs=rngs) if out else None
    self.norm_out = BatchNorm(out, rngs, affine=False) if norm_out else None

  def __call__(self, x):
    x = x.reshape(x.shape[0], -1)
    for linear, norm in zip(self.hidden[::2], self.hidden[1::2], strict=True):
      x = relu(norm(linear(x)))
    x = x if self.out is None else self.out(x)
    return x if self.norm_out is None else self.norm_out(x)


def mlp(widths: tuple[int, ...]) -> Encoder:
  """An encoder for small inputs: an MLP, whose last hidden layer is the embedding."""
  check_widths(widths)
  return from_nnx(lambda x, rngs: MLP(math.prod(x.shape), widths, None, rngs=rngs))


def projection(
  widths: tuple[int, ...] = (128,), out: int = 64, *, norm_out: bool = False
) -> Encoder:
  """A head: hidden layers as in `MLP`, then a linear layer to `out` dimensions.

  It is trained with the encoder and dropped after training (SimCLR: Chen et al. 2020, §4.2), and
  so is a predictor, which has the same layers. norm_out: BatchNorm without scale and bias after
  the last layer, as in SimSiam's projection, and MoCo v3's projection and predictor.
  """
  check_widths((*widths, out) if isinstance(widths, tuple | list) else widths)
  return from_nnx(lambda h, rngs: MLP(math.prod(h.shape), widths, out, norm_out, rngs=rngs))
