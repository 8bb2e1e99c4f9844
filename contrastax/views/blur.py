"""Gaussian blur of batches of images."""

from __future__ import annotations

import jax.numpy as jnp

from contrastax.core import Array, UserError
from contrastax.views.images import check_operation
from contrastax.views.separable import separable


def gaussian_blur(images: Array, sigma: Array, *, kernel: int) -> Array:
  """Blurs each image with a Gaussian kernel.

  The weight of a pixel at distance j is exp(−j² / 2σ²), for j = −r … r and r = (kernel − 1) / 2,
  divided by the sum of the weights. The kernel is applied along rows and along columns. Images are
  reflected at their borders, without repeating the outermost pixel. σ = 0 returns the image.

  Args:
    images: [n, h, w, c], float; h and w exceed r.
    sigma: [n], σ in pixels, ≥ 0.
    kernel: width of the kernel in pixels, odd. Above 6σ the truncation matters little.

  Returns:
    The blurred images [n, h, w, c], in the type of the images.

  Raises:
    UserError: an argument has another type or shape, or the kernel is even or too wide.

  Example:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from contrastax import views
    >>> image = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1.0)
    >>> view = views.gaussian_blur(image, jnp.array([1.0]), kernel=3)
    >>> print(np.asarray(view)[0, 2, :, 0].round(3))
    [0.    0.124 0.204 0.124 0.   ]

  In other libraries:
    torchvision's `gaussian_blur` truncates in the same way. Pillow's `GaussianBlur`, which some
    papers' code uses, does not truncate; a kernel of 8σ + 1 is close to it.
  """
  check_operation("gaussian_blur", images, sigma=sigma)
  height, width = images.shape[1:3]
  check_kernel("gaussian_blur", kernel, min(height, width))
  dtype = jnp.promote_types(images.dtype, jnp.float32)
  # Below a hundredth of a pixel the weights of all neighbors are 0 in any precision.
  sigma = jnp.maximum(sigma, 0.01).astype(dtype)[:, None, None]
  # On a CPU, matrix products are faster than sums of shifted images from kernel 5 on. For 512
  # images of 32×32, they take 5 ms; the sums take 3, 12 and 46 ms for kernels of 3, 9 and 23.
  down, across = (_matrices(sigma, kernel // 2, side) for side in (height, width))
  return separable(images, down, across)


def _matrices(sigma: Array, radius: int, side: int) -> Array:
  """Returns [n, side, side]: the weights of the input pixels (last axis) in each output pixel.

  The reflection adds the weights of the mirror images of pixel p, at −p and 2 side − 2 − p.
  """
  o, p = jnp.arange(side)[:, None], jnp.arange(side)

  def weight(distance):
    near = jnp.abs(distance) <= radius
    return jnp.where(near, jnp.exp(-0.5 * (distance / sigma) ** 2), 0)

  matrices = (
    weight(o - p)
    + jnp.where(p > 0, weight(o + p), 0)
    + jnp.where(p < side - 1, weight(2 * side - 2 - p - o), 0)
  )
  return matrices / matrices.sum(-1, keepdims=True)


def check_kernel(name: str, kernel: int, side: int) -> None:
  """Raises UserError unless the kernel can blur images whose shorter side is `side` pixels."""
  if not (isinstance(kernel, int) and kernel >= 1 and kernel % 2):
    raise UserError(f"{name}: kernel must be an odd number of pixels, 1 or more, not {kernel!r}")
  if kernel // 2 >= side:
    raise UserError(
      f"{name}: kernel {kernel} needs images of more than {kernel // 2} pixels per side, not {side}; "
      f"use a kernel of at most {2 * side - 1}"
    )
