"""A linear operation on rows and columns, as two batched matrix products."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax.core import Array


def separable(images: Array, down: Array, across: Array) -> Array:
  """Multiplies each image by one matrix along its height and by another along its width.

      out[n, s, t, c] = Σ_hw down[n, s, h] across[n, t, w] images[n, h, w, c]

  The products are accumulated in the matrices' type and in full precision, because the default
  precision of an accelerator would round the pixels to 10 bits or fewer.

  Args:
    images: [n, h, w, c].
    down: [n, s, h], float32 or wider.
    across: [n, t, w], float32 or wider.

  Returns:
    Images [n, s, t, c], in the type of `images`.
  """
  highest = jax.lax.Precision.HIGHEST
  out = jnp.einsum("nsh,nhwc->nswc", down, images.astype(down.dtype), precision=highest)
  out = jnp.einsum("ntw,nswc->nstc", across, out, precision=highest)
  return out.astype(images.dtype)
