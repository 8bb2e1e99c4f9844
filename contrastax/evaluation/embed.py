"""Embeddings of a whole set of inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from contrastax.core import Encoder, Params, State, UserError, embedding_of, named_leaves
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
  """Embeddings [n, d], NumPy float32, of a whole set of inputs.

  The encoder runs in evaluation mode on `batch_size` inputs at a time. The last batch is filled up,
  so that one program serves all batches. Of an encoder with several outputs `embedding` is taken.

  Args:
    encoder, params, state: the network, as training left it.
    inputs: an array, or a tree of arrays, with one row per example. Images are [n, h, w, c], uint8
      or float in [0, 1]; uint8 is divided by 255. Inputs of fewer axes are no images, but vectors,
      texts or tokens, and reach the encoder as they are.
    batch_size: inputs in one call of the encoder; at least 1.
    bounded: whether float images must lie in [0, 1]. False is for random views, and for images that
      are normalized as a recipe's `mean` and `std` normalize views.

  Raises:
    UserError: images of another type, range or shape, no inputs, or arrays of different lengths.
  """
  if isinstance(inputs, list):
    check_inputs("embed: inputs", inputs)
  for name, leaf in named_leaves(inputs):
    check_inputs(f"embed: inputs{f' {name!r}' if name else ''}", leaf, bounded=bounded)
  count_rows(inputs)
  if not (isinstance(batch_size, int | np.integer) and batch_size >= 1):
    raise UserError(f"embed: batch_size must be an integer, 1 or more, not {batch_size!r}")

  def of_batch(part):
    # Scaled by a program of its own, so that uint8 and float images share the encoder's.
    part = jax.tree.map(lambda x: _as_input(x) if x.dtype == np.uint8 else x, part)
    return np.asarray(_apply(encoder, params, state, part), np.float32)

  return in_batches(of_batch, inputs, batch_size)


def in_batches(function: Callable[[Any], Any], inputs: Any, batch_size: int = 512) -> Any:
  """The rows that a function of batches gives for all inputs, as NumPy arrays.

  All batches have one shape, so that one program serves them. For fewer inputs than `batch_size` it
  is the next power of two, so that sets of similar sizes share a program too.

  Args:
    function: maps a batch to an array or a tree of arrays, row by row.
    inputs: an array or a tree of arrays with one row per example.
    batch_size: examples in a batch. The last batch is filled up with its last example.
  """
  n = count_rows(inputs)
  batch_size = min(batch_size, 1 << (n - 1).bit_length())
  found = []
  for start in range(0, n, batch_size):
    part = jax.tree.map(lambda rows, start=start: _filled(rows[start:], batch_size), inputs)
    size = min(batch_size, n - start)
    found.append(jax.tree.map(lambda rows, size=size: np.asarray(rows)[:size], function(part)))
  return jax.tree.map(lambda *rows: np.concatenate(rows), *found)


def count_rows(inputs: Any) -> int:
  """The number of examples, of which each array has one row; raises UserError for different ones."""
  lengths = {len(leaf) if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(inputs)}
  if len(lengths) != 1:
    raise UserError(f"inputs must be arrays of one length, not {sorted(lengths)}")
  return lengths.pop()


def _filled(rows, size):
  """The first `size` rows, or all and the last one again until there are so many."""
  rows = rows[:size]
  missing = size - len(rows)
  return np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]) if missing else rows


_as_input = jax.jit(as_input)


@functools.partial(jax.jit, static_argnums=0)
def _apply(encoder, params, state, inputs):
  return embedding_of(encoder.apply(params, state, inputs, key=None, train=False)[0])
