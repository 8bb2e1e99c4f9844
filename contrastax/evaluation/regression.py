"""The linear probe with all labels: multinomial logistic regression by L-BFGS, on the device."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from contrastax.core import Array, UserError
from contrastax.evaluation.inputs import class_numbers, known_split, numbers_among

L2 = tuple(10.0**-e for e in range(7))
"""The values from which `linear` chooses λ: 1, 0.1, …, 1e-6."""

WIDTH = 128  # The width of features is padded to a multiple of this number.


def linear(
  features: ArrayLike, labels: ArrayLike, test_features: ArrayLike, test_labels: ArrayLike
) -> float:
  """Returns the accuracy of multinomial logistic regression on standardized features.

      min over W, b of  mean_i CE(W h_i + b, y_i) + ½ λ‖W‖²

  Each dimension is standardized with the mean and standard deviation of `features`. A dimension is
  dropped if its deviation is below 1e-6 of the largest one. λ is chosen from `L2` on a held-out
  fifth of the training examples. The final fit uses all training examples.

  Args:
    features: [n, d], n ≥ 2, training features.
    labels: [n], names of classes: any integers, bools or strings.
    test_features: [m, d].
    test_labels: [m]. Examples of a class that `labels` does not have count as errors.

  Returns:
    The share of the test examples whose class is predicted. The held-out examples depend on the
    sorted order of the classes' names. So renaming the classes changes nothing if it keeps this
    order; otherwise it may change λ.

  Raises:
    UserError: features or labels are invalid, or there are fewer than two examples.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> label = np.arange(10) % 2
    >>> features = label[:, None] + np.zeros((10, 2))
    >>> evaluation.linear(features, label, features, label)
    1.0

  In other libraries:
    scikit-learn's C is 1/(n λ). For two classes it is 2/(n λ), because scikit-learn fits their
    difference.
  """
  train, test = known_split(features, test_features)
  names, number = class_numbers(labels, len(train))
  expected = numbers_among(names, test_labels, len(test))
  return float(np.mean(_predicted(train, number, test) == expected))


def linear_predictions(
  features: ArrayLike, labels: ArrayLike, test_features: ArrayLike
) -> np.ndarray:
  """Predicts the labels of test examples with the classifier of `linear`.

  Args:
    features: [n, d], n ≥ 2, training features.
    labels: [n], names of classes.
    test_features: [m, d].

  Returns:
    Labels [m], in the type of `labels`.

  Raises:
    UserError: features or labels are invalid, or there are fewer than two examples.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> label = np.array(["cat", "dog"] * 5)
    >>> features = np.eye(2)[np.arange(10) % 2]
    >>> evaluation.linear_predictions(features, label, features[:3]).tolist()
    ['cat', 'dog', 'cat']
  """
  train, test = known_split(features, test_features)
  names, number = class_numbers(labels, len(train))
  return names[_predicted(train, number, test)]


def _predicted(features: np.ndarray, number: np.ndarray, test_features: np.ndarray) -> np.ndarray:
  """Returns predicted class numbers of the test examples."""
  features, test_features = map(_padded, standardized(features, test_features))
  l2, start = chosen_l2(features, number)
  weights = softmax_regression(features, number, start, l2=l2, weight=np.ones(len(number)))
  return predict(weights, test_features)


def chosen_l2(features: np.ndarray, target: np.ndarray) -> tuple[float, Array]:
  """Chooses λ by the cross-entropy on a held-out fifth of the examples.

  The cross-entropy depends less on the choice of the fifth than the accuracy does. The fit of each
  λ starts at the result of the previous fit, which does not change the optimum.

  Args:
    features: [n, d], standardized.
    target: [n], class numbers.

  Returns:
    (λ, the weights [d + 1, c] that were fitted with it).

  Raises:
    UserError: there are fewer than two examples.
  """
  if len(target) < 2:
    raise UserError(f"a linear probe needs at least two labeled examples, not {len(target)}")
  held = held_out(target)
  weight = np.ones(len(target))
  weight[held] = 0
  weights = np.zeros((features.shape[1] + 1, target.max() + 1), features.dtype)
  losses, fits = [], []
  for l2 in L2:
    weights = softmax_regression(features, target, weights, l2=l2, weight=weight)
    losses.append(float(_mean_loss(weights, features[held], target[held])))
    fits.append(weights)
  best = int(np.argmin(losses))
  return L2[best], fits[best]


def held_out(target: np.ndarray) -> np.ndarray:
  """Returns the sorted positions of a fixed fifth of the examples, about a fifth of each class."""
  shuffled = np.random.default_rng(0).permutation(len(target))
  return np.sort(shuffled[np.argsort(target[shuffled], kind="stable")][1::5])


def standardized(features: np.ndarray, test_features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Standardizes features with the statistics of the training features, in float32."""
  mean, deviation = features.mean(0, np.float64), features.std(0, np.float64)
  # A dimension that is constant in training is dropped, because it could be huge in the test set.
  scale = np.where(deviation > 1e-6 * deviation.max(initial=0), deviation, np.inf)
  train, test = (((x - mean) / scale).astype(np.float32) for x in (features, test_features))
  return train, test


@functools.partial(jax.jit, static_argnames=("tolerance", "steps"))
def softmax_regression(
  features: Array | np.ndarray,
  target: Array | np.ndarray,
  start: Array | np.ndarray,
  *,
  l2: float | Array,
  weight: Array | np.ndarray,
  tolerance: float = 1e-5,
  steps: int = 500,
) -> Array:
  """Fits multinomial logistic regression.

      min over W, b of  Σ_i w_i CE(W h_i + b, y_i) / Σ_i w_i + ½ λ‖W‖²

  L-BFGS has a memory of 10 and a zoom line search. A fit that stops after `steps` steps is used as
  it is.

  Args:
    features: [n, d].
    target: [n], class numbers below c.
    start: [d + 1, c], the first weights.
    l2: λ. Intercepts have no penalty.
    weight: [n], w. An example of weight 0 is left out.
    tolerance: the fit ends when no entry of the gradient exceeds this number.
    steps: largest number of steps.

  Returns:
    The weights [d + 1, c]. The last row contains the intercepts.
  """
  weight = weight.astype(features.dtype)

  def objective(weights: Array) -> Array:
    loss = optax.softmax_cross_entropy_with_integer_labels(_logits(weights, features), target)
    return (weight * loss).sum() / weight.sum() + 0.5 * l2 * (weights[:-1] ** 2).sum()

  optimizer = optax.lbfgs()
  value_and_grad = optax.value_and_grad_from_state(objective)

  def unfinished(carry: tuple) -> Array:
    step, _, _, slope = carry
    return (step < steps) & (slope > tolerance)

  def descend(carry: tuple) -> tuple:
    step, weights, state, _ = carry
    value, grad = value_and_grad(weights, state=state)
    updates, state = optimizer.update(
      grad, state, weights, value=value, grad=grad, value_fn=objective
    )
    slope = jnp.abs(optax.tree.get(state, "grad")).max()  # at the end of the line search
    return step + 1, optax.apply_updates(weights, updates), state, slope

  slope = jnp.asarray(jnp.inf, features.dtype)
  start = jnp.asarray(start, features.dtype)
  return jax.lax.while_loop(unfinished, descend, (0, start, optimizer.init(start), slope))[1]


def predict(weights: Array, features: Array | np.ndarray) -> np.ndarray:
  """Returns the predicted class number of each example [n] for weights [d + 1, c]."""
  return np.asarray(_classes(weights, features))


@jax.jit
def _classes(weights: Array, features: Array) -> Array:
  return _logits(weights, features).argmax(1)


@jax.jit
def _mean_loss(weights: Array, features: Array, target: Array) -> Array:
  logits = _logits(weights, features)
  return optax.softmax_cross_entropy_with_integer_labels(logits, target).mean()


def _padded(features: np.ndarray) -> np.ndarray:
  """Pads the features with zeros to a multiple of `WIDTH`, so that similar widths share a program.

  The weights of the zeros remain 0.
  """
  return np.pad(features, ((0, 0), (0, -features.shape[1] % WIDTH)))


def _logits(weights: Array, features: Array | np.ndarray) -> Array:
  # With the default precision of a GPU the gradient would not fall below the tolerance.
  return jnp.matmul(features, weights[:-1], precision="highest") + weights[-1]
