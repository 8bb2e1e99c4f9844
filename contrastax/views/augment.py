"""The order of operations that contrastive learning of images settled on, as one recipe.

Images are [n, h, w, c], uint8 or float in [0, 1]; views are float [n, size, size, c] in [0, 1],
or normalised where the recipe has a mean. Parameters are sampled per example from a key folded
from its index, in float32 whatever the images' type; so an example's view depends neither on its
place in the batch nor on the device that makes it.
"""

from __future__ import annotations

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp

from contrastax.core import UserError, per_example
from contrastax.views.blur import check_kernel, gaussian_blur
from contrastax.views.colour import (
  JITTER_NUMBERS,
  jitter,
  normalise,
  sample_jitter,
  solarise,
  to_grey,
)
from contrastax.views.crop import BOX_NUMBERS, check_crop, resized_crop, sample_box
from contrastax.views.recipes import to_float


@dataclasses.dataclass(frozen=True)
class augment:
  """Random resized crop, flip, colour jitter, grey, Gaussian blur, solarise, normalise.

  In this order, for one view of each image; `contrastax.views.papers` has the settings of SimCLR,
  MoCo v2, BYOL and SwAV. Raises UserError where a setting, or the images' channels, have no
  meaning. Images may be smaller than `size`: the crop is then enlarged.

  size: side of the view in pixels.
  area, ratio: ranges of the crop's share of the image's area and of its width over height.
  flip: probability of a left-right mirror.
  jitter: probability that brightness, contrast, saturation and hue change, in random order.
  brightness, contrast, saturation: factors lie in [max(0, 1 − value), 1 + value].
  hue: turned by up to this share of the colour circle, either way; at most ½.
  grey: probability that only luminance is left.
  blur: probability of a Gaussian blur; its σ is uniform in `sigma`, in pixels of the view.
  kernel: odd number of pixels at which the blur is cut; None is SimCLR's, a tenth of the view's
    side: 2 ⌊size / 20⌋ + 1, so 23 at 224 pixels and 3 at 32.
  solarise: probability that what is ½ or brighter is inverted.
  mean, std: per channel, subtracted and divided by; () for neither. What an encoder is given in
    evaluation must then be normalised in the same way; `evaluation.embed` does not.
  channels: of the images: 3, or 1, which allows no saturation, hue or grey.
  """

  size: int
  area: tuple[float, float] = (0.08, 1.0)
  ratio: tuple[float, float] = (3 / 4, 4 / 3)
  flip: float = 0.5
  jitter: float = 0.8
  brightness: float = 0.0
  contrast: float = 0.0
  saturation: float = 0.0
  hue: float = 0.0
  grey: float = 0.0
  blur: float = 0.0
  sigma: tuple[float, float] = (0.1, 2.0)
  kernel: int | None = None
  solarise: float = 0.0
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  channels: int = 3

  def __post_init__(self):
    for name in ("area", "ratio", "sigma", "mean", "std"):
      if not isinstance(getattr(self, name), tuple):
        raise UserError(f"augment: {name} must be a tuple, not {getattr(self, name)!r}")
    check_crop("augment", self.size, self.area, self.ratio)
    if self.channels not in (1, 3):
      raise UserError(f"augment: channels must be 3 or 1, not {self.channels!r}")
    bounds = {"hue": 0.5, "brightness": None, "contrast": None, "saturation": None}
    for name in ("flip", "jitter", *bounds, "grey", "blur", "solarise"):
      value, most = getattr(self, name), bounds.get(name, 1)
      if not 0 <= value <= (value if most is None else most):
        wanted = "0 or more" if most is None else f"between 0 and {most}"
        raise UserError(f"augment: {name} must be {wanted}, not {value!r}")
      if value and self.channels == 1 and name in ("saturation", "hue", "grey"):
        raise UserError(f"augment: images of 1 channel have no {name}; it must be 0, not {value}")
    if not 0 <= self.sigma[0] <= self.sigma[1]:
      raise UserError(f"augment: sigma must be two widths, 0 ≤ low ≤ high, not {self.sigma}")
    for name in ("mean", "std"):
      if len(getattr(self, name)) not in ({0} if not self.mean else {self.channels}):
        given = f"mean {self.mean} and std {self.std}"
        raise UserError(f"augment: mean and std have {self.channels} numbers each, not {given}")
    if self.kernel is not None:
      check_kernel("augment", self.kernel, self.size)

  @functools.partial(jax.jit, static_argnums=0)
  def __call__(self, key, images, index):
    """One view [n, size, size, c] of each of images [n, h, w, c], whose index is [n], int."""
    chex.assert_rank(images, 4)
    chex.assert_shape(index, images.shape[:1])
    self._check(images)
    images = to_float(images)
    dtype = images.dtype
    images = images.astype(jnp.promote_types(dtype, jnp.float32))
    drawn = self._sample(per_example(key, index), images.shape[1:3])
    x = resized_crop(images, size=self.size, mirrored=drawn["mirrored"], **drawn["box"])
    if self.jitter and (self.brightness or self.contrast or self.saturation or self.hue):
      x = jitter(x, **drawn["jitter"])
    if self.grey:
      x = jnp.where(drawn["grey"][:, None, None, None], to_grey(x), x)
    if self.blur:
      x = gaussian_blur(x, drawn["sigma"], kernel=self.kernel or 2 * (self.size // 20) + 1)
    if self.solarise:
      x = jnp.where(drawn["solarised"][:, None, None, None], solarise(x), x)
    if self.mean:
      x = normalise(x, self.mean, self.std)
    return x.astype(dtype)

  def _sample(self, keys, shape):
    """All random parameters of a view of each image; unused ones are drawn too, so that whether
    an operation is part of the recipe does not change what is drawn for the others."""
    counts = (BOX_NUMBERS, JITTER_NUMBERS, 5)
    draw = jax.vmap(lambda key: jax.random.uniform(key, (sum(counts),), jnp.float32))
    box, colours, rest = jnp.split(draw(keys), (counts[0], counts[0] + counts[1]), 1)
    reach = {"brightness": self.brightness, "contrast": self.contrast}
    if self.channels == 3:
      reach |= {"saturation": self.saturation, "hue": self.hue}
    low, high = self.sigma
    return {
      "box": sample_box(box, shape, area=self.area, ratio=self.ratio),
      "jitter": sample_jitter(colours, probability=self.jitter, **reach),
      "mirrored": rest[:, 0] < self.flip,
      "grey": rest[:, 1] < self.grey,
      "sigma": jnp.where(rest[:, 2] < self.blur, low + (high - low) * rest[:, 3], 0.0),
      "solarised": rest[:, 4] < self.solarise,
    }

  def _check(self, images):
    if images.shape[-1] != self.channels:
      other = (
        "views.grey is for grey images" if self.channels == 3 else "views.simclr is for colour"
      )
      wanted = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
      raise UserError(f"augment: images must have {wanted}, not {images.shape[-1]}; {other}")
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
      raise UserError(f"augment: images must be uint8 or float in [0, 1], not {images.dtype}")
    if 0 in images.shape[1:3]:
      raise UserError(f"augment: images have no pixels: {images.shape[1]} by {images.shape[2]}")
