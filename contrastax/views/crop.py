"""Random resized crops."""

from __future__ import annotations

import math

import jax.numpy as jnp

from contrastax.core import Array, UserError
from contrastax.views.images import check_operation
from contrastax.views.separable import separable

TRIES = 10
# Random numbers per box: the areas, the aspect ratios, the row and the column.
BOX_NUMBERS = 2 * TRIES + 2


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
  """Crops a box from each image and resizes it to a square.

  The interpolation is bilinear with antialiasing. Along a side of L pixels, the center of output
  pixel o is at u = (o + 1/2) L / size in the box, and its value is

      Σ_p w_p x_p / Σ_p w_p,   w_p = max(0, 1 − |p + 1/2 − u| / max(1, L / size)),   p = 0 … L − 1.

  No pixel outside the box is read.

  Args:
    images: [n, h, w, c], float.
    top: [n], integers: first row of each box. Each box lies in its image and is not empty.
    left: [n], integers: first column of each box.
    height: [n], integers: height of each box in pixels.
    width: [n], integers: width of each box in pixels.
    size: side of the result in pixels. It may exceed the sides of the box and of the image.
    mirrored: [n], bool: which results are flipped left-right. None flips none.

  Returns:
    Images [n, size, size, c], in the type of `images`.

  Raises:
    UserError: an argument has another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> box = {name: jnp.array([2]) for name in ("top", "left", "height", "width")}
    >>> print(views.resized_crop(image, **box, size=2)[0, :, :, 0])
    [[10. 11.]
     [14. 15.]]

  In other libraries:
    Pillow's `resize` and torchvision with `antialias=True` interpolate in the same way.
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


def _matrices(start: Array, length: Array, full: int, place: Array, dtype: jnp.dtype) -> Array:
  """Returns [n, size, full]: the weights of a side's pixels in each output pixel.

  `place` is the number of each output pixel before the flip, [size] or [n, size].
  """
  start, length = start[:, None, None], length[:, None, None]
  ratio = length.astype(dtype) / place.shape[-1]
  pixel = jnp.arange(full) - start  # The pixels of the box are 0 … length − 1.
  center = (place[..., None] + 0.5).astype(dtype) * ratio
  weight = 1 - jnp.abs(pixel + jnp.asarray(0.5, dtype) - center) / jnp.maximum(ratio, 1)
  weight = jnp.where((pixel >= 0) & (pixel < length), jnp.maximum(weight, 0), 0)
  return weight / weight.sum(-1, keepdims=True)


def sample_box(
  u: Array, shape: tuple[int, int], *, area: tuple[float, float], ratio: tuple[float, float]
) -> dict[str, Array]:
  """Turns uniform random numbers into random boxes, with the distribution of torchvision.

  A draw consists of a share of the image's area, uniform in `area`, and an aspect ratio,
  log-uniform in `ratio`. They determine a width and a height, which are rounded. The box is the
  first of ten draws that fits into the image, at a uniform position. If none fits, the box is the
  largest central one whose aspect ratio lies in `ratio`.

  Args:
    u: [n, 22], uniform in [0, 1).
    shape: (h, w) of the images.
    area: range of the box's area, as a share of the image's area.
    ratio: range of the box's aspect ratio, width / height.

  Returns:
    `top`, `left`, `height` and `width`, each [n], int32, in pixels: the arguments of `resized_crop`.

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> u = jax.random.uniform(jax.random.key(0), (4, 22))
    >>> box = views.sample_box(u, (32, 32), area=(0.2, 1.0), ratio=(3 / 4, 4 / 3))
    >>> {name: x.shape for name, x in box.items()}
    {'top': (4,), 'left': (4,), 'height': (4,), 'width': (4,)}
  """
  rows, columns = shape
  narrow, wide = math.log(ratio[0]), math.log(ratio[1])
  pixels = rows * columns * (area[0] + (area[1] - area[0]) * u[:, :TRIES])
  aspect = jnp.exp(narrow + (wide - narrow) * u[:, TRIES : 2 * TRIES])
  widths = jnp.round(jnp.sqrt(pixels * aspect)).astype(jnp.int32)
  heights = jnp.round(jnp.sqrt(pixels / aspect)).astype(jnp.int32)
  fits = (widths > 0) & (widths <= columns) & (heights > 0) & (heights <= rows)
  any_fits = fits.any(1)
  first = fits & (jnp.cumsum(fits, axis=1) == 1)
  middle_height = max(1, min(rows, round(columns / ratio[0])))
  middle_width = max(1, min(columns, round(rows * ratio[1])))
  height = jnp.where(any_fits, jnp.where(first, heights, 0).sum(1), middle_height)
  width = jnp.where(any_fits, jnp.where(first, widths, 0).sum(1), middle_width)
  top = _below(rows - height + 1, u[:, 2 * TRIES])
  left = _below(columns - width + 1, u[:, 2 * TRIES + 1])
  top = jnp.where(any_fits, top, (rows - middle_height) // 2)
  left = jnp.where(any_fits, left, (columns - middle_width) // 2)
  box = {"top": top, "left": left, "height": height, "width": width}
  return {side: values.astype(jnp.int32) for side, values in box.items()}


def _below(count: Array, u: Array) -> Array:
  """Turns u, uniform in [0, 1), into an integer that is uniform in 0 … count − 1."""
  # The product may round up to count.
  return jnp.minimum(jnp.floor(u * count).astype(jnp.int32), count - 1)


def check_crop(name: str, size: int, area: tuple[float, float], ratio: tuple[float, float]) -> None:
  """Raises UserError unless the crop settings of the recipe `name` are valid."""
  if not (isinstance(size, int) and size >= 1):
    raise UserError(f"{name}: size must be a number of pixels, 1 or more, not {size!r}")
  if not 0 < area[0] <= area[1] <= 1:
    raise UserError(f"{name}: area must be (low, high) with 0 < low ≤ high ≤ 1, not {area}")
  if not 0 < ratio[0] <= ratio[1]:
    raise UserError(f"{name}: ratio must be (low, high) with 0 < low ≤ high, not {ratio}")
