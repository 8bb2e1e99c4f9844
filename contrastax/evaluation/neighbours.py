"""Weighted nearest neighbours: what can be read off frozen features without training anything.

Features are NumPy arrays [n, d], labels [n], int. The search is exact at any size.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from contrastax.pairwise import cosine, top_k


def knn(features, labels, test_features, test_labels, *, k: int = 20, temperature: float = 0.1):
  """Accuracy of weighted nearest neighbours: each of the k nearest by cosine s votes exp(s/τ).

  k is at most n: where it is more, all n vote. Of equal neighbours the one with the lower
  index is nearer, of equal classes the lower one wins. Votes are relative to the nearest's,
  so that none overflows at a low τ. Wu et al. 2018, arXiv 1805.01978, §3.4, who take
  k = 200 and τ = 0.07 for ImageNet; k = 20 suits sets of a few thousand.
  """
  return _share(_votes(features, labels, test_features, k, temperature), test_labels)


def knn_leave_one_out(features, labels, *, k: int = 20, temperature: float = 0.1):
  """`knn` of each example among all others: needs no test set."""
  return _share(_votes(features, labels, None, k, temperature), labels)


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


def _share(predicted, labels):
  return float(np.mean(predicted == labels))
