"""Transfer: an encoder trained on one data set, probed on another."""

from __future__ import annotations

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


def transfer(encoder: Any, train: Mapping, test: Mapping) -> dict[str, float]:
  """A row of the table, as `probes` gives it, of a data set that the encoder was not trained on.

  Args:
    encoder: the result of `contrastax.load(workdir)`: a function of images [n, h, w, c] that
      returns features [n, d]. It is not trained.
    train, test: {"image": …, "label": …} of the other data set. The probes learn from its training
      labels, and images are `fitted`.

  Raises:
    UserError for data without images or labels, and for labels that `probes` refuses.
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
  """Images in the shape that an encoder takes.

  Images of this shape are returned as they are. Others are resized bilinearly, and smoothed first
  where they shrink; one channel is repeated over three, and three become one by their luma.

  Args:
    images: [n, h, w, c], uint8 or float in [0, 1].
    shape: (h', w', c').
    batch_size: images that are resized at a time.

  Returns:
    [n, h', w', c']: `images`, or float32 in [0, 1].

  Raises:
    UserError: images of another type, range or shape, or other numbers of channels.
  """
  check_images("fitted: images", images)
  if images.shape[1:] == tuple(shape):
    return images
  (*_, have), (*size, want) = images.shape, shape
  if have != want and {have, want} != {1, 3}:
    raise UserError(f"images of {have} channels cannot be given to an encoder of {want}")

  @jax.jit
  def fit(images):
    images = to_float(images)
    if have == 3 and want == 1:
      images = (images @ jnp.asarray(LUMA, images.dtype))[..., None]
    images = jax.image.resize(images, (len(images), *size, images.shape[-1]), "linear")
    return jnp.repeat(images, want // images.shape[-1], -1)

  parts = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
  return np.concatenate([np.asarray(fit(part), np.float32) for part in parts])
