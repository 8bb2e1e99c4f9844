"""Hard negatives mined from a corpus."""

from __future__ import annotations

import functools
import math
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from contrastax.core import Array, Group, Score, UserError
from contrastax.pairwise import Plan, cosine, reduce, reductions
from contrastax.pairwise.inputs import check_finite, numbers
from contrastax.pairwise.plan import even


def mine(
  queries: ArrayLike,
  corpus: ArrayLike,
  positives: ArrayLike,
  *,
  k: int,
  margin: float | None = None,
  share: float | None = None,
  at_most: float | None = None,
  skip: int = 0,
  score: Score = cosine(),
  block: int = 32_768,
  plan: Plan | None = None,
) -> tuple[Array, Array]:
  """Mines the k hardest negatives of each query, without candidates that are probably positives.

  A candidate whose score is close to that of a positive is often an unlabeled positive. Let s⁺ be
  the lowest score of a query's positives. The function considers the candidates that are not
  positives and whose score s satisfies

      s ≤ min(s⁺ − margin,  s⁺ − (1 − share)·|s⁺|,  at_most)

  It sorts these candidates by descending score, leaves out the first `skip` and returns the next k.
  The search is exact. A bound that is None does not apply. For s⁺ > 0 the second bound is share·s⁺.
  For s⁺ < 0 that product would be above s⁺.

  The device stores the queries, one positive of each query at a time, the results, at most
  4·block·d numbers (two blocks, and the prepared vectors of one), and about 20 MB. It never stores
  the corpus or the scores of all pairs. s⁺ and s are rounded separately. So a candidate whose score
  is within a rounding error of a bound, such as a copy of the positive at margin 0, may or may not
  be selected. A positive itself is recognized by its position and is never selected.

  Args:
    queries: [n, d].
    corpus: [m, d], of NumPy or JAX. A memory map is read block by block.
    positives: int [n] or [n, p], the positions of the positives in the corpus; −1 for none. Each
      query has at least one.
    k: the number of negatives of a query, at least 1. k + skip is at most m.
    margin: the smallest difference from s⁺, at least 0.
    share: the largest share of s⁺, in (0, 1], such as 0.95.
    at_most: the highest score that is allowed.
    skip: the number of the hardest candidates to leave out, at least 0.
    score: the similarity, without parameters.
    block: the number of vectors of the corpus that are sent to the device at a time.
    plan: how a block is evaluated. The default is in tiles, as for `pairwise.top_k`.

  Returns:
    Scores [n, k] in descending order, and positions in the corpus [n, k], int32. Among equal
    scores, the lower position comes first. A row with fewer than k such candidates ends in (−∞,
    −1).

  Raises:
    UserError: shapes do not fit, a number is outside its range, a query has no positive or one
      whose score is not finite, or a row of queries or corpus has a NaN or an infinity.

  Example:
    >>> import numpy as np
    >>> from contrastax import negatives
    >>> corpus = np.array([[1.0, 0.0], [0.99, 0.1], [0.6, 0.8], [0.0, 1.0]])
    >>> _, positions = negatives.mine(corpus[:1], corpus, np.array([0]), k=1)
    >>> print(positions)
    [[1]]
    >>> _, positions = negatives.mine(corpus[:1], corpus, np.array([0]), k=1, share=0.95)
    >>> print(positions)
    [[2]]

  References:
    Moreira et al. (NV-Retriever), 2024, arXiv 2407.15831. Its methods are: naive (no bound),
    shifted by N (`skip`), absolute (`at_most`), margin to the positive (`margin`) and percentage of
    the positive (`share`).
  """
  positive_positions = _checked_positives(queries, corpus, positives)
  m = np.shape(corpus)[0]
  _check(m, k, margin, share, at_most, skip, block)
  stored: Any = corpus if hasattr(corpus, "shape") else np.asarray(corpus)
  query_vectors = numbers("queries", queries)
  check_finite("queries", query_vectors)
  dtype = jnp.result_type(query_vectors, jnp.asarray(stored[:1]), 0.0)  # float if all are integers
  query_vectors = query_vectors.astype(dtype)

  def scores_of(column):
    rows = jnp.asarray(stored[np.maximum(column, 0)], dtype)
    return np.where(column < 0, np.inf, _score_rows(score, query_vectors, rows))

  lowest = functools.reduce(np.minimum, map(scores_of, positive_positions.T))
  finite = np.isfinite(lowest)
  if not finite.all():
    i = finite.argmin()
    raise UserError(
      f"query {i} and one of its positives have the score {lowest[i]}; remove NaN and infinity "
      "from the vectors"
    )
  ceiling = np.full_like(lowest, np.inf if at_most is None else at_most)
  if margin is not None:
    ceiling = np.minimum(ceiling, lowest - margin)
  if share is not None:
    ceiling = np.minimum(ceiling, lowest - (1 - share) * np.abs(lowest))

  side = {"ceiling": jnp.asarray(ceiling), "positives": jnp.asarray(positive_positions)}
  query_group = Group(query_vectors, side)
  plan = plan or Plan((512, 8192))
  best = reductions.top_k(k + skip).empty(jnp.asarray(lowest))
  _, size = even(m, block)
  for first in range(0, m, size):
    rows = jnp.asarray(stored[first : first + size], dtype)
    check_finite("corpus", rows, first)
    # Without this wait, blocks would be sent to the device faster than they are evaluated.
    jax.block_until_ready(best)
    best = _add_block(score, plan, query_group, rows, first, best)
  scores, positions = (x[:, skip:] for x in best)
  return scores, positions


@functools.partial(jax.jit, static_argnums=0)
def _score_rows(score, queries, rows):
  """Scores each query with the row of the same number."""
  return score((), queries, rows[:, None])[:, 0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _add_block(score, plan, queries, rows, first, best):
  """Merges the best candidates so far with those of a block that starts at position `first`."""
  top_k = reductions.top_k(best[0].shape[1])
  position = first + jnp.arange(len(rows), dtype=jnp.int32)
  values, columns = reduce(
    _below_ceiling, queries, (Group(rows, {"position": position}),),
    score=score, reductions={"similarity": top_k}, plan=plan,
  )["similarity"]  # fmt: skip
  return top_k.merge(best, (values, jnp.where(columns < 0, -1, columns + first)))


def _below_ceiling(similarity, query, candidate, shared):
  """The similarity as a channel; −∞ for positives and for similarities above the ceiling."""
  positive = (query["positives"] == candidate["position"][..., None]).any(-1)
  admitted = (similarity <= query["ceiling"]) & ~positive
  return {"similarity": jnp.where(admitted, similarity, -jnp.inf)}


def _checked_positives(queries: Any, corpus: Any, positives: Any) -> np.ndarray:
  """Checks all shapes, and returns the positions of the positives as int32 [n, p]."""
  queries_shape, corpus_shape = np.shape(queries), np.shape(corpus)
  matrices = len(queries_shape) == len(corpus_shape) == 2
  if not (matrices and queries_shape[1] == corpus_shape[1]) or 0 in queries_shape:
    raise UserError(
      f"queries must be [n, d] with n > 0, and the corpus [m, d] with the same d, not {queries_shape} "
      f"and {corpus_shape}"
    )
  n, m = queries_shape[0], corpus_shape[0]
  positives = np.asarray(positives)
  if positives.shape[:1] != (n,) or positives.ndim > 2 or positives.dtype.kind not in "iu":
    raise UserError(
      f"positives must be positions in the corpus, int [{n}] or [{n}, p], not {positives.dtype} "
      f"{list(positives.shape)}"
    )
  positives = positives.reshape(n, -1)
  outside = (positives < -1) | (positives >= m)
  if outside.any():
    raise UserError(
      f"positives must be positions 0 to {m - 1} of the corpus, or −1 for none, not "
      f"{positives[outside][0]}"
    )
  without = ~(positives >= 0).any(1)
  if without.any():
    raise UserError(f"query {without.argmax()} has no positive; leave such queries out")
  return positives.astype(np.int32)


def _check(m, k, margin, share, at_most, skip, block):
  for name, value, least in (("k", k, 1), ("skip", skip, 0), ("block", block, 1)):
    if not isinstance(value, Integral) or int(value) < least:
      raise UserError(f"{name} must be an integer of at least {least}, not {value!r}")
  if k + skip > m:
    raise UserError(f"k + skip must be at most {m}, the size of the corpus, not {k} + {skip}")
  if margin is not None and not (isinstance(margin, Real) and 0 <= float(margin) < math.inf):
    raise UserError(f"margin must be a number of at least 0, not {margin!r}")
  if share is not None and not (isinstance(share, Real) and 0 < float(share) <= 1):
    raise UserError(
      f"share must be above 0 and at most 1, not {share!r}; for 5 % below the positive, use 0.95"
    )
  if at_most is not None and not (isinstance(at_most, Real) and math.isfinite(at_most)):
    raise UserError(f"at_most must be a finite number, not {at_most!r}; for no bound, leave it out")
