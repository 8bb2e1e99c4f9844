"""Color operations: brightness, contrast, saturation, hue, gray, solarize and normalize.

Images are float [n, h, w, c] in [0, 1]. Parameters are arrays [n], one number per image. Results
lie in [0, 1], except those of `normalize`. Saturation and hue need three channels: red, green and
blue. Gray needs one or three. The other operations take any number of channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from contrastax.core import Array, UserError
from contrastax.views.images import check_operation, check_shape

LUMA = (0.299, 0.587, 0.114)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""The mean of ImageNet's red, green and blue."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""The standard deviation of ImageNet's red, green and blue."""
JITTER_NUMBERS = 6  # Random numbers per image: 4 factors, the order, whether jitter is applied.


def adjust_brightness(images: Array, factor: Array) -> Array:
  """Scales the brightness of each image: clip(f x, 0, 1).

  Args:
    images: [n, h, w, c], float in [0, 1].
    factor: [n], f ≥ 0. 0 gives black, and 1 gives the image.

  Returns:
    Images [n, h, w, c].

  Raises:
    UserError: an argument has another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> image = jnp.full((1, 2, 2, 3), 0.4)
    >>> print(views.adjust_brightness(image, jnp.array([2.0]))[0, 0, 0])
    [0.8 0.8 0.8]
  """
  check_operation("adjust_brightness", images, factor=factor)
  return _blend(images, 0.0, factor)


def adjust_contrast(images: Array, factor: Array) -> Array:
  """Scales the contrast of each image: clip(f x + (1 − f) m, 0, 1).

  With three channels m is the mean of the gray image. With another number of channels each channel
  has its own m, its mean over the pixels.

  Args:
    images: [n, h, w, c], float in [0, 1].
    factor: [n], f ≥ 0. 0 gives m, and 1 gives the image.

  Returns:
    Images [n, h, w, c].

  Raises:
    UserError: an argument has another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> image = jnp.array([0.25, 0.75]).reshape(1, 1, 2, 1)
    >>> print(views.adjust_contrast(image, jnp.array([0.0])).ravel())
    [0.5 0.5]
  """
  check_operation("adjust_contrast", images, factor=factor)
  return _blend(images, _mean_level(images), factor)


def adjust_saturation(images: Array, factor: Array) -> Array:
  """Scales the saturation of each image: clip(f x + (1 − f) gray(x), 0, 1).

  Args:
    images: [n, h, w, 3], float in [0, 1].
    factor: [n], f ≥ 0. 0 gives the gray image, and 1 gives the image.

  Returns:
    Images [n, h, w, 3].

  Raises:
    UserError: an argument has another type or shape, or the images do not have 3 channels.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> red = jnp.array([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    >>> print(views.adjust_saturation(red, jnp.array([0.0])).ravel())
    [0.299 0.299 0.299]
  """
  check_operation("adjust_saturation", images, factor=factor)
  _check_rgb("adjust_saturation", images)
  return _blend(images, _luma(images), factor)


def adjust_hue(images: Array, shift: Array) -> Array:
  """Shifts the hue of each image in the color space HSV.

  The shifted hue is H = 6 ((hue + shift) mod 1). M and m are the largest and smallest channel of a
  pixel. Each channel becomes m + (M − m) t, where t for red, green and blue is

      clip(|H − 3| − 1, 0, 1), clip(2 − |H − 2|, 0, 1), clip(2 − |H − 4|, 0, 1).

  Gray pixels do not change.

  Args:
    images: [n, h, w, 3], float in [0, 1].
    shift: [n], as a share of the color circle: 1/3 turns red into green.

  Returns:
    Images [n, h, w, 3].

  Raises:
    UserError: an argument has another type or shape, or the images do not have 3 channels.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> red = jnp.array([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    >>> print(views.adjust_hue(red, jnp.array([1 / 3])).ravel().round(3))
    [0. 1. 0.]
  """
  check_operation("adjust_hue", images, shift=shift)
  _check_rgb("adjust_hue", images)
  red, green, blue = (images[..., i] for i in range(3))
  most = jnp.maximum(jnp.maximum(red, green), blue)
  least = jnp.minimum(jnp.minimum(red, green), blue)
  chroma = most - least
  share = 1 / jnp.where(chroma > 0, chroma, 1)
  hue = jnp.where(
    most == red,
    (green - blue) * share,
    jnp.where(most == green, 2 + (blue - red) * share, 4 + (red - green) * share),
  )
  hue = hue / 6 + shift[:, None, None]
  hue = 6 * (hue - jnp.floor(hue))
  amounts = jnp.abs(hue - 3) - 1, 2 - jnp.abs(hue - 2), 2 - jnp.abs(hue - 4)
  return jnp.stack([least + chroma * jnp.clip(t, 0, 1) for t in amounts], -1)


def to_gray(images: Array) -> Array:
  """Converts images to gray: 0.299 R + 0.587 G + 0.114 B in all three channels.

  Args:
    images: [n, h, w, c], float. c is 3 or 1. With 1 the images are returned unchanged.

  Returns:
    Images [n, h, w, c], with equal channels.

  Raises:
    UserError: the images have another type, shape or number of channels.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> red = jnp.array([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    >>> print(views.to_gray(red).ravel())
    [0.299 0.299 0.299]

  In other libraries:
    The weights are those of Pillow's `convert("L")`. torchvision's weight of red is 0.2989 for
    tensors, so its result differs by up to 1e-4.
  """
  check_operation("to_gray", images)
  if images.shape[-1] == 1:
    return images
  _check_rgb("to_gray", images)
  return jnp.broadcast_to(_luma(images), images.shape)


def solarize(images: Array, threshold: float | Array = 0.5) -> Array:
  """Inverts bright values: 1 − x where x ≥ threshold, else x.

  Args:
    images: [n, h, w, c], float in [0, 1].
    threshold: a number, or an array that broadcasts with the images.

  Returns:
    Images [n, h, w, c].

  Raises:
    UserError: the images have another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> image = jnp.array([0.25, 0.75]).reshape(1, 1, 2, 1)
    >>> print(views.solarize(image).ravel())
    [0.25 0.25]
  """
  check_operation("solarize", images)
  return jnp.where(images >= threshold, 1 - images, images)


def normalize(
  images: Array,
  mean: Sequence[float] = IMAGENET_MEAN,
  std: Sequence[float] = IMAGENET_STD,
) -> Array:
  """Standardizes each channel: (x − mean) / std.

  Args:
    images: [n, h, w, c], float.
    mean: c numbers. The default is ImageNet's mean, for 3 channels.
    std: c numbers.

  Returns:
    Images [n, h, w, c].

  Raises:
    UserError: the images have another type or shape, or `mean` or `std` does not have c numbers.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> image = jnp.full((1, 1, 2, 1), 0.75)
    >>> print(views.normalize(image, mean=(0.5,), std=(0.25,)).ravel())
    [1. 1.]
  """
  check_operation("normalize", images)
  center, scale = jnp.asarray(mean, images.dtype), jnp.asarray(std, images.dtype)
  check_shape("normalize: mean", center, images.shape[-1:])
  check_shape("normalize: std", scale, images.shape[-1:])
  return (images - center) / scale


def jitter(
  images: Array,
  *,
  order: Array,
  brightness: Array,
  contrast: Array,
  saturation: Array | None = None,
  hue: Array | None = None,
) -> Array:
  """Adjusts brightness, contrast, saturation and hue, in a different order for each image.

  Args:
    images: [n, h, w, c], float in [0, 1].
    order: [n, 4], integers: the operations in the order of their application, where 0 is
      brightness, 1 contrast, 2 saturation and 3 hue. The shape is [n, 2] without saturation and
      hue.
    brightness: [n], factors ≥ 0; 1 changes nothing.
    contrast: [n], factors ≥ 0; 1 changes nothing.
    saturation: [n], factors ≥ 0; 1 changes nothing. Saturation and hue are both None for images
      that do not have 3 channels.
    hue: [n], shifts in [−0.5, 0.5] of the color circle; 0 changes nothing except by rounding.

  Returns:
    Images [n, h, w, c].

  Raises:
    UserError: an argument has another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> image, order = jnp.full((1, 1, 2, 1), 0.25), jnp.array([[0, 1]])
    >>> factors = {"brightness": jnp.array([2.0]), "contrast": jnp.array([1.0])}
    >>> print(views.jitter(image, order=order, **factors).ravel())
    [0.5 0.5]
  """
  # Brightness, contrast and saturation are one operation: a mixture of the image with another one,
  # clipped. Hue, the most expensive one, is computed once. Three mixtures precede it and three
  # follow it. A mixture has factor 1 for the images whose order has it on the other side of hue.
  # This computes six mixtures and one hue. Selecting one of four operations at each of four places
  # would compute sixteen operations.
  each = {"brightness": brightness, "contrast": contrast}
  if saturation is not None:
    each |= {"saturation": saturation, "hue": hue}
  check_operation("jitter", images, **each)
  check_shape("jitter: order", order, (len(images), len(each)))
  order = jnp.asarray(order)
  if saturation is None or hue is None:
    factors = jnp.stack([brightness, contrast], 1)
    return jax.lax.fori_loop(0, 2, lambda t, x: _mix(x, order[:, t], factors), images)
  factors = jnp.stack([brightness, contrast, saturation], 1)
  turn = jnp.argmax(order == 3, 1)

  def before(place, x):
    return _mix(x, jnp.where(place < turn, order[:, place], 3), factors)

  def after(place, x):
    return _mix(x, jnp.where(place > turn, order[:, place], 3), factors)

  # Loops compile in a third of the time of unrolled code and run twice as fast on a CPU, because
  # XLA would fuse a mixture into each of its uses and compute it several times.
  images = adjust_hue(jax.lax.fori_loop(0, 3, before, images), hue)
  return jax.lax.fori_loop(1, 4, after, images)


def sample_jitter(
  u: Array,
  *,
  probability: float,
  brightness: float,
  contrast: float,
  saturation: float | None = None,
  hue: float | None = None,
) -> dict[str, Array]:
  """Turns uniform random numbers into random arguments of `jitter`.

  Factors are uniform in [max(0, 1 − r), 1 + r], where r is `brightness`, `contrast` or
  `saturation`. Shifts are uniform in [−hue, hue]. All orders are equally likely.

  Args:
    u: [n, 6], uniform in [0, 1).
    probability: probability that an image changes at all.
    brightness: r of brightness.
    contrast: r of contrast.
    saturation: r of saturation. It is None if `hue` is None.
    hue: largest shift, as a share of the color circle.

  Returns:
    The arguments of `jitter` for n images, by name, without `images`.

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> u = jax.random.uniform(jax.random.key(0), (4, 6))
    >>> drawn = views.sample_jitter(u, probability=0.8, brightness=0.4, contrast=0.4)
    >>> {name: x.shape for name, x in drawn.items()}
    {'order': (4, 2), 'brightness': (4,), 'contrast': (4,)}
  """
  reach = {"brightness": brightness, "contrast": contrast}
  if saturation is not None and hue is not None:
    reach |= {"saturation": saturation, "hue": hue}
  orders = jnp.asarray(list(itertools.permutations(range(len(reach)))), jnp.int32)
  applied = u[:, 5] < probability
  drawn = {"order": orders[jnp.floor(u[:, 4] * len(orders)).astype(jnp.int32)]}
  for i, (kind, r) in enumerate(reach.items()):
    identity, low, high = (0.0, -r, r) if kind == "hue" else (1.0, max(0.0, 1 - r), 1 + r)
    drawn[kind] = jnp.where(applied, low + (high - low) * u[:, i], identity)
  return drawn


def _mix(images: Array, kind: Array, factors: Array) -> Array:
  """Applies to each image the mixture with the number `kind` [n]; kind 3 changes nothing."""
  factor = jnp.concatenate([factors, jnp.ones_like(factors[:, :1])], 1)
  factor = jnp.take_along_axis(factor, jnp.minimum(kind, factors.shape[1])[:, None], 1)[:, 0]
  kind = kind[:, None, None, None]
  gray = _luma(images) if images.shape[-1] == 3 else 0  # Only images with colors have kind 2.
  other = jnp.where(kind == 1, _mean_level(images), jnp.where(kind == 2, gray, 0))
  return _blend(images, other, factor)


def _blend(images: Array, other: Array | float, factor: Array) -> Array:
  factor = factor[:, None, None, None]
  return jnp.clip(factor * images + (1 - factor) * other, 0, 1)


def _luma(images: Array) -> Array:
  red, green, blue = (weight * images[..., i, None] for i, weight in enumerate(LUMA))
  return red + green + blue


def _mean_level(images: Array) -> Array:
  """Returns the mean of the gray image for three channels, else each channel's mean."""
  images = _luma(images) if images.shape[-1] == 3 else images
  return images.mean((1, 2), keepdims=True)


def _check_rgb(name: str, images: Array) -> None:
  if images.shape[-1] != 3:
    raise UserError(
      f"{name} needs images of 3 channels (red, green, blue), not {images.shape[-1]}; omit "
      "the operation"
    )
