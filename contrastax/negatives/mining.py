"""Hard negatives mined from a corpus."""

from __future__ import annotations

import functools
import math
from numbers import Integral, Real

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Group, Score, UserError
from contrastax.pairwise import Plan, cosine, reduce, reductions
from contrastax.pairwise.inputs import check_finite, numbers
from contrastax.pairwise.plan import even


def mine(
  queries,
  corpus,
  positives,
  *,
  k: int,
  margin: float | None = None,
  share: float | None = None,
  at_most: float | None = None,
  skip: int = 0,
  score: Score = cosine(),
  block: int = 32_768,
  plan: Plan | None = None,
):
  """The k hardest negatives of each query that its positives do not forbid: exact, in blocks.

  What scores nearly as high as a positive is often one that nobody labeled. With s⁺ the least
  score of a query's positives, mined is the k of highest score s, positives left out, among

    s ≤ min(s⁺ − margin,  s⁺ − (1 − share)·|s⁺|,  at_most)

  after the first `skip` of these; what is not given bounds nothing, so without any it is naive.
  For s⁺ > 0 the second is share·s⁺; for s⁺ < 0 that product would lie above the positive.

  Args:
    queries: [n, d]. corpus: [m, d], of numpy or jax; a memory map is read block by block.
    positives: places in the corpus, [n] or [n, p] int, −1: none here; each query has at least one.
    k: how many; k + skip is at most m.
    margin: ≥ 0. share: in (0, 1], say 0.95. at_most: any number. skip: ≥ 0.
    score: `cosine()` by default; `dot()`, or another without parameters.
    block: vectors of the corpus that are sent to the device at a time.
    plan: how a block is evaluated; by default in tiles, as `pairwise.top_k`.

  Returns:
    (scores [n, k] in falling order, places [n, k] int32). Of equal scores the lower place
    comes first. Where fewer are admitted, the last are (−∞, −1).

  On the device are queries, one positive of each at a time, results and at most four times
  block·d numbers (two blocks, and what the score makes of one), beside some 20 MB; never
  the corpus, nor the scores of all pairs. s⁺ and s are rounded apart: of what lies within
  rounding of a bound, such as a copy of the positive at margin 0, either may happen; a positive
  itself is known by its place and never mined.

  Moreira et al. 2024, arXiv 2407.15831 (NV-Retriever): naive, shifted by N (`skip`), absolute
  (`at_most`), margin to the positive (`margin`), percentage of the positive (`share`).

  Raises:
    UserError for shapes that do not fit, numbers outside the ranges above, a query without
    positive or whose positive's score is not finite, and the first row of queries or corpus that
    has a NaN or an infinity.
  """
  positives = _places(queries, corpus, positives)
  m = np.shape(corpus)[0]
  _check(m, k, margin, share, at_most, skip, block)
  if not hasattr(corpus, "shape"):
    corpus = np.asarray(corpus)
  queries = numbers("queries", queries)
  check_finite("queries", queries)
  dtype = jnp.result_type(queries, jnp.asarray(corpus[:1]), 0.0)  # of integers: float
  queries = queries.astype(dtype)

  least = np.inf
  for column in positives.T:
    rows = jnp.asarray(corpus[np.maximum(column, 0)], dtype)
    least = np.minimum(least, np.where(column < 0, np.inf, _one_each(score, queries, rows)))
  finite = np.isfinite(least)
  if not finite.all():
    at = finite.argmin()
    raise UserError(
      f"query {at} and a positive of it score {least[at]}; clean the vectors of NaN and infinity"
    )
  ceiling = np.full_like(least, np.inf if at_most is None else at_most)
  if margin is not None:
    ceiling = np.minimum(ceiling, least - margin)
  if share is not None:
    ceiling = np.minimum(ceiling, least - (1 - share) * np.abs(least))

  asked = Group(queries, {"ceiling": jnp.asarray(ceiling), "positives": jnp.asarray(positives)})
  plan = plan or Plan((512, 8192))
  found = reductions.top_k(k + skip).empty(least)
  _, size = even(m, block)
  for first in range(0, m, size):
    rows = jnp.asarray(corpus[first : first + size], dtype)
    check_finite("corpus", rows, first)
    jax.block_until_ready(found)  # else blocks would be sent ahead without end
    found = _further(score, plan, asked, rows, first, found)
  return tuple(x[:, skip:] for x in found)


@functools.partial(jax.jit, static_argnums=0)
def _one_each(score, queries, rows):
  return score((), queries, rows[:, None])[:, 0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _further(score, plan, asked, rows, first, found):
  """The running best after a block, which begins at place `first`."""
  kept = reductions.top_k(found[0].shape[1])
  place = first + jnp.arange(len(rows), dtype=jnp.int32)
  values, at = reduce(
    _admitted, asked, (Group(rows, {"place": place}),),
    score=score, reductions={"similarity": kept}, plan=plan,
  )["similarity"]  # fmt: skip
  return kept.merge(found, (values, jnp.where(at < 0, -1, at + first)))


def _admitted(similarity, query, candidate, shared):
  positive = (query["positives"] == candidate["place"][..., None]).any(-1)
  admitted = (similarity <= query["ceiling"]) & ~positive
  return {"similarity": jnp.where(admitted, similarity, -jnp.inf)}


def _places(queries, corpus, positives):
  """The positives as [n, p], after all that concerns shapes."""
  of_queries, of_corpus = np.shape(queries), np.shape(corpus)
  fit = len(of_queries) == len(of_corpus) == 2 and of_queries[1] == of_corpus[1]
  if not fit or 0 in of_queries:
    raise UserError(
      f"queries are [n, d], n > 0, and the corpus [m, d] of the same d, not {of_queries} and "
      f"{of_corpus}"
    )
  n, m = of_queries[0], of_corpus[0]
  positives = np.asarray(positives)
  if positives.shape[:1] != (n,) or positives.ndim > 2 or positives.dtype.kind not in "iu":
    raise UserError(
      f"positives are places in the corpus, int [{n}] or [{n}, p], not {positives.dtype} "
      f"{list(positives.shape)}"
    )
  positives = positives.reshape(n, -1)
  outside = (positives < -1) | (positives >= m)
  if outside.any():
    raise UserError(
      f"positives are places 0 to {m - 1} of the corpus, or −1 for none, not {positives[outside][0]}"
    )
  without = ~(positives >= 0).any(1)
  if without.any():
    raise UserError(f"query {without.argmax()} has no positive; leave such queries out")
  return positives.astype(np.int32)


def _check(m, k, margin, share, at_most, skip, block):
  for name, value, least in (("k", k, 1), ("skip", skip, 0), ("block", block, 1)):
    if not isinstance(value, Integral) or value < least:
      raise UserError(f"{name} is a whole number, at least {least}, not {value!r}")
  if k + skip > m:
    raise UserError(f"k + skip is at most the corpus' {m} vectors, not {k} + {skip}")
  if margin is not None and not (isinstance(margin, Real) and 0 <= margin < math.inf):
    raise UserError(f"margin is a number, at least 0, not {margin!r}")
  if share is not None and not (isinstance(share, Real) and 0 < share <= 1):
    raise UserError(f"share is above 0 and at most 1, not {share!r}; for 5 % below, take 0.95")
  if at_most is not None and not (isinstance(at_most, Real) and math.isfinite(at_most)):
    raise UserError(f"at_most is a finite number, not {at_most!r}; for no bound, leave it out")
