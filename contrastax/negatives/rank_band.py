"""Neighbors of each example in a band of ranks."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from contrastax.core import Score, UserError
from contrastax.pairwise import cosine, top_k
from contrastax.pairwise.inputs import check_finite, numbers


def rank_band(embeddings, first: int, last: int, *, queries=None, score: Score = cosine()):
  """The neighbors of each example from rank `first` up to, without, rank `last`; 0: the nearest.

  Of two bands, the nearer gives positives and the farther hard negatives; what lies between
  them is in neither, and this gap keeps the two apart.

    positives = rank_band(z, 0, 5);  negatives = rank_band(z, 20, 25)

  Args:
    embeddings: [n, d], not of the encoder in training, but of what is known of the examples
      (citations, say).
    first, last: 0 ≤ first < last ≤ n − 1.
    queries: places [q] of the examples asked for; None: all.
    score: `cosine()` by default.

  Returns:
    places [q, last − first] int32, nearest first. An example is no neighbor of its own; of
    equal scores the lower place comes first. Memory is that of `pairwise.top_k` with k = last.

  Ostendorff et al. 2022, arXiv 2202.06671 (SciNCL), §3: controlled nearest neighbors.

  Raises:
    UserError for a band that is empty or beyond the n − 1 others, and for places outside.
  """
  if np.ndim(embeddings) != 2:
    raise UserError(f"embeddings are [n, d], not {np.shape(embeddings)}")
  n = np.shape(embeddings)[0]
  whole = isinstance(first, Integral) and isinstance(last, Integral)
  if not (whole and 0 <= first < last <= n - 1):
    raise UserError(
      f"a band of ranks is 0 ≤ first < last ≤ {n - 1}, the others of {n} examples, "
      f"not first = {first!r}, last = {last!r}"
    )
  queries = np.arange(n) if queries is None else np.asarray(queries)
  if queries.ndim != 1 or not queries.size or queries.dtype.kind not in "iu":
    raise UserError(
      f"queries are places of examples, int [q], not {queries.dtype} {list(queries.shape)}"
    )
  outside = (queries < 0) | (queries >= n)
  if outside.any():
    raise UserError(f"queries are places 0 to {n - 1} of the embeddings, not {queries[outside][0]}")
  embeddings = numbers("embeddings", embeddings)
  check_finite("embeddings", embeddings)
  _, places = top_k(embeddings[queries], embeddings, last, score=score, exclude=queries)
  return places[:, first:]
