"""The standard image augmentations of contrastive learning, as one recipe."""

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

COLOR_OPERATIONS = ("saturation", "hue", "gray")
"""The operations that need the channels red, green and blue."""


@dataclasses.dataclass(frozen=True)
class augment:
  """Crops, flips, jitters colors, grays, blurs, solarizes and normalizes images at random.

  The operations are applied in this order. `views.simclr`, `views.moco_v2`, `views.byol` and
  `views.multi_crop` are this recipe with the settings of a paper.

  The random parameters of a view are float32 and depend on the random key and on the index of the
  example. They depend neither on the position of the example in the batch nor on its device.

  Args:
    size: side of the view in pixels. A crop smaller than `size` is enlarged. None means the shorter
      side of the images.
    area: range of the crop's area, as a share of the image's area.
    ratio: range of the crop's aspect ratio, width / height.
    flip: probability of a left-right flip.
    jitter: probability of the color jitter, which changes brightness, contrast, saturation and hue
      in random order.
    brightness: brightness factors are uniform in [max(0, 1 − value), 1 + value].
    contrast: range of the contrast factors, as for brightness.
    saturation: range of the saturation factors, as for brightness.
    hue: hue shifts are uniform in [−hue, hue], as a share of the color circle; at most 0.5.
    gray: probability of a conversion to gray.
    blur: probability of a Gaussian blur.
    sigma: range of the blur's standard deviation, in pixels of the view.
    kernel: width of the blur's kernel, an odd number of pixels. None means the kernel of SimCLR,
      about a tenth of the view's side: 2 ⌊size / 20⌋ + 1, which is 23 at 224 pixels and 3 at 32.
    solarize: probability that values of 0.5 or more are inverted.
    mean: one number per channel, which is subtracted; () for no normalization. With a mean,
      normalize the inputs in the same way before evaluation; `evaluation.embed` does not normalize.
    std: one number per channel, by which the difference is divided; () if `mean` is ().
    channels: the number of channels of the images. Saturation, hue and gray need 3.
    left_out: operations of a paper that the recipe omits because the images do not have three
      channels. The names are informative and do not change the views.

  Raises:
    UserError: a setting is out of range. Calls raise it for images of another type, range, shape or
      number of channels; see `to_float`.

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> recipe = views.augment(size=8, brightness=0.4, contrast=0.4, gray=0.2)
    >>> images = jax.numpy.zeros((2, 12, 12, 3), "uint8")
    >>> recipe(jax.random.key(0), images, jax.numpy.arange(2)).shape
    (2, 8, 8, 3)
  """

  size: int | None = None
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
    check_crop("augment", 1 if self.size is None else self.size, self.area, self.ratio)
    if not (isinstance(self.channels, int) and self.channels >= 1):
      raise UserError(f"augment: channels must be an integer, 1 or more, not {self.channels!r}")
    upper_bounds = {"hue": 0.5, "brightness": None, "contrast": None, "saturation": None}
    for name in ("flip", "jitter", *upper_bounds, "gray", "blur", "solarize"):
      value, most = getattr(self, name), upper_bounds.get(name, 1)
      if not 0 <= value <= (value if most is None else most):
        allowed = "0 or more" if most is None else f"between 0 and {most}"
        raise UserError(f"augment: {name} must be {allowed}, not {value!r}")
      if value and self.channels != 3 and name in COLOR_OPERATIONS:
        raise UserError(
          f"augment: {name} needs 3 channels (red, green, blue), so it must be 0 for "
          f"channels={self.channels}, not {value}"
        )
    if not 0 <= self.sigma[0] <= self.sigma[1]:
      raise UserError(f"augment: sigma must be (low, high) with 0 ≤ low ≤ high, not {self.sigma}")
    for name in ("mean", "std"):
      if len(getattr(self, name)) not in ({0} if not self.mean else {self.channels}):
        raise UserError(
          f"augment: mean and std must have {self.channels} numbers each, not mean {self.mean} and "
          f"std {self.std}"
        )
    if self.kernel is not None and self.size is not None:
      check_kernel("augment", self.kernel, self.size)

  def __call__(self, key: Array, images: Array, index: Array) -> Array:
    """Draws one view of each image.

    Args:
      key: random key.
      images: [n, h, w, c], uint8 or float in [0, 1].
      index: [n], integers: the indices of the examples.

    Returns:
      Views [n, size, size, c], float in [0, 1], or normalized if the recipe has a mean.

    Raises:
      UserError: the images have another type, range, shape or number of channels.
    """
    check_recipe("augment", images, index)
    if images.shape[-1] != self.channels:
      raise UserError(
        f"augment: images must have {self.channels} channel{'s' if self.channels > 1 else ''}; "
        f"found {images.shape[-1]}: use a recipe with channels={images.shape[-1]}"
      )
    return self._view(key, images, index)

  @functools.partial(jax.jit, static_argnums=0)
  def _view(self, key: Array, images: Array, index: Array) -> Array:
    images = jnp.asarray(to_float(images))
    dtype = images.dtype
    images = images.astype(jnp.promote_types(dtype, jnp.float32))
    size = min(images.shape[1:3]) if self.size is None else self.size
    drawn = self._sample(per_example(key, index), images.shape[1:3])
    x = resized_crop(images, size=size, mirrored=drawn["mirrored"], **drawn["box"])
    if self.jitter and (self.brightness or self.contrast or self.saturation or self.hue):
      x = jitter(x, **drawn["jitter"])
    if self.gray:
      x = jnp.where(drawn["gray"][:, None, None, None], to_gray(x), x)
    if self.blur:
      x = gaussian_blur(x, drawn["sigma"], kernel=self.kernel or 2 * (size // 20) + 1)
    if self.solarize:
      x = jnp.where(drawn["solarized"][:, None, None, None], solarize(x), x)
    if self.mean:
      x = normalize(x, self.mean, self.std)
    return x.astype(dtype)

  def _sample(self, keys, shape):
    """Samples the parameters of all operations, for images of `shape` (h, w).

    The parameters of unused operations are sampled too. So the parameters of an operation do not
    depend on which other operations a recipe has.
    """
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
