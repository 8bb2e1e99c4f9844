"""Embeddings of a whole set."""

from __future__ import annotations

import functools

import jax
import numpy as np

from contrastax.views import to_float


def embed(encoder, params, state, images, *, batch_size: int = 512):
  """Embeddings [n, d], NumPy float32, of images [n, …], uint8 or float in [0, 1].

  The encoder runs in evaluation mode, `batch_size` images at a time; the last batch is
  filled up, so that one program serves all.
  """
  if not len(images):
    raise ValueError("no images to embed")
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
  return encoder.apply(params, state, to_float(images), key=None, train=False)[0]
