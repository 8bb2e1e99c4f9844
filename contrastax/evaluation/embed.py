"""Embeds a whole data set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from contrastax.core import Array, Encoder, Params, State, UserError, embedding_of, named_leaves
from contrastax.data.columns import Column
from contrastax.views.images import as_input, check_inputs


def embed(
  encoder: Encoder,
  params: Params,
  state: State,
  inputs: Any,
  *,
  batch_size: int = 512,
  bounded: bool = True,
) -> np.ndarray:
  """Embeds inputs with the encoder in evaluation mode.

  Args:
    encoder: the encoder. If it has several outputs, `embedding` is used.
    params: its parameters.
    state: its state.
    inputs: an array, a `data.Column`, or a tree of these, with one example per row. Images are
      [n, h, w, c], uint8 or float in [0, 1]; uint8 is divided by 255. Arrays of fewer than four axes
      are vectors, texts or tokens, and are not changed.
    batch_size: number of inputs in one call of the encoder, 1 or more.
    bounded: whether float images must lie in [0, 1]. Use False for random views, and for images that
      are normalized.

  Returns:
    Embeddings [n, d], NumPy float32.

  Raises:
    UserError: the images have another type, range or shape, there are no inputs, or the arrays have
      different lengths.

  Example:
    >>> import jax
    >>> import numpy as np
    >>> from contrastax import encoders, evaluation
    >>> encoder = encoders.mlp((8,))
    >>> images = np.zeros((5, 4, 4, 1), np.uint8)
    >>> params, state = encoder.init(jax.random.key(0), images[:1] / 255)
    >>> evaluation.embed(encoder, params, state, images).shape
    (5, 8)
  """
  if isinstance(inputs, list):
    check_inputs("embed: inputs", inputs)
  for name, leaf in named_leaves(inputs):
    if not isinstance(leaf, Column):
      check_inputs(f"embed: inputs{f' {name!r}' if name else ''}", leaf, bounded=bounded)
  count_rows(inputs)
  if not (isinstance(batch_size, int | np.integer) and batch_size >= 1):
    raise UserError(f"embed: batch_size must be an integer, 1 or more, not {batch_size!r}")

  def embed_batch(batch: Any) -> np.ndarray:
    # Scaling is a separate program, so that uint8 and float images share the encoder's program.
    batch = jax.tree.map(lambda x: _as_input(x) if x.dtype == np.uint8 else x, batch)
    return np.asarray(_apply(encoder, params, state, batch), np.float32)

  return in_batches(embed_batch, inputs, batch_size)


def in_batches(function: Callable[[Any], Any], inputs: Any, batch_size: int = 512) -> Any:
  """Applies a function of a batch to all inputs.

  All batches have the same shape, so one compiled program is enough. If there are fewer inputs than
  `batch_size`, the batch size is the next power of two, so that sets of similar sizes share a
  program.

  Args:
    function: maps a batch to an array or a tree of arrays, with one row per example.
    inputs: an array or a tree of arrays with one example per row.
    batch_size: number of examples in a batch. The last batch is filled up with copies of its last
      example.

  Returns:
    NumPy arrays with one row per example, in the structure of the function's result.
  """
  n = count_rows(inputs)
  batch_size = min(batch_size, 1 << (n - 1).bit_length())
  results = []
  for start in range(0, n, batch_size):
    batch = jax.tree.map(lambda rows, start=start: _filled(rows[start:], batch_size), inputs)
    size = min(batch_size, n - start)
    results.append(jax.tree.map(lambda rows, size=size: np.asarray(rows)[:size], function(batch)))
  return jax.tree.map(lambda *rows: np.concatenate(rows), *results)


def count_rows(inputs: Any) -> int:
  """Returns the number of examples of a tree of arrays.

  Raises:
    UserError: the arrays have different lengths.
  """
  lengths = {len(leaf) if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(inputs)}
  if len(lengths) != 1:
    raise UserError(f"inputs must be arrays of equal length, not {sorted(lengths)}")
  return lengths.pop()


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
  """Returns the first `size` rows. If there are fewer, the last one is repeated."""
  rows = np.asarray(rows[:size])  # It reads the rows of a `data.Column`.
  missing = size - len(rows)
  return np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]) if missing else rows


_as_input = jax.jit(as_input)


@functools.partial(jax.jit, static_argnums=0)
def _apply(encoder: Encoder, params: Params, state: State, inputs: Any) -> Array:
  return embedding_of(encoder.apply(params, state, inputs, key=None, train=False)[0])
