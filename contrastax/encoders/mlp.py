"""A multilayer perceptron (MLP) as an encoder and as a projection."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from contrastax.core import Array, Encoder
from contrastax.encoders.batch_norm import BatchNorm
from contrastax.encoders.nnx import check_dtype, check_widths, from_nnx
from contrastax.propagate import relu


class MLP(nnx.Module):
  """Hidden layers, and optionally an output layer. Inputs [n, …] are flattened.

  A hidden layer is a linear map without bias, BatchNorm and ReLU. The gradient of a bias before
  BatchNorm would consist of rounding errors only, which Adam would scale up to full steps.

  Args:
    features: the number of inputs.
    widths: the width of each hidden layer.
    out: the number of outputs of a last linear layer; None: there is no such layer.
    norm_out: whether BatchNorm without scale and bias follows the last layer, which then has no bias.
    dtype: the type of the computation; None: that of the parameters.
    rngs: the random streams of the module.
  """

  def __init__(
    self,
    features: int,
    widths: Sequence[int],
    out: int | None,
    norm_out: bool = False,
    *,
    dtype: str | None = None,
    rngs: nnx.Rngs,
  ):
    self.hidden: nnx.List[Any] = nnx.List([])
    for width in widths:
      self.hidden.append(nnx.Linear(features, width, use_bias=False, dtype=dtype, rngs=rngs))
      self.hidden.append(BatchNorm(width, rngs, dtype=dtype))
      features = width
    last = functools.partial(nnx.Linear, use_bias=not norm_out, dtype=dtype, rngs=rngs)
    self.out = last(features, out) if out else None
    self.norm_out = BatchNorm(out, rngs, affine=False) if norm_out and out else None

  def __call__(self, x: Array) -> Array:
    """Returns the outputs [n, out], or the last hidden layer [n, widths[-1]]."""
    x = x.reshape(x.shape[0], -1)
    for linear, norm in zip(self.hidden[::2], self.hidden[1::2], strict=True):
      x = relu(norm(linear(x)))
    x = x if self.out is None else self.out(x)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x if self.norm_out is None else self.norm_out(x)


def mlp(widths: tuple[int, ...], *, dtype: str | None = None) -> Encoder:
  """An MLP for small inputs. Its last hidden layer is the embedding.

  Args:
    widths: the widths of the layers; the last is the dimension of the embedding. A layer is a linear
      map without bias, BatchNorm and ReLU.
    dtype: the type of the computation, such as "bfloat16". None means the type of the parameters.
      Parameters, BatchNorm and the result are float32.

  Returns:
    An encoder of inputs [n, …], which are flattened.

  Raises:
    UserError: a width is not a positive integer, or `dtype` is not a floating-point type.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from contrastax import encoders
    >>> encoder, x = encoders.mlp((32, 16)), jnp.zeros((4, 8, 8))
    >>> params, state = encoder.init(jax.random.key(0), x)
    >>> encoder.apply(params, state, x, key=None, train=False)[0].shape
    (4, 16)
  """
  check_widths(widths)
  check_dtype(dtype)
  return from_nnx(lambda x, rngs: MLP(math.prod(x.shape), widths, None, dtype=dtype, rngs=rngs))


def projection(
  widths: tuple[int, ...] = (128,), out: int = 64, *, norm_out: bool = False,
  dtype: str | None = None,
) -> Encoder:  # fmt: skip
  """A projection or predictor: hidden layers and a linear output layer.

  It is trained with the encoder and not used after training.

  Args:
    widths: the widths of the hidden layers. Each is a linear map without bias, BatchNorm and ReLU.
      An empty tuple gives a linear projection.
    out: the number of outputs.
    norm_out: whether BatchNorm without scale and bias follows the last layer, as in the projection of
      SimSiam and in the projection and predictor of MoCo v3.
    dtype: see `mlp`.

  Returns:
    The projection as an encoder of vectors [n, d].

  Raises:
    UserError: a width or `out` is not a positive integer, or `dtype` is not a floating-point type.

  Example:
    >>> from contrastax import encoders
    >>> simclr, linear = encoders.projection((128,), 64), encoders.projection((), 64)

  References:
    Chen et al., "A simple framework for contrastive learning of visual representations" (SimCLR), 2020,
    arXiv 2002.05709, §4.2.
  """
  check_widths((*widths, out) if isinstance(widths, tuple | list) else widths)
  check_dtype(dtype)
  return from_nnx(
    lambda h, rngs: MLP(math.prod(h.shape), widths, out, norm_out, dtype=dtype, rngs=rngs)
  )
