"""Neighbors of each example in a band of ranks."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from jax.typing import ArrayLike

from contrastax.core import Array, Score, UserError
from contrastax.pairwise import cosine, top_k
from contrastax.pairwise.inputs import check_finite, numbers


def rank_band(
  embeddings: ArrayLike,
  first: int,
  last: int,
  *,
  queries: ArrayLike | None = None,
  score: Score = cosine(),
) -> Array:
  """Finds the neighbors of each example with the ranks `first` to `last` − 1.

  The nearest neighbor has rank 0. An example is not its own neighbor. Use a near band as positives
  and a farther band as hard negatives. The examples between the bands are in neither band, which
  keeps positives and negatives apart. A call needs as much memory as `pairwise.top_k` with k=last.

  Args:
    embeddings: [n, d]. They do not come from the encoder that is trained, but from other knowledge
      about the examples, such as citations.
    first: the first rank of the band.
    last: the rank after the band, 0 ≤ first < last ≤ n − 1.
    queries: int [q], the positions of the examples whose neighbors are returned; None: all.
    score: the similarity, without parameters.

  Returns:
    The positions of the neighbors [q, last − first], int32, nearest first. Among equal scores, the
    lower position comes first.

  Raises:
    UserError: the band is empty or exceeds the n − 1 other examples, or a position is not in the
      embeddings.

  Example:
    >>> import numpy as np
    >>> from contrastax import negatives
    >>> angles = np.array([0.0, 0.1, 0.3, 0.6])
    >>> z = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> positives, hard = negatives.rank_band(z, 0, 1), negatives.rank_band(z, 2, 3)
    >>> print(positives.ravel(), hard.ravel())
    [1 0 1 2] [3 3 3 0]

  References:
    Ostendorff et al. (SciNCL), 2022, arXiv 2202.06671, §3: controlled nearest neighbors.
  """
  if np.ndim(embeddings) != 2:
    raise UserError(f"embeddings must be [n, d], not {np.shape(embeddings)}")
  n = np.shape(embeddings)[0]
  integers = isinstance(first, Integral) and isinstance(last, Integral)
  if not (integers and 0 <= first < last <= n - 1):
    raise UserError(
      f"a band of ranks needs 0 ≤ first < last ≤ {n - 1}, the number of other examples, "
      f"not first = {first!r}, last = {last!r}"
    )
  positions = np.arange(n) if queries is None else np.asarray(queries)
  if positions.ndim != 1 or not positions.size or positions.dtype.kind not in "iu":
    raise UserError(
      f"queries must be positions of examples, int [q], not {positions.dtype} "
      f"{list(positions.shape)}"
    )
  outside = (positions < 0) | (positions >= n)
  if outside.any():
    raise UserError(
      f"queries must be positions 0 to {n - 1} of the embeddings, not {positions[outside][0]}"
    )
  vectors = numbers("embeddings", embeddings)
  check_finite("embeddings", vectors)
  _, neighbors = top_k(vectors[positions], vectors, last, score=score, exclude=positions)
  return neighbors[:, first:]
