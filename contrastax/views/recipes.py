"""Recipes: random views, put together from deterministic operations.

A recipe is called as `recipe(key, images, index)` and returns one random view of each
image. It samples its parameters per example, from a key folded from the example's index,
and then calls the deterministic operations; so an example's view depends neither on its
place in the batch nor on the device that makes it.

Images are [n, h, w, c], uint8 or float in [0, 1], with any number of channels. Views are float;
noise and brightness can leave [0, 1].
"""

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
  """Views of small images without a canonical place, with any number of channels.

  shift: up to this share of the height and width, either way.
  scale: enlarged or shrunk by up to this share: a factor in [1/(1 + scale), 1 + scale].
  rotation: up to this many degrees, either way.
  intensity: brightness times a factor in [1 − intensity, 1 + intensity].
  noise: standard deviation of noise added to each pixel.
  mirror: probability of a left-right flip; 0 where handedness has meaning, as for digits.
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
        wanted = "between 0 and 1" if most == 1 else "0 or more"
        raise UserError(f"affine_jitter: {name} must be {wanted}, not {value!r}")

  def __call__(self, key: Array, images: Array, index: Array) -> Array:
    """One view [n, h, w, c] of each of images [n, h, w, c], whose index is [n], int.

    Raises UserError for images of another type, range or shape; see `views.images`.
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
  """The view that evaluation sees: uint8 images divided by 255, other inputs as they are.

  x may be a tree of arrays. Where the encoder has dropout, two unchanged views differ by it (SimCSE:
  Gao et al. 2021, arXiv 2104.08821).
  """

  def __call__(self, key: Array, x: Any, index: Array) -> Any:
    return jax.tree.map(as_input, x)
