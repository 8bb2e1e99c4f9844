"""The order of operations that contrastive learning of images settled on, as one recipe.

Images are [n, h, w, c], uint8 or float in [0, 1]; views are float [n, size, size, c] in [0, 1],
or normalized where the recipe has a mean. Parameters are sampled per example from a key folded
from its index, in float32 whatever the images' type; so an example's view depends neither on its
place in the batch nor on the device that makes it.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from contrastax.core import Array, UserError, per_example
from contrastax.views.blur import check_kernel, gaussian_blur
from contrastax.views.color import (
  JITTER_NUMBERS,
  jitter,
  normalize,
  sample_jitter,
  solarize,
  to_gray,
)
from contrastax.views.crop import BOX_NUMBERS, check_crop, resized_crop, sample_box
from contrastax.views.images import check_recipe, to_float

COLOR_OPERATIONS = ("saturation", "hue", "gray")  # operations that need red, green and blue


@dataclasses.dataclass(frozen=True)
class augment:
  """Random resized crop, flip, color jitter, gray, Gaussian blur, solarize, normalize.

  In this order, for one view of each image; `contrastax.views.papers` has the settings of SimCLR,
  MoCo v2, BYOL and SwAV. Raises UserError for a setting without meaning, and for images of another
  type, range, shape or number of channels. A crop smaller than `size` is enlarged.

  size: side of the view in pixels.
  area, ratio: ranges of the crop's share of the image's area and of its width over height.
  flip: probability of a left-right mirror.
  jitter: probability that brightness, contrast, saturation and hue change, in random order.
  brightness, contrast, saturation: factors lie in [max(0, 1 − value), 1 + value].
  hue: turned by up to this share of the color circle, either way; at most ½.
  gray: probability that only luminance is left.
  blur: probability of a Gaussian blur; its σ is uniform in `sigma`, in pixels of the view.
  kernel: odd number of pixels at which the blur is cut; None is SimCLR's, a tenth of the view's
    side: 2 ⌊size / 20⌋ + 1, so 23 at 224 pixels and 3 at 32.
  solarize: probability that what is ½ or brighter is inverted.
  mean, std: per channel, subtracted and divided by; () for neither. What an encoder is given in
    evaluation must then be normalized in the same way; `evaluation.embed` does not.
  channels: of the images, any number. Saturation, hue and gray need 3: red, green and blue.
  left_out: the operations of a paper's recipe that images of so many channels do not allow. The
    recipes of papers fill it in; it changes no view.
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
  gray: float = 0.0
  blur: float = 0.0
  sigma: tuple[float, float] = (0.1, 2.0)
  kernel: int | None = None
  solarize: float = 0.0
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  channels: int = 3
  left_out: tuple[str, ...] = ()

  def __post_init__(self):
    for name in ("area", "ratio", "sigma", "mean", "std"):
      if not isinstance(getattr(self, name), tuple):
        raise UserError(f"augment: {name} must be a tuple, not {getattr(self, name)!r}")
    check_crop("augment", self.size, self.area, self.ratio)
    if not (isinstance(self.channels, int) and self.channels >= 1):
      raise UserError(f"augment: channels must be an integer, 1 or more, not {self.channels!r}")
    bounds = {"hue": 0.5, "brightness": None, "contrast": None, "saturation": None}
    for name in ("flip", "jitter", *bounds, "gray", "blur", "solarize"):
      value, most = getattr(self, name), bounds.get(name, 1)
      if not 0 <= value <= (value if most is None else most):
        wanted = "0 or more" if most is None else f"between 0 and {most}"
        raise UserError(f"augment: {name} must be {wanted}, not {value!r}")
      if value and self.channels != 3 and name in COLOR_OPERATIONS:
        raise UserError(
          f"augment: {name} needs 3 channels, red, green, blue; it must be 0 for "
          f"channels={self.channels}, not {value}"
        )
    if not 0 <= self.sigma[0] <= self.sigma[1]:
      raise UserError(f"augment: sigma must be two widths, 0 ≤ low ≤ high, not {self.sigma}")
    for name in ("mean", "std"):
      if len(getattr(self, name)) not in ({0} if not self.mean else {self.channels}):
        given = f"mean {self.mean} and std {self.std}"
        raise UserError(f"augment: mean and std have {self.channels} numbers each, not {given}")
    if self.kernel is not None:
      check_kernel("augment", self.kernel, self.size)

  def __call__(self, key: Array, images: Array, index: Array) -> Array:
    """One view [n, size, size, c] of each of images [n, h, w, c], whose index is [n], int.

    Raises UserError for images of another type, range or shape; see `views.images`.
    """
    check_recipe("augment", images, index)
    if images.shape[-1] != self.channels:
      raise UserError(
        f"augment: images must have {self.channels} channel{'s' if self.channels > 1 else ''}; "
        f"found {images.shape[-1]}: take a recipe with channels={images.shape[-1]}"
      )
    return self._view(key, images, index)

  @functools.partial(jax.jit, static_argnums=0)
  def _view(self, key, images, index):
    images = to_float(images)
    dtype = images.dtype
    images = images.astype(jnp.promote_types(dtype, jnp.float32))
    drawn = self._sample(per_example(key, index), images.shape[1:3])
    x = resized_crop(images, size=self.size, mirrored=drawn["mirrored"], **drawn["box"])
    if self.jitter and (self.brightness or self.contrast or self.saturation or self.hue):
      x = jitter(x, **drawn["jitter"])
    if self.gray:
      x = jnp.where(drawn["gray"][:, None, None, None], to_gray(x), x)
    if self.blur:
      x = gaussian_blur(x, drawn["sigma"], kernel=self.kernel or 2 * (self.size // 20) + 1)
    if self.solarize:
      x = jnp.where(drawn["solarized"][:, None, None, None], solarize(x), x)
    if self.mean:
      x = normalize(x, self.mean, self.std)
    return x.astype(dtype)

  def _sample(self, keys, shape):
    """All random parameters of a view of each image; unused ones are drawn too, so that whether
    an operation is part of the recipe does not change what is drawn for the others."""
    counts = (BOX_NUMBERS, JITTER_NUMBERS, 5)
    draw = jax.vmap(lambda key: jax.random.uniform(key, (sum(counts),), jnp.float32))
    box, colors, rest = jnp.split(draw(keys), (counts[0], counts[0] + counts[1]), 1)
    reach = {"brightness": self.brightness, "contrast": self.contrast}
    if self.channels == 3:
      reach |= {"saturation": self.saturation, "hue": self.hue}
    low, high = self.sigma
    return {
      "box": sample_box(box, shape, area=self.area, ratio=self.ratio),
      "jitter": sample_jitter(colors, probability=self.jitter, **reach),
      "mirrored": rest[:, 0] < self.flip,
      "gray": rest[:, 1] < self.gray,
      "sigma": jnp.where(rest[:, 2] < self.blur, low + (high - low) * rest[:, 3], 0.0),
      "solarized": rest[:, 4] < self.solarize,
    }
