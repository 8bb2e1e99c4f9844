"""kNN and linear probes, with few labels and with all labels."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit
from threadpoolctl import threadpool_limits

from contrastax.core import UserError, check_integer
from contrastax.evaluation.inputs import class_numbers, known_split, numbers_among
from contrastax.evaluation.neighbors import knn
from contrastax.evaluation.regression import linear, standardized

DRAWS = 20


def few_label(
  features: ArrayLike,
  labels: ArrayLike,
  test_features: ArrayLike,
  test_labels: ArrayLike,
  *,
  per_class: int,
) -> np.ndarray:
  """Returns the accuracies of linear probes with few labels, for 20 fixed draws of the labels.

  The features are standardized as in `linear`, with the statistics of all `features`; this needs no
  labels. L-BFGS minimizes the sum of the cross-entropies and ½‖w‖² in at most 200 iterations. The
  penalty is fixed, because there are too few labels to choose it on held-out examples.

  Args:
    features: [n, d], training features.
    labels: [n], names of two classes or more: any integers, bools or strings.
    test_features: [m, d].
    test_labels: [m]. Examples of a class that `labels` does not have count as errors.
    per_class: number of labels of each class, 1 or more.

  Returns:
    The accuracies [20], all NaN if a class has fewer than `per_class` examples. `mean_and_interval`
    summarizes them. `draws` makes the same draws for all features of a data set, so two features
    can be compared draw by draw.

  Raises:
    UserError: features or labels are invalid, or there is only one class.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> label = np.arange(8) % 2
    >>> features = label[:, None] + np.zeros((8, 2))
    >>> evaluation.few_label(features, label, features, label, per_class=1).mean()
    np.float64(1.0)
  """
  train, test = known_split(features, test_features)
  names, number = class_numbers(labels, len(train))
  expected = numbers_among(names, test_labels, len(test))
  if len(names) < 2:
    raise UserError("few_label needs at least 2 classes, but all labels are equal; add a class")
  if np.bincount(number).min() < check_integer("per_class", per_class, 1):
    return np.full(DRAWS, np.nan)
  train, test = standardized(train, test)
  return np.array(_fits(train, number, test, expected, draws(number, per_class)))


def draws(labels: ArrayLike, per_class: int) -> Iterator[np.ndarray]:
  """Draws `per_class` examples of each class, 20 times.

  The draws depend on `per_class`, on which examples share a class, and on the sorted order of the
  classes' names. So renaming the classes changes nothing if it keeps this order.

  Args:
    labels: [n], names of classes.
    per_class: number of examples of each class.

  Yields:
    The positions of the chosen examples, 20 arrays.

  Raises:
    UserError: a class has fewer examples, or labels are invalid.
  """
  names, number = class_numbers(labels, np.size(labels))
  if np.bincount(number).min() < check_integer("per_class", per_class, 1):
    raise UserError(f"a class has fewer than {per_class} examples; draw fewer per class")
  for draw in range(DRAWS):
    rng = np.random.default_rng((per_class, draw))
    members = [np.flatnonzero(number == c) for c in range(len(names))]
    yield np.concatenate([rng.choice(rows, per_class, replace=False) for rows in members])


def mean_and_interval(values: ArrayLike, *, confidence: float = 0.95) -> tuple[float, float]:
  """Returns the mean of values over draws or seeds, and half of its confidence interval.

      h = t s / √n

  Here s is the standard deviation with the divisor n − 1, and t is the quantile of Student's
  distribution with n − 1 degrees of freedom. The interval covers the variation between the values
  (draws or seeds), not the variation between test examples, which all values share. To compare two
  features, pass the differences of their values.

  Args:
    values: [n], n ≥ 1. A NaN makes both results NaN.
    confidence: level of the interval, above 0 and below 1.

  Returns:
    The mean, and h, which is NaN for one value.

  Raises:
    UserError: the values are not real numbers [n], or the level is out of range.

  Example:
    >>> from contrastax import evaluation
    >>> mean, half = evaluation.mean_and_interval([0.90, 0.92, 0.91])
    >>> print(f"{mean:.3f} ± {half:.3f}")
    0.910 ± 0.025
  """
  array = np.asarray(values)
  if array.ndim != 1 or not len(array) or array.dtype.kind not in "buif":
    raise UserError(
      f"values must be numbers [n], n at least 1, not {list(array.shape)} of {array.dtype}"
    )
  if not (isinstance(confidence, numbers.Real) and 0 < confidence < 1):
    raise UserError(f"confidence must be a number above 0 and below 1, not {confidence!r}")
  array = array.astype(np.float64)
  mean, n = float(array.mean()), len(array)
  if n < 2:
    return mean, float("nan")
  quantile = stdtrit(n - 1, (1 + confidence) / 2)
  return mean, float(quantile * array.std(ddof=1) / np.sqrt(n))


def probes(
  features: ArrayLike, labels: ArrayLike, test_features: ArrayLike, test_labels: ArrayLike
) -> dict[str, float]:
  """Returns the accuracies of kNN, and of linear probes with 1, 5 and all labels per class.

  The probes with few labels are averaged over the draws of `few_label`.

  Args:
    features: [n, d], training features.
    labels: [n], names of classes.
    test_features: [m, d].
    test_labels: [m].

  Returns:
    `knn`, `linear_1`, `linear_5` and `linear`, in [0, 1].

  Raises:
    UserError: features or labels are invalid.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> label = np.arange(10) % 2
    >>> features = np.eye(2)[label]
    >>> evaluation.probes(features, label, features, label)
    {'knn': 1.0, 'linear_1': 1.0, 'linear_5': 1.0, 'linear': 1.0}
  """
  split = (features, labels, test_features, test_labels)
  return {
    "knn": knn(*split),
    "linear_1": float(few_label(*split, per_class=1).mean()),
    "linear_5": float(few_label(*split, per_class=5).mean()),
    "linear": linear(*split),
  }


def _fits(
  features: np.ndarray,
  number: np.ndarray,
  test_features: np.ndarray,
  expected: np.ndarray,
  choices: Iterable[np.ndarray],
) -> list[float]:
  """Returns the test accuracies of fits to several choices of training examples."""
  from sklearn.exceptions import ConvergenceWarning  # scikit-learn is slow to import.
  from sklearn.linear_model import LogisticRegression

  # One thread is used, because the products are small, and idle threads would spin when other
  # processes use the cores. The limit is set once, because setting it takes as long as a fit. The
  # ignored warnings concern fits that stop after 200 iterations, and few labels per class; both are
  # intended.
  with threadpool_limits(1), warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
    fits = (LogisticRegression(C=1.0, max_iter=200).fit(features[at], number[at]) for at in choices)
    return [float(np.mean(fit.predict(test_features) == expected)) for fit in fits]
