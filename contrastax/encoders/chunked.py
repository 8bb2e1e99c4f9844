"""The embeddings of a large batch, with a gradient in the memory of a small one."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp

from contrastax.core import Encoder, UserError


def chunked(encoder: Encoder, n: int, *, batch_norm: str | None = None) -> Encoder:
  """The encoder f on n chunks of the batch, one after another: gradient caching.

    z_i = f(x_i),  x_i = x[i::n]        i = 0, …, n − 1;  z in the order of x

  Of a chunk only its embeddings are kept; for the gradient f(x_i) is computed again. So
  one chunk's activations are in memory at a time, for one more forward pass, while the
  loss sees the whole batch: the gradient is the exact one, learned temperatures included.
  Chunk i draws from fold_in(key, i), both times: dropout is exact too. In that alone n = 1
  differs from f. On a mesh no input moves, if the devices' number divides a chunk's size.

  Args:
    encoder: f; x and f(x) are arrays [b, …] or trees of such.
    n: the number of chunks, a divisor of the batch size b.
    batch_norm: "per chunk", for an f with state: every chunk is normalised by its own
      statistics, and the running ones pass through the chunks in order.

  With `train=False` the batch, of any size, is not divided: the result is f's.

  Raises UserError for an n that is no integer above 0 or does not divide b, and for an f
  with state (z would depend on n) unless `batch_norm` is given.

  Gao et al. 2021, arXiv 2101.06983, §3. OpenCLIP's gradient accumulation multiplies the
  temperature's gradient by n and draws other dropout masks the second time.
  """
  if not isinstance(n, int) or n < 1:
    raise UserError(f"chunked: n must be an integer of at least 1, not {n!r}")
  if batch_norm not in (None, "per chunk"):
    raise UserError(f'chunked: batch_norm must be "per chunk" or left out, not {batch_norm!r}')

  def allowed(state):
    if batch_norm is None and jax.tree.leaves(state):
      raise UserError(
        "chunked: the encoder has state, such as BatchNorm's, so its result depends on the "
        f'chunks; if you mean that, write chunked(encoder, {n}, batch_norm="per chunk")'
      )
    return state

  def init(key, x):
    params, state = encoder.init(key, x)
    return params, allowed(state)

  def apply(params, state, x, *, key=None, train):
    if not train:
      return encoder.apply(params, state, x, key=key, train=False)

    @functools.partial(jax.checkpoint, prevent_cse=False)  # which a scan does not need
    def one(state, chunk):
      i, x = chunk
      own = None if key is None else jax.random.fold_in(key, i)
      z, state = encoder.apply(params, state, x, key=own, train=True)
      return state, z

    state, z = jax.lax.scan(one, allowed(state), (jnp.arange(n), _divide(x, n)))
    return jax.tree.map(lambda a: a.swapaxes(0, 1).reshape(-1, *a.shape[2:]), z), state

  return Encoder(init, apply)


def _divide(x, n):
  """[b, …] → [n, b/n, …], whose row i is x[i::n]."""
  chex.assert_equal_shape_prefix(jax.tree.leaves(x), 1)
  b = jax.tree.leaves(x)[0].shape[0]
  if b % n:
    divisors = [d for d in range(1, b + 1) if b % d == 0]
    near = [d for d in divisors if d < n][-1:] + [d for d in divisors if d > n][:1]
    mend = " or ".join(f"n={d}" for d in near)
    raise UserError(f"chunked: a batch of {b} cannot be divided into n={n} chunks; take {mend}")
  return jax.tree.map(lambda a: a.reshape(b // n, n, *a.shape[1:]).swapaxes(0, 1), x)
