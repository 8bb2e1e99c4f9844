"""BatchNorm over the global batch, or over random groups of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from contrastax.core import Array, Encoder, UserError, named

MOMENTUM, EPSILON = 0.9, 1e-5


class BatchNorm(nnx.Module):
  """Batch normalization. The last axis of the input is the axis of features.

      y = scale (x − mean) / √(var + 1e-5) + bias

  In training the mean and the biased variance are those of the global batch, over all axes but the
  last, on any number of devices. In evaluation they are running averages, which become
  0.9 · average + 0.1 · batch statistic in each training step (PyTorch's momentum 0.1).

  The variance is E[(x − mean)²]. E[x²] − E[x]² would cancel in float32 if the mean is large. The
  computation is in float32 at least.

  Args:
    width: the number of features.
    rngs: the random streams of the module.
    groups: the number of groups of consecutive examples that are normalized by their own statistics.
      The running averages follow the mean of the groups. See `in_groups`.
    dtype: the type of y. The default is the promoted type of x and the parameters, at least
      float32.
    affine: whether there are a scale and a bias.
    scale_init: the initializer of the scale.

  Attributes:
    frozen: whether the running averages are used and kept in training too.

  References:
    Ioffe and Szegedy, "Batch normalization", 2015, arXiv 1502.03167.
  """

  def __init__(
    self, width: int, rngs: nnx.Rngs, *, groups: int = 1, dtype: DTypeLike | None = None,
    affine: bool = True, scale_init: Initializer = nnx.initializers.ones,
  ):  # fmt: skip
    self.scale = nnx.Param(scale_init(rngs.params(), (width,))) if affine else None
    self.bias = nnx.Param(nnx.initializers.zeros(rngs.params(), (width,))) if affine else None
    self.mean = nnx.BatchStat(jnp.zeros(width))
    self.var = nnx.BatchStat(jnp.ones(width))
    self.groups, self.dtype = groups, dtype
    self.use_running_average = False  # `train()` and `eval()` set this
    self.frozen = False

  def __call__(self, x: Array) -> Array:
    """Normalizes x [n, …, width]; in training it also updates the running averages."""
    scale = 1 if self.scale is None else self.scale[...]
    bias = 0 if self.bias is None else self.bias[...]
    wide = jnp.promote_types(jnp.result_type(x, scale), jnp.float32)
    y = x.astype(wide)
    if self.use_running_average or self.frozen:
      mean, var = self.mean[...], self.var[...]
    else:
      # An axis of a single group would slow down the reductions of XLA on a CPU.
      if self.groups > 1:
        y = y.reshape(self.groups, -1, *x.shape[1:])
      axes = tuple(range(self.groups > 1, y.ndim - 1))
      mean = y.mean(axes, keepdims=True)
      var = jnp.square(y - mean).mean(axes, keepdims=True)
      for running, now in ((self.mean, mean), (self.var, var)):
        now = jax.lax.stop_gradient(now).reshape(self.groups, -1).mean(0)
        running[...] = (MOMENTUM * running[...] + (1 - MOMENTUM) * now).astype(running.dtype)
    y = (y - mean) * (jax.lax.rsqrt(var + EPSILON) * scale) + bias
    return y.reshape(x.shape).astype(self.dtype or wide)


def in_groups(encoder: Encoder, groups: int) -> Encoder:
  """Applies an encoder to the batch in random order, so that the groups of BatchNorm are random.

  The embeddings are returned in the order of x. The random order depends on the random key of the
  call. In evaluation there are no groups.

  Args:
    encoder: an encoder whose BatchNorms have `groups` groups.
    groups: the number of groups of the global batch, on any number of devices.

  Returns:
    The encoder. In training its `apply` raises UserError if `groups` does not divide the batch, and
    ValueError without a random key.

  Raises:
    UserError: `groups` is not a positive integer.

  References:
    He et al., "Momentum contrast", 2020, arXiv 1911.05722, §3.3 (ShuffleBN). There a group is the
    batch of a GPU. Without the shuffle the statistics would reveal which keys come from the GPU of
    the query.
  """
  if not isinstance(groups, int) or groups < 1:
    raise UserError(f"bn_groups must be an integer of at least 1, not {groups!r}")

  def apply(params, state, x, *, key=None, train):
    if not train or groups == 1:
      return encoder.apply(params, state, x, key=key, train=train)
    if key is None:
      raise ValueError("the groups of BatchNorm are random in training; pass a key to apply")
    n = len(jax.tree.leaves(x)[0])
    if n % groups:
      raise UserError(
        f"a batch of {n} examples (all views together) cannot be divided into "
        f"bn_groups={groups}; use a divisor of {n}"
      )
    order = jax.random.permutation(named(key, "batch norm groups"), n)
    x = jax.tree.map(lambda rows: rows[order], x)
    y, state = encoder.apply(params, state, x, key=key, train=True)
    inverse = jnp.argsort(order)
    return jax.tree.map(lambda a: a[inverse], y), state

  return encoder._replace(apply=apply)
