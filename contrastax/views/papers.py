"""The recipes of papers: `augment` with their settings.

For a paper whose views differ, such as BYOL or SwAV, the function returns a tuple of recipes, one
per view, which `draw_views` and the methods take. No recipe normalizes, so an encoder takes values
in [0, 1] in training and in evaluation. `dataclasses.replace(recipe, mean=IMAGENET_MEAN,
std=IMAGENET_STD)` adds a normalization.

For images that do not have three channels, a recipe omits the operations that need red, green and
blue (saturation, hue and gray), and lists them in `left_out`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from contrastax.core import UserError
from contrastax.views.augment import COLOR_OPERATIONS, augment


def simclr(
  size: int | None = None,
  *,
  strength: float = 1.0,
  blur: float = 0.5,
  area: tuple[float, float] = (0.08, 1.0),
  channels: int = 3,
) -> augment:
  """Returns the recipe of SimCLR.

  With probability 0.8 brightness, contrast and saturation change by up to 0.8 s and hue by up to
  0.2 s. The probability of gray is 0.2. The blur has σ in [0.1, 2] and a kernel of a tenth of the
  side. The paper uses s = 1 on ImageNet and `simclr(32, strength=0.5, blur=0.0)` on CIFAR-10 (its
  appendix B.9).

  Args:
    size: side of the view in pixels. None means the shorter side of the images.
    strength: s, the strength of the color jitter.
    blur: probability of the blur.
    area: range of the crop's area, as a share of the image's area.
    channels: channels of the images.

  Returns:
    The recipe.

  Raises:
    UserError: a setting is out of range.

  Example:
    >>> from contrastax import views
    >>> recipe = views.simclr(32, strength=0.5)
    >>> recipe.brightness, recipe.hue
    (0.4, 0.1)

  References:
    Chen et al., SimCLR, 2020, arXiv 2002.05709, appendix A.

  In other libraries:
    The first version of the paper's code adds a number to the brightness. torchvision and this
    recipe scale the brightness.
  """
  return _for_channels(
    channels,
    size=size,
    area=area,
    brightness=0.8 * strength,
    contrast=0.8 * strength,
    saturation=0.8 * strength,
    hue=0.2 * strength,
    gray=0.2,
    blur=blur,
  )


def moco_v2(size: int, *, area: tuple[float, float] = (0.2, 1.0), channels: int = 3) -> augment:
  """Returns the recipe of MoCo v2.

  With probability 0.8 brightness, contrast and saturation change by up to 0.4 and hue by up to 0.1.
  The probability of gray is 0.2. The probability of a blur, with σ in [0.1, 2], is 0.5.

  Args:
    size: side of the view in pixels.
    area: range of the crop's area, as a share of the image's area.
    channels: channels of the images.

  Returns:
    The recipe.

  Raises:
    UserError: a setting is out of range.

  Example:
    >>> from contrastax import views
    >>> recipe = views.moco_v2(32)
    >>> recipe.brightness, recipe.hue, recipe.blur
    (0.4, 0.1, 0.5)

  References:
    Chen et al., MoCo v2, 2020, arXiv 2003.04297.

  In other libraries:
    The paper's code blurs with Pillow, which does not truncate the kernel. Here it is truncated at
    4 σ of the widest blur.
  """
  return _for_channels(
    channels,
    size=size,
    area=area,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    gray=0.2,
    blur=0.5,
    kernel=_wide_kernel(size),
  )


def byol(
  size: int, *, area: tuple[float, float] = (0.08, 1.0), channels: int = 3
) -> tuple[augment, augment]:
  """Returns the two recipes of BYOL, one per view.

  In both views, with probability 0.8, brightness and contrast change by up to 0.4, saturation by up
  to 0.2 and hue by up to 0.1. The probability of gray is 0.2. The first view is always blurred and
  never solarized. The second view is blurred with probability 0.1 and solarized with probability
  0.2. The kernel has 23 pixels at size 224, and proportionally many at other sizes.

  Args:
    size: side of the views in pixels.
    area: range of the crop's area, as a share of the image's area.
    channels: channels of the images.

  Returns:
    The recipes of the first and of the second view.

  Raises:
    UserError: a setting is out of range.

  Example:
    >>> from contrastax import views
    >>> [(recipe.blur, recipe.solarize) for recipe in views.byol(32)]
    [(1.0, 0.0), (0.1, 0.2)]

  References:
    Grill et al., BYOL, 2020, arXiv 2006.07733, table 6.
  """
  colors = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "gray": 0.2}
  first = _for_channels(channels, size=size, area=area, **colors, blur=1.0)
  second = _for_channels(channels, size=size, area=area, **colors, blur=0.1, solarize=0.2)
  return first, second


def multi_crop(
  sizes: tuple[int, ...] = (224, 96),
  *,
  counts: tuple[int, ...] = (2, 6),
  areas: tuple[tuple[float, float], ...] = ((0.14, 1.0), (0.05, 0.14)),
  strength: float = 1.0,
  channels: int = 3,
) -> tuple[augment, ...]:
  """Returns the multi-crop recipes of SwAV: a few large views and more small ones.

  The color settings are SimCLR's. The blur has the wide kernel of `moco_v2`.

  Args:
    sizes: side of the views of each kind, in pixels.
    counts: number of views of each kind.
    areas: range of the crop's area for each kind, as a share of the image's area.
    strength: strength of the color jitter, as in `simclr`.
    channels: channels of the images.

  Returns:
    One recipe per view.

  Raises:
    UserError: `sizes`, `counts` and `areas` have different lengths, or a setting is out of range.

  Example:
    >>> from contrastax import views
    >>> [recipe.size for recipe in views.multi_crop((32, 16), counts=(2, 3))]
    [32, 32, 16, 16, 16]

  References:
    Caron et al., SwAV, 2020, arXiv 2006.09882.
  """
  if not len(sizes) == len(counts) == len(areas) or not all(c >= 1 for c in counts):
    raise UserError(
      "multi_crop: sizes, counts and areas must have equal lengths, and counts must be 1 or more, "
      f"not {sizes}, {counts} and {areas}"
    )
  recipes = []
  for size, count, area in zip(sizes, counts, areas, strict=True):
    recipe = simclr(size, strength=strength, area=area, channels=channels)
    recipes += [dataclasses.replace(recipe, kernel=_wide_kernel(size))] * count
  return tuple(recipes)


def gray(
  size: int,
  *,
  area: tuple[float, float] = (0.2, 1.0),
  flip: float = 0.5,
  strength: float = 0.4,
  blur: float = 0.5,
) -> augment:
  """Returns the recipe of MoCo v2 for images of one channel: without saturation, hue and gray.

  The blur's kernel is a tenth of the side, as in SimCLR.

  Args:
    size: side of the view in pixels.
    area: range of the crop's area, as a share of the image's area.
    flip: probability of a left-right flip. Use 0.0 if the orientation matters, as for digits.
    strength: strength of the brightness and contrast jitter, which has probability 0.8.
    blur: probability of the blur.

  Returns:
    The recipe.

  Raises:
    UserError: a setting is out of range.

  Example:
    >>> from contrastax import views
    >>> recipe = views.gray(28, flip=0.0)
    >>> recipe.flip, recipe.channels, recipe.left_out
    (0.0, 1, ('saturation', 'hue', 'gray'))
  """
  return augment(
    size=size,
    area=area,
    flip=flip,
    brightness=strength,
    contrast=strength,
    blur=blur,
    channels=1,
    left_out=COLOR_OPERATIONS,
  )


def _for_channels(channels: int, **settings: Any) -> augment:
  """Returns `augment` without the color operations if images do not have three channels."""
  left_out = () if channels == 3 else tuple(name for name in COLOR_OPERATIONS if settings.get(name))
  settings = {name: value for name, value in settings.items() if name not in left_out}
  return augment(**settings, channels=channels, left_out=left_out)


def _wide_kernel(size: int) -> int:
  """Returns the width of a kernel of radius 8 (4 σ of the widest blur), or less in a small view."""
  return 2 * min(8, size - 1) + 1
