"""What pixels are worth: contrast and noise.

Images are float [n, h, w, c], nominally in [0, 1] and never clipped.
"""

from __future__ import annotations


def intensity(images, factor):
  """Every pixel times its image's `factor` [n]."""
  return images * factor[:, None, None, None]


def add_noise(images, noise, deviation):
  """`noise` (of deviation 1, shaped like images) times `deviation`, added."""
  return images + deviation * noise
