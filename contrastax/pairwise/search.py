"""Exact search: the nearest of a corpus, in blocks."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from contrastax.core import Group, Score, UserError, check_integer
from contrastax.pairwise import reductions
from contrastax.pairwise.inputs import check_finite, numbers
from contrastax.pairwise.plan import Plan
from contrastax.pairwise.reduce import reduce
from contrastax.pairwise.scores import dot


def top_k(queries, corpus, k: int, *, score: Score = dot(), exclude=None, plan: Plan | None = None):
  """The k of a corpus with the highest score for each query: exact, in blocks.

  Args:
    queries: [n, d]. corpus: [m, d].
    k: how many, at most m.
    score: `dot()` by default; `cosine()` for directions.
    exclude: None, or for each query the place in the corpus that is not to be found, [n]
      int: itself, where the queries are the corpus.
    plan: how it is evaluated; by default in blocks of 512 queries and 8,192 of the corpus, so
      beside queries and corpus some 16 MB and the results are in memory.

  Returns:
    (scores [n, k] in falling order, places [n, k] int32). Of equal scores the lower place
    comes first. Where `exclude` leaves fewer than k, the last are (−∞, −1). No gradient:
    gather the places into a set per anchor and reduce that.

  Raises:
    UserError for k above m, for shapes that do not fit, and for the first row with a NaN or an
      infinity, where it is known.
  """
  queries, corpus = numbers("queries", queries), numbers("corpus", corpus)
  if queries.ndim != 2 or corpus.ndim != 2:
    raise UserError(
      f"queries are [n, d] and the corpus [m, d], not {queries.shape} and {corpus.shape}"
    )
  check_finite("queries", queries)
  if corpus is not queries:
    check_finite("corpus", corpus)
  n, m = len(queries), len(corpus)
  check_integer("k", k)
  if not 1 <= k <= m:
    raise UserError(f"k is at least 1 and at most the corpus' {m} vectors, not {k}")
  exclude = jnp.full(n, -1) if exclude is None else numbers("exclude", exclude)
  if exclude.shape != (n,) or not jnp.issubdtype(exclude.dtype, jnp.integer):
    raise UserError(
      f"exclude is a place of each query, int [{n}], not {exclude.dtype} {exclude.shape}"
    )
  found = reduce(
    _Found(),
    Group(queries, {"place": exclude}),
    (Group(corpus, {"place": jnp.arange(m)}),),
    score=score,
    reductions={"similarity": reductions.top_k(k)},
    plan=plan or Plan((512, 8192)),
  )
  return found["similarity"]


@dataclasses.dataclass(frozen=True)
class _Found:
  def __call__(self, similarity, query, candidate, shared):
    excluded = query["place"] == candidate["place"]
    return {"similarity": jnp.where(excluded, -jnp.inf, similarity)}
