"""Probes: what can be read off frozen features, by neighbours and by linear classifiers.

Features are NumPy arrays [n, d], labels [n], int. One function serves every row of a
table, so that rows differ by their features alone.
"""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from contrastax.pairwise import cosine, top_k

DRAWS = 20


def knn(features, labels, test_features, test_labels, *, k: int = 20, temperature: float = 0.1):
  """Accuracy of weighted nearest neighbours: each of the k nearest by cosine s votes exp(s/τ).

  k is at most n. Of equal neighbours the one with the lower index is nearer, of equal
  classes the lower one wins. Wu et al. 2018, arXiv 1805.01978, §3.4, who take k = 200 and
  τ = 0.07 for ImageNet; k = 20 suits sets of a few thousand.
  """
  return _share(_votes(features, labels, test_features, k, temperature), test_labels)


def knn_leave_one_out(features, labels, *, k: int = 20, temperature: float = 0.1):
  """`knn` of each example among all others: needs no test set."""
  return _share(_votes(features, labels, None, k, temperature), labels)


def linear(features, labels, test_features, test_labels):
  """Accuracy of multinomial logistic regression on standardised features.

  Each dimension is standardised by `features` (one whose deviation is below 1e-6 of the
  largest is dropped); L-BFGS minimises the summed cross-entropy and the L2 penalty ½‖w‖²,
  in at most 200 iterations.
  """
  return _linear(*_standardised(features, test_features), labels, test_labels)


def few_label(features, labels, test_features, test_labels, *, per_class: int):
  """Accuracies [20] of `linear` with `per_class` labels, one for each of 20 fixed draws of them.

  The draws depend on `labels` and `per_class` alone, so all features are judged on the
  same ones, and differences between features may be taken draw by draw. Standardisation
  uses all of `features`, which need no label. NaN where a class has fewer examples.
  """
  if np.bincount(labels)[np.unique(labels)].min() < per_class:
    return np.full(DRAWS, np.nan)
  features, test_features = _standardised(features, test_features)
  return np.array(
    [
      _linear(features[at], test_features, labels[at], test_labels)
      for at in draws(labels, per_class)
    ]
  )


def draws(labels, per_class: int):
  """20 fixed draws of `per_class` examples of each class: index arrays."""
  classes = np.unique(labels)
  for draw in range(DRAWS):
    rng = np.random.default_rng((per_class, draw))
    members = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in classes]
    yield np.concatenate(members)


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


def _votes(features, labels, queries, k, temperature):
  own = queries is None
  features = jnp.asarray(features)
  queries = features if own else jnp.asarray(queries)
  similarity, nearest = map(np.asarray, top_k(
    queries, features, min(k, len(features) - own), score=cosine(),
    exclude=np.arange(len(queries)) if own else None,
  ))  # fmt: skip
  similarity = similarity.astype(np.float64)
  weight = np.exp((similarity - similarity[:, :1]) / temperature)  # relative to the nearest
  tally = np.zeros((len(queries), int(labels.max()) + 1))
  np.add.at(tally, (np.arange(len(queries))[:, None], labels[nearest]), weight)
  return tally.argmax(1)


def _linear(features, test_features, labels, test_labels):
  # One thread: the products are small, and waiting threads spin when other work has the cores.
  # A fit that is cut off after 200 iterations is still a probe.
  with threadpool_limits(1), warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    probe = LogisticRegression(C=1.0, max_iter=200).fit(features, labels)
  return float(probe.score(test_features, test_labels))


def _standardised(features, test_features):
  mean, deviation = features.mean(0, np.float64), features.std(0, np.float64)
  # A dimension that never moves in training says nothing, and must not blow up in the test.
  scale = np.where(deviation > 1e-6 * deviation.max(initial=0), deviation, np.inf)
  return tuple(((x - mean) / scale).astype(np.float32) for x in (features, test_features))


def _share(predicted, labels):
  return float(np.mean(predicted == labels))
