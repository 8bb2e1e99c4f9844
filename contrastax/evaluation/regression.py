"""The linear probe with all labels: multinomial logistic regression by L-BFGS, on the device."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from contrastax.core import UserError
from contrastax.evaluation.inputs import class_numbers, known_split, numbers_among

L2 = tuple(10.0**-e for e in range(7))
"""From which `linear` chooses: 1, 0.1, …, 1e-6, the penalty's weight beside the mean loss."""


WIDTH = 128


def linear(
  features: ArrayLike, labels: ArrayLike, test_features: ArrayLike, test_labels: ArrayLike
) -> float:
  """Accuracy of multinomial logistic regression on standardized features.

    min over W, b of  mean_i CE(W h_i + b, y_i) + ½ λ‖W‖²

  Each dimension is standardized by `features` (one whose deviation is below 1e-6 of the
  largest is dropped). λ is that of `chosen_l2`, which sees no test example; then all of
  `features` are fitted.

  Args:
    features: [n, d], n ≥ 2, with labels [n]: names of classes, any integers, bools or strings.
    test_features: [m, d], with test_labels [m]. A class that `labels` does not have is missed.

  Returns:
    The share of the test examples whose class is predicted. Classes enter in the sorted order of
    their names, by which λ's held-out examples are drawn: a renaming that keeps this order
    changes nothing, another one may choose another λ.

  Raises:
    UserError for fewer than two examples, and for inputs that `evaluation.inputs` refuses.
  """
  train, test = known_split(features, test_features)
  names, number = class_numbers(labels, len(train))
  expected = numbers_among(names, test_labels, len(test))
  return float(np.mean(_predicted(train, number, test) == expected))


def linear_predictions(
  features: ArrayLike, labels: ArrayLike, test_features: ArrayLike
) -> np.ndarray:
  """The labels [m] that the classifier of `linear` gives the test examples, in labels' type."""
  train, test = known_split(features, test_features)
  names, number = class_numbers(labels, len(train))
  return names[_predicted(train, number, test)]


def _predicted(features, number, test_features):
  """Class numbers of the test examples, from those of the training examples."""
  features, test_features = map(_wide, standardized(features, test_features))
  l2, start = chosen_l2(features, number)
  weights = softmax_regression(features, number, start, l2=l2, weight=np.ones(len(number)))
  return predict(weights, test_features)


def chosen_l2(features, target):
  """(λ, the weights it leads to): of `L2` the best on a fixed, held-out fifth of the examples.

  features: [n, d], standardized; target: [n], int, below the number of classes. The fifth
  is drawn evenly over the classes, and judged by its mean cross-entropy, which moves less from
  one draw of the fifth to another than its accuracy. Each fit starts where that of the λ
  before it ended, which moves no optimum.
  Raises UserError for fewer than two examples.
  """
  if len(target) < 2:
    raise UserError(f"a linear probe needs at least two labeled examples, not {len(target)}")
  held = held_out(target)
  kept = np.ones(len(target))
  kept[held] = 0
  weights = np.zeros((features.shape[1] + 1, target.max() + 1), features.dtype)
  losses, found = [], []
  for l2 in L2:
    weights = softmax_regression(features, target, weights, l2=l2, weight=kept)
    losses.append(float(_mean_loss(weights, features[held], target[held])))
    found.append(weights)
  best = int(np.argmin(losses))
  return L2[best], found[best]


def held_out(target):
  """The places of a fixed fifth of the examples: every fifth, where they are sorted by class."""
  shuffled = np.random.default_rng(0).permutation(len(target))
  return np.sort(shuffled[np.argsort(target[shuffled], kind="stable")][1::5])


def standardized(features, test_features):
  """Both, float32, with the mean and deviation of `features` taken out of each dimension."""
  mean, deviation = features.mean(0, np.float64), features.std(0, np.float64)
  # A dimension that never moves in training says nothing, and must not blow up in the test.
  scale = np.where(deviation > 1e-6 * deviation.max(initial=0), deviation, np.inf)
  return tuple(((x - mean) / scale).astype(np.float32) for x in (features, test_features))


@functools.partial(jax.jit, static_argnames=("tolerance", "steps"))
def softmax_regression(
  features, target, start, *, l2, weight, tolerance: float = 1e-5, steps: int = 500
):
  """The weights [d + 1, c], the last row the intercepts, that minimize

    Σ_i w_i CE(W h_i + b, y_i) / Σ_i w_i + ½ λ‖W‖²

  features: [n, d]; target: [n], int in [0, c); start: [d + 1, c]; l2: λ; weight: w
  [n], 0 for an example left out. The intercepts are not penalized. L-BFGS with a memory of 10
  and a zoom line search, until no entry of the gradient exceeds `tolerance`, or for `steps`
  steps: a fit that is cut off is still a probe. scikit-learn's C is 1/(n λ) (for two classes,
  of which it fits the difference, 2/(n λ)).
  """
  weight = weight.astype(features.dtype)

  def objective(weights):
    loss = optax.softmax_cross_entropy_with_integer_labels(_logits(weights, features), target)
    return (weight * loss).sum() / weight.sum() + 0.5 * l2 * (weights[:-1] ** 2).sum()

  optimizer = optax.lbfgs()
  value_and_grad = optax.value_and_grad_from_state(objective)

  def unfinished(carry):
    step, _, _, slope = carry
    return (step < steps) & (slope > tolerance)

  def descend(carry):
    step, weights, state, _ = carry
    value, grad = value_and_grad(weights, state=state)
    updates, state = optimizer.update(
      grad, state, weights, value=value, grad=grad, value_fn=objective
    )
    slope = jnp.abs(optax.tree.get(state, "grad")).max()  # where the line search ended
    return step + 1, optax.apply_updates(weights, updates), state, slope

  slope = jnp.asarray(jnp.inf, features.dtype)
  start = jnp.asarray(start, features.dtype)
  return jax.lax.while_loop(unfinished, descend, (0, start, optimizer.init(start), slope))[1]


def predict(weights, features):
  """The class of each example, [n] int, by weights [d + 1, c]."""
  return np.asarray(_classes(weights, features))


@jax.jit
def _classes(weights, features):
  return _logits(weights, features).argmax(1)


@jax.jit
def _mean_loss(weights, features, target):
  logits = _logits(weights, features)
  return optax.softmax_cross_entropy_with_integer_labels(logits, target).mean()


def _wide(features):
  """The features with zeros up to a multiple of `WIDTH`, so that similar widths share a program.

  The weights of the zeros stay 0.
  """
  return np.pad(features, ((0, 0), (0, -features.shape[1] % WIDTH)))


def _logits(weights, features):
  # In full: a GPU's shorter products leave a gradient that never gets below the tolerance.
  return jnp.matmul(features, weights[:-1], precision="highest") + weights[-1]
