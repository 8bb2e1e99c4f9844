"""The embeddings of a large batch, with a gradient in the memory of a small one."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from contrastax.core import Encoder, UserError


def chunked(encoder: Encoder, n: int, *, batch_norm: str | None = None) -> Encoder:
  """An encoder that computes a large batch in n chunks: gradient caching.

    z_i = f(x_i),  x_i = x[i::n]        i = 0, …, n − 1;  z in the order of x

  Use it where a batch does not fit the memory, in place of gradient accumulation:

    methods.SimCLR(encoder=encoders.chunked(encoders.resnet(50), 8, batch_norm="per chunk"), …)

  Only the embeddings of a chunk are kept, and f(x_i) is computed again for the gradient. So the
  activations of one chunk are in memory at a time, for the time of one more forward pass. The loss
  sees the whole batch with all its negatives: its gradient is the exact one, also by a learned
  temperature, and one train step is one step of the optimizer. Gradient accumulation
  (`optax.MultiSteps`) is different: each micro-batch sees only its own negatives.

  Chunk i draws from fold_in(key, i) both times, so dropout is exact too; only in that does n = 1
  differ from f. On a mesh no input moves if the number of devices divides the size of a chunk. With
  `train=False` the batch is not divided and may have any size.

  Args:
    encoder: f; x and f(x) are arrays [b, …] or trees of such.
    n: the number of chunks, a divisor of the batch size b.
    batch_norm: "per chunk", for an f with state: each chunk is normalized by its own statistics,
      and the running ones pass through the chunks in order.

  Returns:
    An encoder with the parameters and the state of f.

  Raises:
    UserError: an n that is no positive integer or does not divide b; an f with state (z would
      depend on n) unless `batch_norm` is given; inputs of different lengths.

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

  return encoder._replace(init=init, apply=apply)


def _divide(x, n):
  """[b, …] → [n, b/n, …], whose row i is x[i::n]."""
  sizes = {len(leaf) for leaf in jax.tree.leaves(x)}
  if len(sizes) != 1:
    raise UserError(f"chunked: all inputs of a batch have one length, not {sorted(sizes)}")
  b = sizes.pop()
  if b % n:
    divisors = [d for d in range(1, b + 1) if b % d == 0]
    near = [d for d in divisors if d < n][-1:] + [d for d in divisors if d > n][:1]
    mend = " or ".join(f"n={d}" for d in near)
    raise UserError(f"chunked: a batch of {b} cannot be divided into n={n} chunks; take {mend}")
  return jax.tree.map(lambda a: a.reshape(b // n, n, *a.shape[1:]).swapaxes(0, 1), x)
