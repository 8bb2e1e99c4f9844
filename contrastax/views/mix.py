"""Mixtures of two images: mixup and CutMix.

A mixed image belongs to its own example with weight `weight`, and to its partner with weight
1 − `weight`. i-Mix weights the positives of an anchor in this way.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastax.core import Array, UserError, named, per_example
from contrastax.views.images import check_index, check_operation


class Mixed(NamedTuple):
  """Mixed images, their partners and their weights.

  Attributes:
    images: [n, h, w, c], float.
    partner: [n], integers: the position in the batch of the image that was mixed in.
    weight: [n], the share of each image's own example, in [0, 1].

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> images = jax.numpy.zeros((4, 8, 8, 3))
    >>> mixed, partner, weight = views.cutmix()(jax.random.key(0), images, jax.numpy.arange(4))
    >>> mixed.shape, partner.shape, weight.shape
    ((4, 8, 8, 3), (4,), (4,))
  """

  images: Array
  partner: Array
  weight: Array


def blend(images: Array, partner: Array, weight: Array) -> Array:
  """Averages each image with its partner: w x + (1 − w) x[partner].

  Args:
    images: [n, h, w, c], float.
    partner: [n], integers: positions in the batch.
    weight: [n], w in [0, 1].

  Returns:
    Images [n, h, w, c].

  Raises:
    UserError: an argument has another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> images = jnp.array([0.0, 1.0]).reshape(2, 1, 1, 1)
    >>> print(views.blend(images, jnp.array([1, 0]), jnp.array([0.75, 0.5])).ravel())
    [0.25 0.5 ]
  """
  check_operation("blend", images, partner=partner, weight=weight)
  weight = weight[:, None, None, None].astype(images.dtype)
  return weight * images + (1 - weight) * images[partner]


def paste(
  images: Array, partner: Array, *, top: Array, left: Array, height: Array, width: Array
) -> Array:
  """Replaces a box of each image by the same box of its partner.

  Args:
    images: [n, h, w, c], float.
    partner: [n], integers: positions in the batch.
    top: [n], first row of each box.
    left: [n], first column of each box.
    height: [n], height of each box in pixels.
    width: [n], width of each box in pixels.

  Returns:
    Images [n, h, w, c].

  Raises:
    UserError: an argument has another type or shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import views
    >>> images = jnp.array([[0.1, 0.2], [0.8, 0.9]]).reshape(2, 1, 2, 1)
    >>> box = {"top": 0, "left": 1, "height": 1, "width": 1}
    >>> box = {name: jnp.array([x, x]) for name, x in box.items()}
    >>> print(views.paste(images, jnp.array([1, 0]), **box).reshape(2, 2))
    [[0.1 0.9]
     [0.8 0.2]]
  """
  box = {"top": top, "left": left, "height": height, "width": width}
  check_operation("paste", images, partner=partner, **box)
  rows, columns = (jnp.arange(side) for side in images.shape[1:3])
  in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
  in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
  inside = in_rows[:, :, None, None] & in_columns[:, None, :, None]
  return jnp.where(inside, images[partner], images)


def sample_partner(key: Array, index: Array) -> Array:
  """Draws a partner for each example of a batch: the next one in a random cycle.

  No example is its own partner, except in a batch of one example. The cycle depends on which
  examples are in the batch, not on their order.

  Args:
    key: random key.
    index: [n], integers: the indices of the examples.

  Returns:
    [n], int32: positions in the batch.

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> partner = views.sample_partner(jax.random.key(0), jax.numpy.arange(4))
    >>> sorted(partner.tolist())
    [0, 1, 2, 3]
  """
  order = jnp.argsort(jax.vmap(jax.random.bits)(per_example(key, index)))
  return jnp.zeros_like(order).at[order].set(jnp.roll(order, -1))


@dataclasses.dataclass(frozen=True)
class mixup:
  """Mixes each image with a partner by a weighted average: λ x + (1 − λ) x', λ ~ Beta(α, α).

  λ is drawn for each image and is the weight of the image.

  Args:
    alpha: α > 0. With α = 1, the setting of i-Mix, λ is uniform.

  Raises:
    UserError: `alpha` is not positive, or the images are invalid.

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> images = jax.numpy.zeros((4, 8, 8, 3))
    >>> mixed = views.mixup()(jax.random.key(0), images, jax.numpy.arange(4))
    >>> mixed.images.shape, mixed.partner.shape, mixed.weight.shape
    ((4, 8, 8, 3), (4,), (4,))

  References:
    Zhang et al., mixup, 2018, arXiv 1710.09412. Lee et al., i-Mix, 2021, arXiv 2010.08887.
  """

  alpha: float = 1.0

  def __post_init__(self):
    _check_alpha("mixup", self.alpha)

  def __call__(self, key: Array, images: Array, index: Array) -> Mixed:
    """Mixes images [n, h, w, c], float, of the examples `index` [n]."""
    _check_batch("mixup", images, index)
    partner = sample_partner(named(key, "partner"), index)
    weight = _sample_weight(named(key, "weight"), index, self.alpha)
    return Mixed(blend(images, partner, weight), partner, weight)


@dataclasses.dataclass(frozen=True)
class cutmix:
  """Replaces a random box of each image by the same box of a partner.

  With λ ~ Beta(α, α), the box has ⌊√(1 − λ) L⌋ pixels along an image side of L pixels. Its center
  is uniform over the pixels. The box extends by half of its side, rounded down, in each direction,
  and is clipped to the image. The weight is the share of pixels that are not replaced, which can
  exceed λ.

  Args:
    alpha: α > 0.

  Raises:
    UserError: `alpha` is not positive, or the images are invalid.

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> images = jax.numpy.zeros((4, 8, 8, 3))
    >>> views.cutmix()(jax.random.key(0), images, jax.numpy.arange(4)).images.shape
    (4, 8, 8, 3)

  References:
    Yun et al., CutMix, 2019, arXiv 1905.04899.
  """

  alpha: float = 1.0

  def __post_init__(self):
    _check_alpha("cutmix", self.alpha)

  def __call__(self, key: Array, images: Array, index: Array) -> Mixed:
    """Mixes images [n, h, w, c], float, of the examples `index` [n]."""
    _check_batch("cutmix", images, index)
    partner = sample_partner(named(key, "partner"), index)
    share = _sample_weight(named(key, "weight"), index, self.alpha)
    u = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(per_example(named(key, "box"), index))
    box = {}
    for i, (start, extent) in enumerate((("top", "height"), ("left", "width"))):
      side = images.shape[1 + i]
      half = jnp.floor(jnp.sqrt(1 - share) * side).astype(jnp.int32) // 2
      center = jnp.minimum(jnp.floor(u[:, i] * side).astype(jnp.int32), side - 1)
      box[start] = jnp.maximum(center - half, 0)
      box[extent] = jnp.minimum(center + half, side) - box[start]
    pixels = images.shape[1] * images.shape[2]
    weight = 1 - (box["height"] * box["width"]).astype(jnp.float32) / pixels
    return Mixed(paste(images, partner, **box), partner, weight)


def _sample_weight(key: Array, index: Array, alpha: float) -> Array:
  return jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(per_example(key, index))


def _check_alpha(name: str, alpha: float) -> None:
  if not (isinstance(alpha, int | float) and alpha > 0):
    raise UserError(f"{name}: alpha must be above 0, not {alpha!r}")


def _check_batch(name: str, images: Any, index: Any) -> None:
  check_operation(name, images)
  check_index(name, images, index)
