"""BatchNorm over the global batch, or over groups of it that are drawn at random."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from contrastax.core import Encoder, UserError, named

MOMENTUM, EPSILON = 0.9, 1e-5


class BatchNorm(nnx.Module):
  """Ioffe and Szegedy 2015, arXiv 1502.03167; the last axis holds the features.

    y = scale (x − mean) / √(var + 1e-5) + bias

  In training mean and (biased) variance are those of the batch over all axes but the last:
  of the global batch, on any number of devices. The running ones, which serve in evaluation,
  become 0.9 of themselves + 0.1 of the batch's (PyTorch's momentum 0.1). The variance is taken
  about the mean: as E[x²] − E[x]² it cancels in float32 where the mean is large. All of this is
  in float32 at least; y has `dtype`, by default that of x and the parameters together.

  affine: whether there are a scale and a bias. groups: of n examples, each n/groups in a row are
  normalized by their own statistics, and the running ones follow the groups' mean. See
  `in_groups`.
  """

  def __init__(
    self, width: int, rngs: nnx.Rngs, *, groups: int = 1, dtype=None, affine: bool = True,
    scale_init=nnx.initializers.ones,
  ):  # fmt: skip
    self.scale = nnx.Param(scale_init(rngs.params(), (width,))) if affine else None
    self.bias = nnx.Param(nnx.initializers.zeros(rngs.params(), (width,))) if affine else None
    self.mean = nnx.BatchStat(jnp.zeros(width))
    self.var = nnx.BatchStat(jnp.ones(width))
    self.groups, self.dtype = groups, dtype
    self.use_running_average = False  # what `train()` and `eval()` set

  def __call__(self, x):
    scale, bias = (1, 0) if self.scale is None else (self.scale[...], self.bias[...])
    wide = jnp.promote_types(jnp.result_type(x, scale), jnp.float32)
    y = x.astype(wide)
    if self.use_running_average:
      mean, var = self.mean[...], self.var[...]
    else:
      # An axis of one group would make XLA's reductions on a CPU slow.
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
  """The encoder on a batch in random order, so that its BatchNorms' groups are random ones.

  MoCo's ShuffleBN (He et al. 2020, arXiv 1911.05722, §3.3): statistics per device would tell
  a query which of the keys was on its device. There a group is what a GPU holds, and the keys
  are shuffled; here the `groups` are of the global batch, the same on any number of devices,
  and every call with its own `key` has its own shuffle. Embeddings return in the order of x.

  Raises UserError for a batch that `groups` does not divide, ValueError without a key; both in
  training only, since evaluation has no groups.
  """
  if not isinstance(groups, int) or groups < 1:
    raise UserError(f"bn_groups must be an integer of at least 1, not {groups!r}")

  def apply(params, state, x, *, key=None, train):
    if not train or groups == 1:
      return encoder.apply(params, state, x, key=key, train=train)
    if key is None:
      raise ValueError("this encoder draws BatchNorm's groups in training: give apply a key")
    n = len(jax.tree.leaves(x)[0])
    if n % groups:
      raise UserError(
        f"a batch of {n} examples (all views together) cannot be divided into "
        f"bn_groups={groups}; take a divisor"
      )
    order = jax.random.permutation(named(key, "batch norm groups"), n)
    x = jax.tree.map(lambda rows: rows[order], x)
    y, state = encoder.apply(params, state, x, key=key, train=True)
    places = jnp.argsort(order)
    return jax.tree.map(lambda a: a[places], y), state

  return encoder._replace(apply=apply)
