"""Transfer: probes of an encoder on a data set that it was not trained on."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Array, UserError
from contrastax.evaluation.probes import probes
from contrastax.views import to_float
from contrastax.views.color import LUMA
from contrastax.views.images import check_images


def transfer(encoder: Any, train: Mapping[str, Any], test: Mapping[str, Any]) -> dict[str, float]:
  """Returns the accuracies of `probes` on a data set that the encoder was not trained on.

  Images are resized to the encoder's shape by `fitted`. The encoder is not trained.

  Args:
    encoder: the result of `contrastax.load(workdir)`, a function from images [n, h, w, c] to
      features [n, d].
    train: `image` and `label` of the examples on which the probes are trained.
    test: `image` and `label` of the test examples.

  Returns:
    `knn`, `linear_1`, `linear_5` and `linear`, in [0, 1].

  Raises:
    UserError: the data have no images or labels, or these are invalid.

  Example:
    >>> import jax
    >>> import numpy as np
    >>> from contrastax import encoders, evaluation
    >>> from contrastax.training.load import FrozenEncoder
    >>> label = np.arange(10) % 2
    >>> image = np.zeros((10, 4, 4, 1), np.uint8)
    >>> image[label == 1] = 255
    >>> network = encoders.mlp((8,))
    >>> params, state = network.init(jax.random.key(0), image[:1] / 255)
    >>> encoder = FrozenEncoder(network, params, state, jax.ShapeDtypeStruct((4, 4, 1), "uint8"), 0)
    >>> data = {"image": image, "label": label}
    >>> sorted(evaluation.transfer(encoder, data, data))
    ['knn', 'linear', 'linear_1', 'linear_5']
  """
  for split in (train, test):
    if not {"image", "label"} <= set(split):
      raise UserError(
        f"transfer needs image and label; the data set has {', '.join(sorted(split))}"
      )
  features = [encoder(fitted(split["image"], encoder.inputs.shape)) for split in (train, test)]
  return probes(features[0], train["label"], features[1], test["label"])


def fitted(
  images: Array | np.ndarray, shape: tuple[int, int, int], *, batch_size: int = 512
) -> Array | np.ndarray:
  """Converts images to the input shape of an encoder.

  Images of this shape are returned unchanged. Other images are resized bilinearly, with
  antialiasing. One channel is repeated three times. Three channels are converted to their luma.

  Args:
    images: [n, h, w, c], uint8 or float in [0, 1].
    shape: (h', w', c').
    batch_size: number of images that are resized at a time.

  Returns:
    [n, h', w', c']: `images`, or float32 in [0, 1].

  Raises:
    UserError: images have another type, range or shape, or their channels cannot be converted.
  """
  check_images("fitted: images", images)
  if images.shape[1:] == tuple(shape):
    return images
  channels, expected = images.shape[-1], shape[-1]
  if channels != expected and {channels, expected} != {1, 3}:
    raise UserError(
      f"images of {channels} channels cannot be given to an encoder of {expected}; convert them to "
      f"{expected}"
    )
  parts = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
  return np.concatenate([np.asarray(_fit(part, tuple(shape)), np.float32) for part in parts])


@functools.partial(jax.jit, static_argnums=1)
def _fit(images: Array, shape: tuple[int, int, int]) -> Array:
  *size, expected = shape
  images = jnp.asarray(to_float(images))
  if images.shape[-1] == 3 and expected == 1:
    images = (images @ jnp.asarray(LUMA, images.dtype))[..., None]
  images = jax.image.resize(images, (len(images), *size, images.shape[-1]), "linear")
  return jnp.repeat(images, expected // images.shape[-1], -1)
