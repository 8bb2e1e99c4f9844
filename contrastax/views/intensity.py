"""What pixels are worth: contrast and noise.

Images are float [n, h, w, c], nominally in [0, 1] and never clipped.
"""

from __future__ import annotations

from contrastax.core import Array
from contrastax.views.images import check_operation, check_shape


def intensity(images: Array, factor: Array) -> Array:
  """Every pixel times its image's `factor` [n]."""
  check_operation("intensity", images, factor=factor)
  return images * factor[:, None, None, None]


def add_noise(images: Array, noise: Array, deviation: float | Array) -> Array:
  """`noise` (of deviation 1, shaped like images) times `deviation`, a number, added."""
  check_operation("add_noise", images)
  check_shape("add_noise: noise", noise, images.shape)
  return images + deviation * noise
