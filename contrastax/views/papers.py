"""Recipes of papers: `augment` with their settings; and views by a recipe each.

A paper whose views differ (BYOL's two, SwAV's sizes) is a tuple of recipes, one per view, for
`draw_views`. No recipe normalizes, so encoders see [0, 1] in training as in evaluation;
`dataclasses.replace(recipe, mean=IMAGENET_MEAN, std=IMAGENET_STD)` does.

With `channels` other than 3 a recipe leaves out what needs red, green and blue (saturation, hue
and gray), and names it in `left_out`.
"""

from __future__ import annotations

import dataclasses

from contrastax.core import UserError
from contrastax.views.augment import COLOR_OPERATIONS, augment


def simclr(
  size: int,
  *,
  strength: float = 1.0,
  blur: float = 0.5,
  area: tuple[float, float] = (0.08, 1.0),
  channels: int = 3,
) -> augment:
  """SimCLR (Chen et al. 2020, arXiv 2002.05709, appendix A).

  Jitter of 0.8 s, 0.8 s, 0.8 s and 0.2 s with probability 0.8, gray 0.2, blur of σ in [0.1, 2] cut
  at a tenth of the side. ImageNet: s = 1. CIFAR-10 (appendix B.9): `simclr(32, strength=0.5,
  blur=0.0)`. The paper's own code adds in place of multiplying brightness in its first version;
  the arithmetic here is torchvision's.
  """
  return _of_channels(
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
  """MoCo v2 (Chen et al. 2020, arXiv 2003.04297).

  Jitter of 0.4, 0.4, 0.4 and 0.1 with probability 0.8, gray 0.2, half of the views blurred by σ in
  [0.1, 2]. The paper's code blurs with Pillow, whose kernel is not cut: here it ends at 4 σ.
  """
  return _of_channels(
    channels,
    size=size,
    area=area,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    gray=0.2,
    blur=0.5,
    kernel=_uncut(size),
  )


def byol(
  size: int, *, area: tuple[float, float] = (0.08, 1.0), channels: int = 3
) -> tuple[augment, augment]:
  """BYOL's two views (Grill et al. 2020, arXiv 2006.07733, table 6).

  Both: jitter of 0.4, 0.4, 0.2 and 0.1 with probability 0.8, gray 0.2. The first is always blurred
  and never solarized; the second blurred with probability 0.1 and solarized with 0.2. The blur
  is cut at 23 pixels of 224, in proportion at other sizes.
  """
  colors = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "gray": 0.2}
  first = _of_channels(channels, size=size, area=area, **colors, blur=1.0)
  second = _of_channels(channels, size=size, area=area, **colors, blur=0.1, solarize=0.2)
  return first, second


def multi_crop(
  sizes: tuple[int, ...] = (224, 96),
  *,
  counts: tuple[int, ...] = (2, 6),
  areas: tuple[tuple[float, float], ...] = ((0.14, 1.0), (0.05, 0.14)),
  strength: float = 1.0,
  channels: int = 3,
) -> tuple[augment, ...]:
  """SwAV's multi-crop (Caron et al. 2020, arXiv 2006.09882): few large views, more small ones.

  `counts[g]` views of side `sizes[g]`, cropped from a share in `areas[g]`, for each group g. All
  have SimCLR's colors, of s = `strength`, and its blur by Pillow, so uncut, as in MoCo v2.
  """
  if not len(sizes) == len(counts) == len(areas) or not all(c >= 1 for c in counts):
    raise UserError(
      "multi_crop: sizes, counts and areas say one thing each, counts 1 or more, of each group of "
      f"views, not {sizes}, {counts} and {areas}"
    )
  recipes = []
  for size, count, area in zip(sizes, counts, areas, strict=True):
    recipe = simclr(size, strength=strength, area=area, channels=channels)
    recipes += [dataclasses.replace(recipe, kernel=_uncut(size))] * count
  return tuple(recipes)


def gray(
  size: int,
  *,
  area: tuple[float, float] = (0.2, 1.0),
  flip: float = 0.5,
  strength: float = 0.4,
  blur: float = 0.5,
) -> augment:
  """MoCo v2's recipe without saturation, hue and gray, for images of one channel.

  Crop, flip, brightness and contrast of `strength` in random order with probability 0.8, and blur cut at
  a tenth of the side. `flip=0.0` where handedness has meaning, as for digits.
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


def _of_channels(channels, **settings):
  """`augment` with these settings, less those that need other channels than there are."""
  left_out = () if channels == 3 else tuple(name for name in COLOR_OPERATIONS if settings.get(name))
  kept = {name: value for name, value in settings.items() if name not in left_out}
  return augment(**kept, channels=channels, left_out=left_out)


def _uncut(size):
  """A kernel of 8 pixels, 4 σ of the widest blur, to either side; fewer in a tiny view."""
  return 2 * min(8, size - 1) + 1
