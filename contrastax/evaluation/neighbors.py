"""Nearest-neighbor classification of frozen features."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from contrastax.core import UserError, check_integer
from contrastax.evaluation.inputs import (
  check_positive_number,
  class_numbers,
  known_split,
  known_vectors,
  numbers_among,
)
from contrastax.pairwise import cosine, top_k


def knn(
  features: ArrayLike,
  labels: ArrayLike,
  test_features: ArrayLike,
  test_labels: ArrayLike,
  *,
  k: int = 20,
  temperature: float = 0.1,
) -> float:
  """Returns the accuracy of a weighted nearest-neighbor classifier.

  Each of the k nearest neighbors, by cosine similarity s, votes for its class with weight exp(s/τ).
  The search is exact. If two neighbors are equally similar, the one with the lower position counts
  as nearer. If two classes have equal votes, the one with the nearest neighbor is predicted.

  Args:
    features: [n, d], training features.
    labels: [n], names of classes: any integers, bools or strings.
    test_features: [m, d].
    test_labels: [m]. Examples of a class that `labels` does not have count as errors.
    k: number of neighbors, 1 or more. If it exceeds n, all n vote.
    temperature: τ > 0. Votes are relative to that of the nearest neighbor, so a low τ does not
      overflow.

  Returns:
    The share of the test examples whose class is predicted.

  Raises:
    UserError: features or labels are invalid, or k or τ is out of range.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> evaluation.knn(np.eye(2), ["cat", "dog"], np.array([[0.9, 0.1]]), ["cat"], k=1)
    1.0

  References:
    Wu et al., 2018, arXiv 1805.01978, section 3.4. The paper uses k = 200 and τ = 0.07 on
    ImageNet. k = 20 is suitable for sets of a few thousand examples.
  """
  corpus, queries = known_split(features, test_features)
  names, number = class_numbers(labels, len(corpus))
  expected = numbers_among(names, test_labels, len(queries))
  k = min(check_integer("k", k, 1), len(corpus))
  return float(np.mean(_predicted(corpus, number, queries, k, temperature) == expected))


def knn_predictions(
  features: ArrayLike,
  labels: ArrayLike,
  test_features: ArrayLike,
  *,
  k: int = 20,
  temperature: float = 0.1,
) -> np.ndarray:
  """Predicts the labels of test examples with the classifier of `knn`.

  Args:
    features: [n, d], training features.
    labels: [n], names of classes.
    test_features: [m, d].
    k: number of neighbors, 1 or more. If it exceeds n, all n vote.
    temperature: τ > 0.

  Returns:
    Labels [m], in the type of `labels`.

  Raises:
    UserError: features or labels are invalid, or k or τ is out of range.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> label = np.array(["cat", "dog"])
    >>> evaluation.knn_predictions(np.eye(2), label, np.array([[0.9, 0.1]]), k=1).tolist()
    ['cat']
  """
  corpus, queries = known_split(features, test_features)
  names, number = class_numbers(labels, len(corpus))
  k = min(check_integer("k", k, 1), len(corpus))
  return names[_predicted(corpus, number, queries, k, temperature)]


def knn_leave_one_out(
  features: ArrayLike, labels: ArrayLike, *, k: int = 20, temperature: float = 0.1
) -> float:
  """Returns the accuracy of `knn` without a test set: each example is classified by all others.

  Args:
    features: [n, d], n ≥ 2.
    labels: [n], names of classes.
    k: number of neighbors, 1 or more. If it exceeds n − 1, all other examples vote.
    temperature: τ > 0.

  Returns:
    The share of the examples whose class is predicted.

  Raises:
    UserError: features or labels are invalid, or k or τ is out of range.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> features = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    >>> evaluation.knn_leave_one_out(features, [0, 0, 1, 1], k=1)
    1.0
  """
  corpus = known_vectors(features)
  _, number = class_numbers(labels, len(corpus))
  if len(corpus) < 2:
    raise UserError("knn_leave_one_out needs at least 2 examples, not 1")
  k = min(check_integer("k", k, 1), len(corpus) - 1)
  own = np.arange(len(corpus))
  predicted = _predicted(corpus, number, corpus, k, temperature, exclude=own)
  return float(np.mean(predicted == number))


def _predicted(
  corpus: np.ndarray,
  number: np.ndarray,
  queries: np.ndarray,
  k: int,
  temperature: float,
  exclude: np.ndarray | None = None,
) -> np.ndarray:
  """Returns the class number of each query by the votes of its k neighbors."""
  check_positive_number("temperature", temperature)
  neighbors = top_k(queries, corpus, k, score=cosine(), exclude=exclude)
  similarity, nearest = (np.asarray(x) for x in neighbors)
  similarity = similarity.astype(np.float64)
  weight = np.exp((similarity - similarity[:, :1]) / temperature)
  voted, rows = number[nearest], np.arange(len(queries))
  # Votes are summed for each pair of a query and a class, so classes without a neighbor need no
  # memory.
  pair = rows[:, None] * np.int64(number.max() + 1) + voted
  _, slot = np.unique(pair, return_inverse=True)
  votes = np.bincount(slot.ravel(), weight.ravel())[slot].reshape(weight.shape)
  return voted[rows, votes.argmax(1)]  # The first of equal votes is that of the nearest neighbor.
