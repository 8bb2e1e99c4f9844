"""Geometric operations: flips and affine warps."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax.core import Array
from contrastax.views.images import check_operation, check_shape


def flip(images: Array, mirrored: Array) -> Array:
  """Flips some images left-right.

  Args:
    images: [n, h, w, c], float.
    mirrored: [n], bool: which images are flipped.

  Returns:
    Images [n, h, w, c].

  Raises:
    UserError: an argument has another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> image = jnp.array([0.1, 0.9]).reshape(1, 1, 2, 1)
    >>> print(views.flip(image, jnp.array([True])).ravel())
    [0.9 0.1]
  """
  check_operation("flip", images, mirrored=mirrored)
  return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def affine(images: Array, *, shift: Array, scale: Array, angle: Array) -> Array:
  """Rotates and scales each image about its center, then shifts it.

  The interpolation is bilinear. Values outside the image are 0.

  Args:
    images: [n, h, w, c], float.
    shift: [n, 2], in pixels: downward, and to the right.
    scale: [n], > 0; 1 keeps the size, 2 doubles it.
    angle: [n], radians. A positive angle rotates clockwise, so the right side moves down.

  Returns:
    Images [n, h, w, c].

  Raises:
    UserError: an argument has another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> image = jnp.array([0.1, 0.9]).reshape(1, 1, 2, 1)
    >>> right, one = jnp.array([[0.0, 1.0]]), jnp.ones(1)
    >>> print(views.affine(image, shift=right, scale=one, angle=0 * one).ravel())
    [0.  0.1]
  """
  check_operation("affine", images, scale=scale, angle=angle)
  n, height, width, _ = images.shape
  check_shape("affine: shift", shift, (n, 2))
  # bfloat16 is too coarse for the positions of pixels.
  dtype = jnp.promote_types(images.dtype, jnp.float32)
  center = jnp.asarray([height - 1, width - 1], dtype) / 2
  grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)
  out = grid.astype(dtype) - center - shift[:, None, None]  # [n, h, w, 2], about the center
  sine, cosine = jnp.sin(angle) / scale, jnp.cos(angle) / scale
  sine, cosine = sine[:, None, None], cosine[:, None, None]
  row = cosine * out[..., 0] - sine * out[..., 1] + center[0]
  column = sine * out[..., 0] + cosine * out[..., 1] + center[1]
  return jax.vmap(_bilinear)(images, row, column).astype(images.dtype)


def _bilinear(image: Array, row: Array, column: Array) -> Array:
  """Interpolates an image [h, w, c] at fractional positions [h', w']. Values outside are 0."""
  height, width, channels = image.shape
  padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
  # At one pixel outside the image the value is 0, so clipping positions to it changes no value.
  row = jnp.clip(row, -1, height) + 1
  column = jnp.clip(column, -1, width) + 1
  top = jnp.minimum(jnp.floor(row).astype(jnp.int32), height)
  left = jnp.minimum(jnp.floor(column).astype(jnp.int32), width)
  down, right = (row - top)[..., None], (column - left)[..., None]
  flat = padded.reshape(-1, channels)
  corner = top * (width + 2) + left
  upper = flat[corner] * (1 - right) + flat[corner + 1] * right
  lower = flat[corner + width + 2] * (1 - right) + flat[corner + width + 3] * right
  return upper * (1 - down) + lower * down
