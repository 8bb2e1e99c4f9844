"""Linear operations that act on rows and on columns by themselves: two batched matmuls."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def separable(images, down, across):
  """out[n, s, t, c] = Σ_hw down[n, s, h] across[n, t, w] images[n, h, w, c], in images' type.

  Accumulated in the matrices' type, at least float32, and in full precision: an accelerator's
  default would round the pixels to 10 bits or fewer.
  """
  highest = jax.lax.Precision.HIGHEST
  out = jnp.einsum("nsh,nhwc->nswc", down, images.astype(down.dtype), precision=highest)
  out = jnp.einsum("ntw,nswc->nstc", across, out, precision=highest)
  return out.astype(images.dtype)
