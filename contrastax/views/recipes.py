"""Recipes for images with any number of channels, and the recipe that changes nothing."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from contrastax.core import Array, UserError, per_example
from contrastax.views.geometry import affine, flip
from contrastax.views.images import as_input, check_recipe, to_float
from contrastax.views.intensity import add_noise, intensity


@dataclasses.dataclass(frozen=True)
class affine_jitter:
  """Flips, rotates, scales and shifts images, scales their intensity and adds noise.

  It suits small images with any number of channels, in which the object has no fixed position. The
  intensity and the noise may move values out of [0, 1].

  The parameters of a view depend on the random key and on the index of the example. They depend
  neither on the position of the example in the batch nor on its device.

  Args:
    shift: largest shift, as a share of the height and of the width.
    scale: scale factors lie in [1 / (1 + scale), 1 + scale].
    rotation: largest rotation in degrees, in both directions.
    intensity: intensity factors are uniform in [1 − intensity, 1 + intensity].
    noise: standard deviation of the noise that is added to each value.
    mirror: probability of a left-right flip. Use 0 if the orientation matters, as for digits.

  Raises:
    UserError: a setting is out of range. Calls raise it for images of another type, range or shape;
      see `to_float`.

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> images = jax.numpy.zeros((4, 8, 8, 1), "uint8")
    >>> views.affine_jitter()(jax.random.key(0), images, jax.numpy.arange(4)).shape
    (4, 8, 8, 1)
  """

  shift: float = 0.1
  scale: float = 0.15
  rotation: float = 10.0
  intensity: float = 0.3
  noise: float = 0.1
  mirror: float = 0.0

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      most = 1 if name in ("intensity", "mirror") else math.inf
      if not (isinstance(value, int | float) and 0 <= value <= most):
        allowed = "between 0 and 1" if most == 1 else "0 or more"
        raise UserError(f"affine_jitter: {name} must be {allowed}, not {value!r}")

  def __call__(self, key: Array, images: Array, index: Array) -> Array:
    """Draws one view of each image.

    Args:
      key: random key.
      images: [n, h, w, c], uint8 or float in [0, 1].
      index: [n], integers: the indices of the examples.

    Returns:
      Views [n, h, w, c], float.

    Raises:
      UserError: the images have another type, range or shape.
    """
    check_recipe("affine_jitter", images, index)
    images = jnp.asarray(to_float(images))
    size = jnp.asarray(images.shape[1:3], images.dtype)

    def sample(key):
      place, rest, noise = jax.random.split(key, 3)
      u = jax.random.uniform(place, (4,), images.dtype, -1, 1)
      v = jax.random.uniform(rest, (2,), images.dtype)
      return {
        "shift": self.shift * size * u[:2],
        "scale": jnp.exp(math.log1p(self.scale) * u[2]),
        "angle": math.radians(self.rotation) * u[3],
        "factor": 1 + self.intensity * (2 * v[0] - 1),
        "mirrored": v[1] < self.mirror,
        "noise": jax.random.normal(noise, images.shape[1:], images.dtype),
      }

    drawn = jax.vmap(sample)(per_example(key, index))
    images = flip(images, drawn["mirrored"])
    images = affine(images, shift=drawn["shift"], scale=drawn["scale"], angle=drawn["angle"])
    return add_noise(intensity(images, drawn["factor"]), drawn["noise"], self.noise)


@dataclasses.dataclass(frozen=True)
class unchanged:
  """Returns the example itself, as in evaluation.

  If the encoder has dropout, as in SimCSE, the embeddings of two unchanged views differ.

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> images = jax.numpy.full((4, 8, 8, 1), 255, "uint8")
    >>> float(views.unchanged()(jax.random.key(0), images, jax.numpy.arange(4)).max())
    1.0

  References:
    Gao et al., SimCSE, 2021, arXiv 2104.08821.
  """

  def __call__(self, key: Array, x: Any, index: Array) -> Any:
    """Returns x, an array or a tree of arrays, with uint8 images divided by 255."""
    return jax.tree.map(as_input, x)
