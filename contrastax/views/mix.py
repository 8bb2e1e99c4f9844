"""Two examples in one image: mixup and CutMix, with the weights of their labels.

Images are float [n, h, w, c]. A mixed image belongs by `weight` to its own example and by
1 − weight to its partner's; i-Mix (Lee et al. 2021, arXiv 2010.08887) weighs the contrastive
loss of an anchor towards its own and its partner's positive in this way.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastax.core import Array, UserError, named, per_example
from contrastax.views.images import check_index, check_operation


class Mixed(NamedTuple):
  """`images` [n, h, w, c]; `partner` [n], the place in the batch of what was mixed in; `weight` [n]."""

  images: jax.Array
  partner: jax.Array
  weight: jax.Array


def blend(images: Array, partner: Array, weight: Array) -> Array:
  """weight x + (1 − weight) x[partner]; partner [n], int, weight [n] in [0, 1]."""
  check_operation("blend", images, partner=partner, weight=weight)
  weight = weight[:, None, None, None].astype(images.dtype)
  return weight * images + (1 - weight) * images[partner]


def paste(
  images: Array, partner: Array, *, top: Array, left: Array, height: Array, width: Array
) -> Array:
  """Each image with the box [n] of its partner in place of its own pixels there."""
  box = {"top": top, "left": left, "height": height, "width": width}
  check_operation("paste", images, partner=partner, **box)
  rows, columns = (jnp.arange(side) for side in images.shape[1:3])
  in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
  in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
  inside = in_rows[:, :, None, None] & in_columns[:, None, :, None]
  return jnp.where(inside, images[partner], images)


def sample_partner(key, index):
  """partner [n]: a random cycle through the batch, so that nobody is its own partner (n > 1).

  The cycle depends on the examples in the batch, not on their order.
  """
  order = jnp.argsort(jax.vmap(jax.random.bits)(per_example(key, index)))
  return jnp.zeros_like(order).at[order].set(jnp.roll(order, -1))


@dataclasses.dataclass(frozen=True)
class mixup:
  """mixup (Zhang et al. 2018, arXiv 1710.09412): λ x + (1 − λ) x', λ ~ Beta(alpha, alpha).

  A λ and a partner for each image; called as `mixup()(key, images, index) -> Mixed`. alpha = 1, λ
  uniform, is i-Mix's.
  """

  alpha: float = 1.0

  def __post_init__(self):
    _check_alpha("mixup", self.alpha)

  def __call__(self, key: Array, images: Array, index: Array) -> Mixed:
    _check_batch("mixup", images, index)
    partner = sample_partner(named(key, "partner"), index)
    weight = _sample_weight(named(key, "weight"), index, self.alpha)
    return Mixed(blend(images, partner, weight), partner, weight)


@dataclasses.dataclass(frozen=True)
class cutmix:
  """CutMix (Yun et al. 2019, arXiv 1905.04899): a box of another image's pixels.

  With λ ~ Beta(alpha, alpha): sides r = ⌊√(1 − λ) · side⌋, the center any pixel with equal
  probability, ⌊r / 2⌋ to either side of it, what lies outside the image cut off. `weight` is the
  share of pixels that stay, not λ. Called as `cutmix()(key, images, index) -> Mixed`.
  """

  alpha: float = 1.0

  def __post_init__(self):
    _check_alpha("cutmix", self.alpha)

  def __call__(self, key: Array, images: Array, index: Array) -> Mixed:
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


def _sample_weight(key, index, alpha):
  return jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(per_example(key, index))


def _check_alpha(name, alpha):
  if not (isinstance(alpha, int | float) and alpha > 0):
    raise UserError(f"{name}: alpha must be above 0, not {alpha!r}")


def _check_batch(name, images, index):
  check_operation(name, images)
  check_index(name, images, index)
