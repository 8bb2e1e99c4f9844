"""Fine-tuning with few labels: the encoder is trained further, with a linear head."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from contrastax.core import Encoder, Params, State, UserError, check_integer, key_for
from contrastax.data import Resident
from contrastax.evaluation.embed import embed
from contrastax.evaluation.inputs import check_positive_number, class_numbers, numbers_among
from contrastax.views.images import as_input, check_inputs

MOMENTUM = optax.trace(0.9, nesterov=True)


def fine_tune(
  encoder: Encoder, params: Params, state: State, train: Mapping, test: Mapping, *,
  fraction: float, steps: int, batch_size: int = 64, learning_rate: float = 0.01,
  views: Callable | None = None, seed: int = 0,
) -> float:  # fmt: skip
  """Accuracy on `test` of encoder and linear head, trained with the labels of a share of `train`.

  Args:
    encoder, params, state: the encoder and its parameters and state after training; fresh ones
      give the supervised baseline.
    train, test: {"image": [n, h, w, c], uint8 or float in [0, 1]; "label": [n]}. Inputs of
      fewer axes are no images and reach the encoder as they are. A label is the name of a class: any
      integer, bool or string. A test label that no training example has
      counts as missed.
    fraction: of each class that has labels, by `labeled`, drawn from `seed` and the labels
      alone: every encoder gets the same ones.
    steps: of SGD with Nesterov momentum 0.9 and no weight decay. Nothing is chosen on the way,
      and the accuracy is that of the last step.
    batch_size: at most the number of labeled examples.
    learning_rate: falls to 0 over the steps by half a cosine.
    views: `(key, images, index) -> images`, a random view of each training image; none by
      default.
    seed: of the labels, their order and the views.

  Returns:
    The accuracy, in [0, 1]. For several seeds: `mean_and_interval`.

  Raises:
    UserError for options out of range, for labels that `evaluation.inputs` refuses, and where the
    outputs are not finite after training.

  The head starts at 0; BatchNorm goes on learning its statistics.
  The recipe is that of Chen et al. 2020, arXiv 2002.05709, §B.5 (1 % and 10 % of ImageNet, a
  learning rate of 0.05 per 256 images, 60 and 30 epochs), but for the cosine.
  """
  steps, batch_size = check_integer("steps", steps, 1), check_integer("batch_size", batch_size, 1)
  check_positive_number("learning_rate", learning_rate)
  for split in (train, test):
    if not {"image", "label"} <= set(split):
      raise UserError(
        f"fine-tuning needs image and label; the data have {', '.join(sorted(split))}"
      )
  for split, arrays in (("train", train), ("test", test)):
    check_inputs(f"fine_tune: {split} images", arrays["image"])
  names, number = class_numbers(train["label"], len(train["image"]), "training labels")
  expected = numbers_among(names, test["label"], len(test["image"]), "test labels")
  at = labeled(number, fraction, seed=seed)
  arrays = {"image": train["image"][at], "label": number[at]}
  source = Resident(arrays, batch_size=min(batch_size, len(at)), seed=seed)
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
  """The places of a share of the examples: of each class the nearest whole number, at least one.

  They depend on the seed and on which examples share a class, and on the sorted order of the
  classes' names: a renaming that keeps this order changes nothing.
  """
  if not (isinstance(fraction, numbers.Real) and 0 < fraction <= 1):
    raise UserError(f"a fraction of the labels is above 0 and at most 1, not {fraction!r}")
  names, number = class_numbers(label, np.size(label), "label")
  rng, places = np.random.default_rng(seed), []
  for c in range(len(names)):
    members = np.flatnonzero(number == c)
    count = max(1, round(fraction * len(members)))
    places.append(rng.choice(members, count, replace=False))
  return np.sort(np.concatenate(places))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(encoder, views, carry, batch, rate, key):
  params, state, momentum = carry
  of_views, of_encoder = jax.random.split(key)
  images = as_input(batch["image"])
  if views is not None:
    images = views(of_views, batch["image"], batch["index"])

  def objective(params):
    features, after = encoder.apply(params["encoder"], state, images, key=of_encoder, train=True)
    logits = features @ params["head"]["kernel"] + params["head"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), after

  grads, after = jax.grad(objective, has_aux=True)(params)
  updates, momentum = MOMENTUM.update(grads, momentum)
  updates = jax.tree.map(lambda update: (-rate * update).astype(update.dtype), updates)
  return optax.apply_updates(params, updates), after, momentum
