"""The probes of a table's row, and what few labels give.

Features are NumPy arrays [n, d], labels [n], int. One function serves every row of a
table, so that rows differ by their features alone.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from contrastax.evaluation.neighbours import knn
from contrastax.evaluation.regression import linear, standardised

DRAWS = 20


def few_label(features, labels, test_features, test_labels, *, per_class: int):
  """Accuracies [20] of a linear probe with `per_class` labels, one for each of 20 fixed draws.

  On standardised features, as in `linear`, L-BFGS minimises the summed cross-entropy and the
  L2 penalty ½‖w‖², in at most 200 iterations: with so few labels none can be held out to
  choose the penalty. The draws depend on `labels` and `per_class` alone, so all features
  are judged on the same ones, and differences between features may be taken draw by draw.
  Standardisation uses all of `features`, which need no label. NaN where a class has fewer
  examples. `mean_and_interval` sums them up.
  """
  if np.bincount(labels)[np.unique(labels)].min() < per_class:
    return np.full(DRAWS, np.nan)
  features, test_features = standardised(features, test_features)
  return np.array(
    [_fit(features[at], labels[at], test_features, test_labels) for at in draws(labels, per_class)]
  )


def draws(labels, per_class: int):
  """20 fixed draws of `per_class` examples of each class: index arrays."""
  classes = np.unique(labels)
  for draw in range(DRAWS):
    rng = np.random.default_rng((per_class, draw))
    members = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in classes]
    yield np.concatenate(members)


def mean_and_interval(values, *, confidence: float = 0.95):
  """(mean, h): the mean of values [n] over draws or seeds, and half its confidence interval.

  mean ± t s/√n, with s the standard deviation with n − 1, and t that quantile of Student's
  distribution with n − 1 degrees of freedom. It is about what differs between the values
  (draws, or seeds), not about the test images, which they share. To compare two features,
  give it the differences, draw by draw. h is NaN for one value.
  """
  values = np.asarray(values, np.float64)
  n = len(values)
  if n < 2:
    return float(values.mean()), float("nan")
  quantile = stats.t.ppf((1 + confidence) / 2, n - 1)
  return float(values.mean()), float(quantile * values.std(ddof=1) / np.sqrt(n))


def probes(features, labels, test_features, test_labels):
  """A row of the table: {"knn", "linear_1", "linear_5", "linear"}, accuracies in [0, 1].

  kNN, and linear probes with 1, 5 and all labels per class; those with few are the mean
  over the draws of `few_label`.
  """
  split = (features, labels, test_features, test_labels)
  return {
    "knn": knn(*split),
    "linear_1": float(few_label(*split, per_class=1).mean()),
    "linear_5": float(few_label(*split, per_class=5).mean()),
    "linear": linear(*split),
  }


def _fit(features, labels, test_features, test_labels):
  # One thread: the products are small, and waiting threads spin when other work has the cores.
  # A fit that is cut off after 200 iterations is still a probe.
  with threadpool_limits(1), warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    probe = LogisticRegression(C=1.0, max_iter=200).fit(features, labels)
  return float(probe.score(test_features, test_labels))
