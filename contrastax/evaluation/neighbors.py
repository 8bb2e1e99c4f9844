"""Weighted nearest neighbors: the accuracy that frozen features give without training.

The search is exact at any size.
"""

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
  features: ArrayLike, labels: ArrayLike, test_features: ArrayLike, test_labels: ArrayLike, *,
  k: int = 20, temperature: float = 0.1,
) -> float:  # fmt: skip
  """Accuracy of weighted nearest neighbors: each of the k nearest by cosine s votes exp(s/τ).

  Args:
    features: [n, d], with labels [n]: names of classes, of any integers, bools or strings.
    test_features: [m, d], with test_labels [m]. A class that `labels` does not have is missed.
    k: at least 1; where it is more than n, all n vote.
    temperature: τ, above 0. Votes are relative to the nearest's, so a low τ does not overflow.

  Returns:
    The share of the test examples whose class is predicted.

  Of equal neighbors the one with the lower index is nearer. Of classes with equal votes the one
  with the nearest neighbor wins, whatever the classes' names.
  Wu et al. 2018, arXiv 1805.01978, §3.4, who take k = 200 and τ = 0.07 for ImageNet; k = 20 suits
  sets of a few thousand.

  Raises:
    UserError for inputs that `evaluation.inputs` refuses, and for k and τ out of range.
  """
  corpus, queries = known_split(features, test_features)
  names, number = class_numbers(labels, len(corpus))
  expected = numbers_among(names, test_labels, len(queries))
  k = min(check_integer("k", k, 1), len(corpus))
  return float(np.mean(_predicted(corpus, number, queries, k, temperature) == expected))


def knn_leave_one_out(
  features: ArrayLike, labels: ArrayLike, *, k: int = 20, temperature: float = 0.1
) -> float:
  """`knn` of each example among all others, which needs no test set but two examples."""
  corpus = known_vectors(features)
  _, number = class_numbers(labels, len(corpus))
  if len(corpus) < 2:
    raise UserError("knn_leave_one_out needs at least 2 examples, not 1")
  k = min(check_integer("k", k, 1), len(corpus) - 1)
  own = np.arange(len(corpus))
  predicted = _predicted(corpus, number, corpus, k, temperature, exclude=own)
  return float(np.mean(predicted == number))


def _predicted(corpus, number, queries, k, temperature, exclude=None):
  """The class number of each query by the votes of its k neighbors."""
  check_positive_number("temperature", temperature)
  found = top_k(queries, corpus, k, score=cosine(), exclude=exclude)
  similarity, nearest = (np.asarray(x) for x in found)
  similarity = similarity.astype(np.float64)
  weight = np.exp((similarity - similarity[:, :1]) / temperature)
  voted, rows = number[nearest], np.arange(len(queries))
  # A ballot is a pair of query and class; the classes that no neighbor has need no memory.
  ballot = rows[:, None] * np.int64(number.max() + 1) + voted
  _, at = np.unique(ballot, return_inverse=True)
  votes = np.bincount(at.ravel(), weight.ravel())[at].reshape(weight.shape)
  return voted[rows, votes.argmax(1)]  # the first of equal votes, so the nearest neighbor's
