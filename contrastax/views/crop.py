"""Where the view lies: a box of the image, resized to the view's size.

Images are float [n, h, w, c]; boxes are int arrays [n], in pixels, one per image.
"""

from __future__ import annotations

import math

import jax.numpy as jnp

from contrastax.core import Array, UserError
from contrastax.views.images import check_operation
from contrastax.views.separable import separable

TRIES = 10
BOX_NUMBERS = 2 * TRIES + 2  # random numbers per box: areas, ratios, a place


def resized_crop(
  images: Array,
  *,
  top: Array,
  left: Array,
  height: Array,
  width: Array,
  size: int,
  mirrored: Array | None = None,
) -> Array:
  """The box of each image, resized to [n, size, size, c]; where `mirrored`, left and right exchanged.

  Bilinear with antialiasing, as Pillow's `resize` and torchvision with `antialias=True` have it:
  output pixel o of a side of L pixels has its center at u = (o + ½) L / size of the box, and is

    Σ_p w_p x_p / Σ_p w_p,   w_p = max(0, 1 − |p + ½ − u| / max(1, L / size)),   p = 0 … L − 1,

  so no pixel outside the box is read. Such a sum along rows and along columns is a product with
  a matrix per image: two batched matmuls, in which the mirror is an order of rows.

  Args:
    images: [n, h, w, c], float.
    top, left, height, width: [n], int; each box lies in its image and is not empty.
    size: side of the view in pixels, ≥ 1; may exceed the box's and the image's.
    mirrored: [n], bool, or None for none.
  """
  check_operation("resized_crop", images, top=top, left=left, height=height, width=width)
  if mirrored is not None:
    check_operation("resized_crop", images, mirrored=mirrored)
  _, rows, columns, _ = images.shape
  dtype = jnp.promote_types(images.dtype, jnp.float32)
  down = _matrices(top, height, rows, jnp.arange(size), dtype)
  place = jnp.arange(size)
  if mirrored is not None:
    place = jnp.where(mirrored[:, None], size - 1 - place, place)
  across = _matrices(left, width, columns, place, dtype)
  return separable(images, down, across)


def _matrices(start, length, full, place, dtype):
  """[n, size, full]: output pixel number `place` ([size] or [n, size]) from a side's pixels."""
  start, length = start[:, None, None], length[:, None, None]
  ratio = length.astype(dtype) / place.shape[-1]
  pixel = jnp.arange(full) - start  # of the box: its own are 0 … length − 1
  center = (place[..., None] + 0.5).astype(dtype) * ratio
  weight = 1 - jnp.abs(pixel + jnp.asarray(0.5, dtype) - center) / jnp.maximum(ratio, 1)
  weight = jnp.where((pixel >= 0) & (pixel < length), jnp.maximum(weight, 0), 0)
  return weight / weight.sum(-1, keepdims=True)


def sample_box(u, shape, *, area, ratio):
  """Random boxes, {top, left, height, width: [n] int32}, of images of `shape` (h, w).

  Of u [n, BOX_NUMBERS], uniform in [0, 1), the distribution of torchvision's `RandomResizedCrop`:
  a share of the image's area, uniform in `area`, and a width over height, log-uniform in `ratio`,
  are rounded to a width and a height, up to ten times, until both fit; the box is then anywhere
  in the image with equal probability. Where none of ten fits: the largest central box whose
  width over height lies in `ratio`.
  """
  rows, columns = shape
  narrow, wide = math.log(ratio[0]), math.log(ratio[1])
  pixels = rows * columns * (area[0] + (area[1] - area[0]) * u[:, :TRIES])
  form = jnp.exp(narrow + (wide - narrow) * u[:, TRIES : 2 * TRIES])
  widths = jnp.round(jnp.sqrt(pixels * form)).astype(jnp.int32)
  heights = jnp.round(jnp.sqrt(pixels / form)).astype(jnp.int32)
  fits = (widths > 0) & (widths <= columns) & (heights > 0) & (heights <= rows)
  found = fits.any(1)
  first = fits & (jnp.cumsum(fits, 1) == 1)
  middle_height = max(1, min(rows, round(columns / ratio[0])))
  middle_width = max(1, min(columns, round(rows * ratio[1])))
  height = jnp.where(found, jnp.where(first, heights, 0).sum(1), middle_height)
  width = jnp.where(found, jnp.where(first, widths, 0).sum(1), middle_width)
  top = _below(rows - height + 1, u[:, 2 * TRIES])
  left = _below(columns - width + 1, u[:, 2 * TRIES + 1])
  top = jnp.where(found, top, (rows - middle_height) // 2)
  left = jnp.where(found, left, (columns - middle_width) // 2)
  box = {"top": top, "left": left, "height": height, "width": width}
  return {side: values.astype(jnp.int32) for side, values in box.items()}


def _below(count, u):
  """One of 0 … count − 1 with equal probability, of a uniform u in [0, 1)."""
  # The product may round up to count.
  return jnp.minimum(jnp.floor(u * count).astype(jnp.int32), count - 1)


def check_crop(name, size, area, ratio):
  """Raises UserError where a recipe called `name` states a crop without meaning."""
  if not (isinstance(size, int) and size >= 1):
    raise UserError(f"{name}: size must be a number of pixels, 1 or more, not {size!r}")
  if not 0 < area[0] <= area[1] <= 1:
    raise UserError(f"{name}: area must be two shares of the image, 0 < low ≤ high ≤ 1, not {area}")
  if not 0 < ratio[0] <= ratio[1]:
    raise UserError(f"{name}: ratio must be two widths over heights, 0 < low ≤ high, not {ratio}")
