"""Fine-tunes an encoder with few labels."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from contrastax.core import (
  Array,
  Batch,
  Encoder,
  Params,
  Recipe,
  State,
  UserError,
  check_integer,
  key_for,
)
from contrastax.data import Resident
from contrastax.evaluation.embed import embed
from contrastax.evaluation.inputs import check_positive_number, class_numbers, numbers_among
from contrastax.views.images import as_input, check_inputs

MOMENTUM = optax.trace(0.9, nesterov=True)


def fine_tune(
  encoder: Encoder,
  params: Params,
  state: State,
  train: Mapping[str, Any],
  test: Mapping[str, Any],
  *,
  fraction: float,
  steps: int,
  batch_size: int = 64,
  learning_rate: float = 0.01,
  views: Recipe | None = None,
  seed: int = 0,
) -> float:
  """Trains an encoder and a linear head with few labels, and returns their test accuracy.

  The optimizer is SGD with Nesterov momentum 0.9 and no weight decay. The head starts at 0, and
  BatchNorm continues to update its statistics. The test examples are not used to choose
  anything: the accuracy is that of the last step.

  Args:
    encoder: the encoder.
    params: its parameters after training. With untrained parameters the result is the supervised
      baseline.
    state: its state after training.
    train: `image` and `label`. The images are [n, h, w, c], uint8 or float in [0, 1], or inputs
      with fewer axes, which are not changed. The labels [n] are names of classes: any integers,
      bools or strings.
    test: the same fields of the test examples. Examples of a class that `train` does not have count
      as errors.
    fraction: share of the labels of each class that is used; see `labeled`. The choice does not
      depend on the encoder.
    steps: number of steps.
    batch_size: number of examples per step, at most the number of labeled examples.
    learning_rate: the first learning rate. It falls to 0 by half a cosine.
    views: recipe of a random view of each training image. None uses the images themselves.
    seed: seed of the choice of labels, of their order and of the views.

  Returns:
    The accuracy in [0, 1]. `mean_and_interval` summarizes several seeds.

  Raises:
    UserError: an argument is out of range, labels are invalid, or the outputs are not finite after
      training.

  Example:
    >>> import jax
    >>> import numpy as np
    >>> from contrastax import encoders, evaluation
    >>> encoder = encoders.mlp((8,))
    >>> label = np.arange(20) % 2
    >>> images = np.where(label, 255, 0).astype(np.uint8)[:, None, None, None]
    >>> split = {"image": images, "label": label}
    >>> params, state = encoder.init(jax.random.key(0), images[:1] / 255)
    >>> evaluation.fine_tune(encoder, params, state, split, split, fraction=0.2, steps=5)
    1.0

  References:
    Chen et al., SimCLR, 2020, arXiv 2002.05709, appendix B.5. The paper uses 1 % and 10 % of the
    labels of ImageNet, a learning rate of 0.05 per 256 images, and 60 and 30 epochs. It does not
    use the cosine.
  """
  steps, batch_size = check_integer("steps", steps, 1), check_integer("batch_size", batch_size, 1)
  check_positive_number("learning_rate", learning_rate)
  for split in (train, test):
    if not {"image", "label"} <= set(split):
      raise UserError(
        f"fine_tune needs the fields image and label; the data have {', '.join(sorted(split))}"
      )
  for split, arrays in (("train", train), ("test", test)):
    check_inputs(f"fine_tune: {split} images", arrays["image"])
  names, number = class_numbers(train["label"], len(train["image"]), "training labels")
  expected = numbers_among(names, test["label"], len(test["image"]), "test labels")
  rows = labeled(number, fraction, seed=seed)
  arrays = {"image": train["image"][rows], "label": number[rows]}
  source = Resident(arrays, batch_size=min(batch_size, len(rows)), seed=seed)
  d = embed(encoder, params, state, arrays["image"][:1]).shape[1]
  head = {"kernel": jnp.zeros((d, len(names))), "bias": jnp.zeros(len(names))}
  params = {"encoder": params, "head": head}
  carry = params, state, MOMENTUM.init(params)
  for step in range(steps):
    rate = learning_rate * (1 + np.cos(np.pi * step / steps)) / 2
    key = key_for(seed, "fine-tune", step)
    carry = _step(encoder, views, carry, source.batch(step), jnp.float32(rate), key)
  params, state, _ = carry
  features = embed(encoder, params["encoder"], state, test["image"])
  logits = features @ np.asarray(params["head"]["kernel"]) + np.asarray(params["head"]["bias"])
  if not np.isfinite(logits).all():
    raise UserError(
      f"after {steps} steps of fine-tuning the outputs are not finite; lower learning_rate, "
      f"which is {learning_rate}"
    )
  return float(np.mean(logits.argmax(1) == expected))


def labeled(label: ArrayLike, fraction: float, *, seed: int = 0) -> np.ndarray:
  """Chooses a share of the examples of each class.

  The number of examples is rounded to the nearest integer, at least 1. The choice depends on the
  seed, on which examples share a class, and on the sorted order of the classes' names. So renaming
  the classes changes nothing if it keeps this order.

  Args:
    label: [n], names of classes.
    fraction: share of the examples, above 0 and at most 1.
    seed: seed of the choice.

  Returns:
    The sorted positions of the chosen examples.

  Raises:
    UserError: the fraction is out of range, or the labels are invalid.
  """
  if not (isinstance(fraction, numbers.Real) and 0 < fraction <= 1):
    raise UserError(f"the fraction of the labels must be above 0 and at most 1, not {fraction!r}")
  names, number = class_numbers(label, np.size(label), "label")
  rng, places = np.random.default_rng(seed), []
  for c in range(len(names)):
    members = np.flatnonzero(number == c)
    count = max(1, round(fraction * len(members)))
    places.append(rng.choice(members, count, replace=False))
  return np.sort(np.concatenate(places))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(
  encoder: Encoder, views: Recipe | None, carry: tuple, batch: Batch, rate: Array, key: Array
) -> tuple:
  params, state, momentum = carry
  views_key, encoder_key = jax.random.split(key)
  images = as_input(batch["image"])
  if views is not None:
    images = views(views_key, batch["image"], batch["index"])

  def objective(params):
    features, after = encoder.apply(params["encoder"], state, images, key=encoder_key, train=True)
    logits = features @ params["head"]["kernel"] + params["head"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), after

  grads, after = jax.grad(objective, has_aux=True)(params)
  updates, momentum = MOMENTUM.update(grads, momentum)
  updates = jax.tree.map(lambda update: (-rate * update).astype(update.dtype), updates)
  return optax.apply_updates(params, updates), after, momentum
