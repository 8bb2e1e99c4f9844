"""Embeddings of a whole set."""

from __future__ import annotations

import functools

import jax
import numpy as np

from contrastax.core import Array, Encoder, Params, State, UserError
from contrastax.views.images import as_input, check_inputs


def embed(
  encoder: Encoder,
  params: Params,
  state: State,
  images: Array | np.ndarray,
  *,
  batch_size: int = 512,
  bounded: bool = True,
) -> np.ndarray:
  """Embeddings [n, d], NumPy float32, of all images of a set.

  The encoder runs in evaluation mode on `batch_size` images at a time. The last batch is filled up,
  so that one program serves all batches.

  Args:
    encoder, params, state: the network, as training left it.
    images: [n, h, w, c], uint8 or float in [0, 1]; uint8 is divided by 255. Inputs of fewer axes
      are no images, but vectors, texts or tokens, and reach the encoder as they are.
    batch_size: images in one call of the encoder; at least 1.
    bounded: whether float images must lie in [0, 1]. False is for random views, and for images that
      are normalized as a recipe's `mean` and `std` normalize views.

  Raises:
    UserError: images of another type, range or shape, or no images.
  """
  check_inputs("embed: images", images, bounded=bounded)
  if not (isinstance(batch_size, int | np.integer) and batch_size >= 1):
    raise UserError(f"embed: batch_size must be an integer, 1 or more, not {batch_size!r}")
  batch_size = min(batch_size, len(images))
  out = []
  for start in range(0, len(images), batch_size):
    part = images[start : start + batch_size]
    missing = batch_size - len(part)
    filled = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
    z = np.asarray(_apply(encoder, params, state, filled), np.float32)
    out.append(z[: len(part)])
  return np.concatenate(out)


@functools.partial(jax.jit, static_argnums=0)
def _apply(encoder, params, state, images):
  return encoder.apply(params, state, as_input(images), key=None, train=False)[0]
