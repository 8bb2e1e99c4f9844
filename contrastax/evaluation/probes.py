"""The probes of a table's row, and what few labels give.

One function serves every row of a table, so that rows differ by their features alone.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterator

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
  features: ArrayLike, labels: ArrayLike, test_features: ArrayLike, test_labels: ArrayLike, *,
  per_class: int,
) -> np.ndarray:  # fmt: skip
  """Accuracies [20] of a linear probe with `per_class` labels, one for each of 20 fixed draws.

  On standardized features, as in `linear`, L-BFGS minimizes the summed cross-entropy and the
  L2 penalty ½‖w‖², in at most 200 iterations: with so few labels none can be held out to
  choose the penalty. Standardization uses all of `features`, which need no label.

  Args:
    features: [n, d], with labels [n]: names of two classes or more, any integers, bools or
      strings.
    test_features: [m, d], with test_labels [m]. A class that `labels` does not have is missed.
    per_class: at least 1.

  Returns:
    [20], all NaN where a class has fewer than `per_class` examples. `mean_and_interval` sums them
    up. The draws are those of `draws`, the same for all features of one data set, so differences
    between features may be taken draw by draw.

  Raises:
    UserError for one class, and for inputs that `evaluation.inputs` refuses.
  """
  train, test = known_split(features, test_features)
  names, number = class_numbers(labels, len(train))
  expected = numbers_among(names, test_labels, len(test))
  if len(names) < 2:
    raise UserError(
      "few_label needs at least 2 classes, and all labels are one; give another class"
    )
  if np.bincount(number).min() < check_integer("per_class", per_class, 1):
    return np.full(DRAWS, np.nan)
  train, test = standardized(train, test)
  return np.array(_fits(train, number, test, expected, draws(number, per_class)))


def draws(labels: ArrayLike, per_class: int) -> Iterator[np.ndarray]:
  """20 fixed draws of `per_class` examples of each class: arrays of places in labels [n].

  They depend on `per_class` and on which examples share a class, and on the sorted order of the
  classes' names: a renaming that keeps this order changes no draw.
  Raises UserError where a class has fewer examples.
  """
  names, number = class_numbers(labels, np.size(labels))
  if np.bincount(number).min() < check_integer("per_class", per_class, 1):
    raise UserError(f"a class has fewer than {per_class} examples; draw fewer per class")
  for draw in range(DRAWS):
    rng = np.random.default_rng((per_class, draw))
    members = [np.flatnonzero(number == c) for c in range(len(names))]
    yield np.concatenate([rng.choice(mine, per_class, replace=False) for mine in members])


def mean_and_interval(values: ArrayLike, *, confidence: float = 0.95) -> tuple[float, float]:
  """(mean, h): the mean of values over draws or seeds, and half its confidence interval.

  mean ± t s/√n, with s the standard deviation with n − 1, and t that quantile of Student's
  distribution with n − 1 degrees of freedom. It is about what differs between the values
  (draws, or seeds), not about the test images, which they share. To compare two features,
  give it the differences, draw by draw.

  Args:
    values: [n], n ≥ 1. A NaN, as of `few_label`, makes both results NaN.
    confidence: above 0 and below 1.

  Returns:
    The mean, and h, which is NaN for one value.

  Raises:
    UserError for other shapes and values that are no real numbers.
  """
  given = np.asarray(values)
  if given.ndim != 1 or not len(given) or given.dtype.kind not in "buif":
    raise UserError(
      f"values must be numbers [n], n at least 1, not {list(given.shape)} of {given.dtype}"
    )
  if not (isinstance(confidence, numbers.Real) and 0 < confidence < 1):
    raise UserError(f"confidence must be a number above 0 and below 1, not {confidence!r}")
  given = given.astype(np.float64)
  mean, n = float(given.mean()), len(given)
  if n < 2:
    return mean, float("nan")
  quantile = stdtrit(n - 1, (1 + confidence) / 2)
  return mean, float(quantile * given.std(ddof=1) / np.sqrt(n))


def probes(
  features: ArrayLike, labels: ArrayLike, test_features: ArrayLike, test_labels: ArrayLike
) -> dict[str, float]:
  """A row of the table: {"knn", "linear_1", "linear_5", "linear"}, accuracies in [0, 1].

  kNN, and linear probes with 1, 5 and all labels per class; those with few are the mean
  over the draws of `few_label`. Arguments and errors are those of these functions.
  """
  split = (features, labels, test_features, test_labels)
  return {
    "knn": knn(*split),
    "linear_1": float(few_label(*split, per_class=1).mean()),
    "linear_5": float(few_label(*split, per_class=5).mean()),
    "linear": linear(*split),
  }


def _fits(features, number, test_features, expected, places):
  """The accuracy on the test examples of a fit to each of several choices of training examples."""
  from sklearn.exceptions import ConvergenceWarning  # slow to import, and needed only here
  from sklearn.linear_model import LogisticRegression

  # One thread: the products are small, and waiting threads spin when other work has the cores. The
  # limit is set once, because to set it takes as long as a fit. A fit that is cut off after 200
  # iterations is still a probe. Few labels of many classes are not a regression problem, as
  # scikit-learn suspects.
  with threadpool_limits(1), warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
    fits = (LogisticRegression(C=1.0, max_iter=200).fit(features[at], number[at]) for at in places)
    return [float(np.mean(fit.predict(test_features) == expected)) for fit in fits]
