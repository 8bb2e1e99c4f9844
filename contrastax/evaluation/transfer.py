"""Transfer: an encoder trained on one data set, probed on another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import UserError
from contrastax.evaluation.probes import probes
from contrastax.views import to_float
from contrastax.views.colour import LUMA


def transfer(encoder: Any, train: Mapping, test: Mapping) -> dict[str, float]:
  """A row of the table, as `probes` gives it, of a data set that the encoder was not trained on.

  Args:
    encoder: the result of `contrastax.load(workdir)`: a function of images [n, *image_shape] that
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
  features = [encoder(fitted(split["image"], encoder.image_shape)) for split in (train, test)]
  return probes(features[0], train["label"], features[1], test["label"])


def fitted(images, shape: tuple[int, int, int], *, batch_size: int = 512):
  """Images [n, h, w, c] in another shape (h', w', c'): as they are where it is theirs already.

  Else float32 in [0, 1], resized bilinearly (smoothed first where they shrink), grey ones
  repeated over three channels, coloured ones turned grey by their luma. `batch_size` images
  at a time. Raises UserError for other numbers of channels.
  """
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
