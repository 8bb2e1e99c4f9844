"""Fine-tuning with few labels: the encoder goes on from where it is, with a linear head."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from contrastax.core import UserError, key_for
from contrastax.data import Resident
from contrastax.evaluation.embed import embed
from contrastax.views.images import as_input, check_inputs

MOMENTUM = optax.trace(0.9, nesterov=True)


def fine_tune(
  encoder, params, state, train, test, *, fraction: float, steps: int, batch_size: int = 64,
  learning_rate: float = 0.01, views=None, seed: int = 0,
) -> float:  # fmt: skip
  """Accuracy on `test` of encoder and linear head, trained with the labels of a share of `train`.

  Args:
    encoder, params, state: what training left; fresh ones give the supervised baseline.
    train, test: {"image": [n, h, w, c], uint8 or float in [0, 1]; "label": [n], int}. Inputs of
      fewer axes are no images, and reach the encoder as they are.
    fraction: of each class that has labels, by `labelled`, drawn from `seed` and the labels
      alone: every encoder gets the same ones.
    steps: of SGD with Nesterov momentum 0.9 and no weight decay. Nothing is chosen on the way,
      and the accuracy is that of the last step.
    batch_size: at most the number of labelled examples.
    learning_rate: falls to 0 over the steps by half a cosine.
    views: `(key, images, index) -> images`, a random view of each training image; none by
      default.

  The head starts at 0; BatchNorm goes on learning its statistics. A test label that no
  training example has counts as missed. For several seeds: `mean_and_interval`.
  The recipe is that of Chen et al. 2020, arXiv 2002.05709, §B.5 (1 % and 10 % of ImageNet, a
  learning rate of 0.05 per 256 images, 60 and 30 epochs), but for the cosine.
  """
  if steps < 1:
    raise UserError(f"fine-tuning takes at least 1 step, not {steps}")
  for split, arrays in (("train", train), ("test", test)):
    check_inputs(f"fine_tune: {split} images", arrays["image"])
  at = labelled(train["label"], fraction, seed=seed)
  classes, target = np.unique(train["label"][at], return_inverse=True)
  arrays = {"image": train["image"][at], "label": target.astype(np.int32)}
  source = Resident(arrays, batch_size=min(batch_size, len(at)), seed=seed)
  d = embed(encoder, params, state, arrays["image"][:1]).shape[1]
  head = {"kernel": jnp.zeros((d, len(classes))), "bias": jnp.zeros(len(classes))}
  params = {"encoder": params, "head": head}
  carry = params, state, MOMENTUM.init(params)
  for step in range(steps):
    rate = learning_rate * (1 + np.cos(np.pi * step / steps)) / 2
    key = key_for(seed, "fine-tune", step)
    carry = _step(encoder, views, carry, source.batch(step), jnp.float32(rate), key)
  params, state, _ = carry
  features = embed(encoder, params["encoder"], state, test["image"])
  logits = features @ np.asarray(params["head"]["kernel"]) + np.asarray(params["head"]["bias"])
  return float(np.mean(classes[logits.argmax(1)] == test["label"]))


def labelled(label, fraction: float, *, seed: int = 0):
  """The places of a share of the examples: of each class the nearest whole number, at least one."""
  if not 0 < fraction <= 1:
    raise UserError(f"a fraction of the labels is above 0 and at most 1, not {fraction}")
  rng, places = np.random.default_rng(seed), []
  for c in np.unique(label):
    members = np.flatnonzero(label == c)
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
