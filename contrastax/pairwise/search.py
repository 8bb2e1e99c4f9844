"""Exact nearest-neighbor search in blocks."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array, Group, Score, UserError, check_integer
from contrastax.pairwise import reductions
from contrastax.pairwise.inputs import check_finite, numbers
from contrastax.pairwise.plan import Plan
from contrastax.pairwise.reduce import reduce
from contrastax.pairwise.scores import dot


def top_k(
  queries: ArrayLike,
  corpus: ArrayLike,
  k: int,
  *,
  score: Score = dot(),
  exclude: ArrayLike | None = None,
  plan: Plan | None = None,
) -> tuple[Array, Array]:
  """Finds the k vectors of a corpus with the highest score for each query, exactly.

  There is no gradient. For a gradient, gather the vectors at the positions into a set per anchor,
  and reduce this set.

  Args:
    queries: [n, d].
    corpus: [m, d].
    k: the number of vectors for each query, from 1 to m.
    score: the similarity, without parameters: `dot()`, or `cosine()` to compare directions only.
    exclude: int [n], for each query the position in the corpus to leave out. If the queries are the
      corpus, pass each query's own position to leave it out.
    plan: how the scores are computed. By default, they are computed in blocks of 512 queries and
      8,192 vectors of the corpus. This needs about 16 MB in addition to queries, corpus and
      results.

  Returns:
    Scores [n, k] in descending order, and positions in the corpus [n, k], int32. Among equal
    scores, the lower position comes first. A row with fewer than k vectors left ends in (−∞, −1).

  Raises:
    UserError: k is below 1 or above m, shapes do not fit, or a row has a NaN or an infinity. Traced
      rows are not checked.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.pairwise import top_k
    >>> corpus = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> scores, positions = top_k(jnp.array([[0.0, 1.0]]), corpus, 2)
    >>> print(scores, positions)
    [[1.  0.8]] [[1 2]]
  """
  same = corpus is queries
  queries, corpus = numbers("queries", queries), numbers("corpus", corpus)
  if queries.ndim != 2 or corpus.ndim != 2:
    raise UserError(
      f"queries must be [n, d] and the corpus [m, d], not {queries.shape} and {corpus.shape}"
    )
  check_finite("queries", queries)
  if not same:
    check_finite("corpus", corpus)
  n, m = len(queries), len(corpus)
  check_integer("k", k)
  if not 1 <= k <= m:
    raise UserError(f"k must be from 1 to {m}, the number of vectors in the corpus, not {k}")
  excluded = jnp.full(n, -1) if exclude is None else numbers("exclude", exclude)
  if excluded.shape != (n,) or not jnp.issubdtype(excluded.dtype, jnp.integer):
    raise UserError(
      f"exclude must be one position for each query, int [{n}], not {excluded.dtype} "
      f"{excluded.shape}"
    )
  results = reduce(
    _Similarity(),
    Group(queries, {"position": excluded}),
    (Group(corpus, {"position": jnp.arange(m)}),),
    score=score,
    reductions={"similarity": reductions.top_k(k)},
    plan=plan or Plan((512, 8192)),
  )
  return results["similarity"]


@dataclasses.dataclass(frozen=True)
class _Similarity:
  """The similarity as a channel; −∞ for the excluded candidate."""

  def __call__(self, similarity, query, candidate, shared):
    excluded = query["position"] == candidate["position"]
    return {"similarity": jnp.where(excluded, -jnp.inf, similarity)}
