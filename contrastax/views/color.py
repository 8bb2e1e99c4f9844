"""Brightness, contrast, saturation, hue, gray, solarize, normalize.

Images are float [n, h, w, c] in [0, 1]; three channels are red, green and blue. Factors are arrays
[n], one per image. Results lie in [0, 1], except those of `normalize`. Saturation, hue and gray
need three channels; the other operations take any number. The arithmetic is torchvision's on float
images, except for the weights of gray, which are Pillow's.
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
IMAGENET_STD = (0.229, 0.224, 0.225)
JITTER_NUMBERS = 6  # random numbers per image: four strengths, an order, whether at all


def adjust_brightness(images: Array, factor: Array) -> Array:
  """clip(f x, 0, 1), f ≥ 0: 0 gives black, 1 the image."""
  check_operation("adjust_brightness", images, factor=factor)
  return _blend(images, 0.0, factor)


def adjust_contrast(images: Array, factor: Array) -> Array:
  """clip(f x + (1 − f) m, 0, 1): f = 0 gives m.

  m is the mean of the gray image where there are three channels; for any other number of channels
  each channel has its own m, its mean over the pixels.
  """
  check_operation("adjust_contrast", images, factor=factor)
  return _blend(images, _middle(images), factor)


def adjust_saturation(images: Array, factor: Array) -> Array:
  """clip(f x + (1 − f) gray(x), 0, 1): 0 gives the gray image, 1 the image; needs 3 channels."""
  check_operation("adjust_saturation", images, factor=factor)
  _need_colors("adjust_saturation", images)
  return _blend(images, _luma(images), factor)


def adjust_hue(images: Array, shift: Array) -> Array:
  """Hue turned by `shift` [n] of the color circle: ⅓ makes red green; needs 3 channels.

  Hue, saturation and value of HSV; hue + shift modulo 1. With M and m the largest and least
  channel and H in [0, 6) the turned hue, the result is m + (M − m) t, where

    t = clip(|H − 3| − 1, 0, 1), clip(2 − |H − 2|, 0, 1), clip(2 − |H − 4|, 0, 1)

  of red, green and blue. Greys have no hue and stay.
  """
  check_operation("adjust_hue", images, shift=shift)
  _need_colors("adjust_hue", images)
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
  """0.299 R + 0.587 G + 0.114 B in all three channels.

  Pillow's `convert("L")`; torchvision's tensors have 0.2989 for 0.299, at most 1e-4 away. An image
  of one channel is its own gray; of other numbers of channels there is none.
  """
  check_operation("to_gray", images)
  if images.shape[-1] == 1:
    return images
  _need_colors("to_gray", images)
  return jnp.broadcast_to(_luma(images), images.shape)


def solarize(images: Array, threshold: float | Array = 0.5) -> Array:
  """1 − x where x ≥ threshold, else x, in each channel."""
  check_operation("solarize", images)
  return jnp.where(images >= threshold, 1 - images, images)


def normalize(
  images: Array,
  mean: Sequence[float] = IMAGENET_MEAN,
  std: Sequence[float] = IMAGENET_STD,
) -> Array:
  """(x − mean) / std, with a number for each of c channels; ImageNet's three by default."""
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
  """Brightness, contrast, saturation and hue adjusted, in each image's own order.

  An image in its own order, exactly, and yet a batched program: three of the four are one
  operation, a mixture with black, with the mean or with the gray, clipped, so each place in the
  order costs one such mixture whichever it is. Hue, the costliest, is computed once: three
  mixtures go before it and three after, each for the images whose order has it on that side,
  with factor 1, the identity, for the others. So six mixtures and one hue, in place of the
  sixteen operations of choosing at each of four places.

  Args:
    images: [n, h, w, c], float in [0, 1].
    order: [n, 4], int: at each place 0 brightness, 1 contrast, 2 saturation or 3 hue, each once;
      [n, 2] where saturation and hue are not given, as for images of other than three channels.
    brightness, contrast, saturation: [n], factors ≥ 0; 1 changes nothing.
    hue: [n], in [−½, ½]; 0 changes nothing but for rounding.
  """
  each = {"brightness": brightness, "contrast": contrast}
  if saturation is not None:
    each |= {"saturation": saturation, "hue": hue}
  check_operation("jitter", images, **each)
  check_shape("jitter: order", order, (len(images), len(each)))
  order = jnp.asarray(order)
  if saturation is None:
    factors = jnp.stack([brightness, contrast], 1)
    return jax.lax.fori_loop(0, 2, lambda t, x: _enhance(x, order[:, t], factors), images)
  factors = jnp.stack([brightness, contrast, saturation], 1)
  turn = jnp.argmax(order == 3, 1)

  def before(place, x):
    return _enhance(x, jnp.where(place < turn, order[:, place], 3), factors)

  def after(place, x):
    return _enhance(x, jnp.where(place > turn, order[:, place], 3), factors)

  # Loops, not repeated lines: compiled in a third of the time, and on a CPU twice as fast,
  # since XLA computes a mixture again inside what follows it where it can see both.
  images = adjust_hue(jax.lax.fori_loop(0, 3, before, images), hue)
  return jax.lax.fori_loop(1, 4, after, images)


def sample_jitter(u, *, probability, brightness, contrast, saturation=None, hue=None):
  """Random arguments of `jitter` for n images, but for `images`.

  Of u [n, JITTER_NUMBERS], uniform in [0, 1): factors uniform in [max(0, 1 − r), 1 + r], where r
  is `brightness`, `contrast` and `saturation`; hue uniform in [−`hue`, `hue`]; each order equally
  likely. With probability 1 − `probability` nothing changes. Without saturation and hue there
  are only the other two.
  """
  reach = {"brightness": brightness, "contrast": contrast}
  if saturation is not None:
    reach |= {"saturation": saturation, "hue": hue}
  orders = jnp.asarray(list(itertools.permutations(range(len(reach)))), jnp.int32)
  applied = u[:, 5] < probability
  drawn = {"order": orders[jnp.floor(u[:, 4] * len(orders)).astype(jnp.int32)]}
  for i, (kind, r) in enumerate(reach.items()):
    nothing, low, high = (0.0, -r, r) if kind == "hue" else (1.0, max(0.0, 1 - r), 1 + r)
    drawn[kind] = jnp.where(applied, low + (high - low) * u[:, i], nothing)
  return drawn


def _enhance(images, kind, factors):
  """Each image's own `kind` [n] of the three mixtures, with its factor of it; 3: none."""
  factor = jnp.concatenate([factors, jnp.ones_like(factors[:, :1])], 1)
  factor = jnp.take_along_axis(factor, jnp.minimum(kind, factors.shape[1])[:, None], 1)[:, 0]
  kind = kind[:, None, None, None]
  saturated = _luma(images) if images.shape[-1] == 3 else 0  # kind 2 needs colors
  other = jnp.where(kind == 1, _middle(images), jnp.where(kind == 2, saturated, 0))
  return _blend(images, other, factor)


def _blend(images, other, factor):
  factor = factor[:, None, None, None]
  return jnp.clip(factor * images + (1 - factor) * other, 0, 1)


def _luma(images):
  return sum(weight * images[..., i, None] for i, weight in enumerate(LUMA))


def _middle(images):
  """What contrast 0 leaves: the mean gray of three channels, else each channel's mean."""
  images = _luma(images) if images.shape[-1] == 3 else images
  return images.mean((1, 2), keepdims=True)


def _need_colors(name, images):
  if images.shape[-1] != 3:
    raise UserError(f"{name} needs images of 3 channels, red, green, blue, not {images.shape[-1]}")
