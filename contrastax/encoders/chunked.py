"""Gradient caching: the gradient of a large batch in the memory of a small batch."""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from contrastax.core import Encoder, State, UserError


def chunked(encoder: Encoder, n: int, *, batch_norm: Literal["per chunk"] | None = None) -> Encoder:
  """Encodes a large batch in n chunks (gradient caching).

      z_i = f(x_i),  x_i = x[i::n]        i = 0, …, n − 1;  z in the order of x

  Use it for batches that do not fit into memory. Only the embeddings of the chunks are stored, and
  f(x_i) is computed again for the gradient. So memory holds the activations of only one chunk at a
  time, at the cost of one more forward pass. The loss reads the whole batch with all its negatives,
  so its gradient is exact. This includes the gradient of a learned temperature. One training step
  is one step of the optimizer. With gradient accumulation (`optax.MultiSteps`) each micro-batch has
  only its own negatives.

  Chunk i uses the random key fold_in(key, i) in both forward passes, so dropout is exact too.
  With one chunk, only this random key differs from f. On a mesh no input moves between devices if
  their number divides the size of a chunk. With `train=False` the batch is not divided and may have any size.

  Args:
    encoder: f; x and f(x) are arrays [b, …] or trees of such arrays.
    n: the number of chunks, a divisor of the batch size b.
    batch_norm: "per chunk" if f has state. Each chunk is then normalized by its own statistics, and
      the chunks update the running averages in order. None if f has no state.

  Returns:
    An encoder with the parameters and the state of f. Its functions raise UserError if n does not
    divide b, if the inputs have different lengths, or if f has state and `batch_norm` is None, because
    z would then depend on n.

  Raises:
    UserError: n is not a positive integer, or `batch_norm` has another value.

  Example:
    >>> from contrastax import encoders
    >>> encoder = encoders.chunked(encoders.resnet(50), 8, batch_norm="per chunk")

  References:
    Gao et al., "Scaling deep contrastive learning batch size under memory limited setup", 2021, arXiv
    2101.06983, §3.

  In other libraries:
    The gradient accumulation of OpenCLIP multiplies the gradient of the temperature by n and draws
    different dropout masks the second time.
  """
  if not isinstance(n, int) or n < 1:
    raise UserError(f"chunked: n must be an integer of at least 1, not {n!r}")
  if batch_norm not in (None, "per chunk"):
    raise UserError(f'chunked: batch_norm must be "per chunk" or None, not {batch_norm!r}')

  def check_state(state: State) -> State:
    if batch_norm is None and jax.tree.leaves(state):
      raise UserError(
        "chunked: the encoder has state, such as BatchNorm's, so its result depends on the "
        "chunks; to normalize each chunk separately, or if the state is only weights that are not trained, "
        f'use chunked(encoder, {n}, batch_norm="per chunk")'
      )
    return state

  def init(key, x):
    params, state = encoder.init(key, x)
    return params, check_state(state)

  def apply(params, state, x, *, key=None, train):
    if not train:
      return encoder.apply(params, state, x, key=key, train=False)

    @functools.partial(jax.checkpoint, prevent_cse=False)  # a scan already prevents CSE
    def encode_chunk(state, chunk):
      i, x = chunk
      chunk_key = None if key is None else jax.random.fold_in(key, i)
      z, state = encoder.apply(params, state, x, key=chunk_key, train=True)
      return state, z

    state, z = jax.lax.scan(encode_chunk, check_state(state), (jnp.arange(n), _divide(x, n)))
    return jax.tree.map(lambda a: a.swapaxes(0, 1).reshape(-1, *a.shape[2:]), z), state

  return encoder._replace(init=init, apply=apply)


def _divide(x: Any, n: int) -> Any:
  """Reshapes [b, …] to [n, b/n, …]. Row i of the result is x[i::n]."""
  sizes = {len(leaf) for leaf in jax.tree.leaves(x)}
  if len(sizes) != 1:
    raise UserError(
      f"chunked: all inputs of a batch must have the same length, not {sorted(sizes)}"
    )
  b = sizes.pop()
  if b % n:
    divisors = [d for d in range(1, b + 1) if b % d == 0]
    near = [d for d in divisors if d < n][-1:] + [d for d in divisors if d > n][:1]
    fix = " or ".join(f"n={d}" for d in near)
    raise UserError(f"chunked: a batch of {b} cannot be divided into n={n} chunks; use {fix}")
  return jax.tree.map(lambda a: a.reshape(b // n, n, *a.shape[1:]).swapaxes(0, 1), x)
