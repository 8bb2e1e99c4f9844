"""Operations on intensities that do not clip: scaling and noise."""

from __future__ import annotations

from contrastax.core import Array
from contrastax.views.images import check_operation, check_shape


def intensity(images: Array, factor: Array) -> Array:
  """Multiplies each image by a factor, without clipping.

  Args:
    images: [n, h, w, c], float.
    factor: [n].

  Returns:
    Images [n, h, w, c], which may exceed [0, 1], unlike those of `adjust_brightness`.

  Raises:
    UserError: an argument has another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> print(views.intensity(jnp.full((1, 1, 2, 1), 0.5), jnp.array([3.0])).ravel())
    [1.5 1.5]
  """
  check_operation("intensity", images, factor=factor)
  return images * factor[:, None, None, None]


def add_noise(images: Array, noise: Array, deviation: float | Array) -> Array:
  """Adds scaled noise: x + deviation · noise, without clipping.

  Args:
    images: [n, h, w, c], float.
    noise: [n, h, w, c], usually of standard deviation 1.
    deviation: the factor of the noise, a number.

  Returns:
    Images [n, h, w, c], which may exceed [0, 1].

  Raises:
    UserError: the images or the noise have another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> image = jnp.zeros((1, 1, 2, 1))
    >>> print(views.add_noise(image, jnp.ones_like(image), 0.1).ravel())
    [0.1 0.1]
  """
  check_operation("add_noise", images)
  check_shape("add_noise: noise", noise, images.shape)
  return images + deviation * noise
