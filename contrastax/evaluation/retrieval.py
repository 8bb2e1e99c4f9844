"""Retrieval: whether the nearest neighbors of an example are of its class."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from contrastax.core import UserError, check_integer
from contrastax.evaluation.inputs import class_numbers, known_vectors
from contrastax.pairwise import cosine, top_k

AT_ONCE = 2**22  # places found in one search: 32 MB of scores and places


def retrieval(
  features: ArrayLike, labels: ArrayLike, *, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
  """Recall@k, mAP@R and R-precision of each example among all others, nearest by cosine first.

    recall@k     the share of queries with at least one of their class among the k nearest
    R-precision  r / R, with r those of the query's class among the R nearest, R all there are
    mAP@R        (1/R) Σ_{i ≤ R} P(i),  P(i) = the precision of the i nearest where the i-th is
                 of the query's class, else 0

  Args:
    features: [n, d].
    labels: [n], names of classes: any integers, bools or strings.
    ks: the k of recall@k, each from 1 to n − 1.

  Returns:
    {"recall@1", …, "map@r", "r_precision"}, means over queries in [0, 1], and "left_out", the
    number of examples without another one of their class. These are no queries, but they may be
    found. Of equal neighbors the one with the lower index is nearer.

  Raises:
    UserError where no class has two examples, for k out of range, and for inputs that
    `evaluation.inputs` refuses.

  The search is exact at any size: queries pass in groups, to a depth of the largest class.
  Musgrave et al. 2020, arXiv 2003.08505; recall@k as metric learning counts it since Jégou
  et al. 2011, which is not the share of the class that was found.
  """
  known = known_vectors(features)
  n = len(known)
  _, number = class_numbers(labels, n)
  others = np.bincount(number)[number] - 1
  queries = np.flatnonzero(others)
  if not len(queries):
    raise UserError(f"no class has two of these {n} examples, so none can be retrieved")
  ks = _checked_depths(ks, n)
  corpus, depth = jnp.asarray(known), max(others.max(), *ks)
  group = min(len(queries), max(1, AT_ONCE // depth))
  found = []
  for start in range(0, len(queries), group):
    at = queries[start : start + group]
    filled = np.resize(at, group)  # so that one program serves all
    _, nearest = top_k(corpus[filled], corpus, depth, score=cosine(), exclude=filled)
    found.append(judged(number[np.asarray(nearest)[: len(at)]] == number[at, None], others[at], ks))
  means = {name: float(np.concatenate([part[name] for part in found]).mean()) for name in found[0]}
  return {**means, "left_out": n - len(queries)}


def _checked_depths(ks, n):
  if isinstance(ks, str) or not isinstance(ks, Sequence | np.ndarray) or not len(ks):
    raise UserError(f"ks must be a sequence of at least one k, not {ks!r}; (1, 5) is one")
  ks = tuple(check_integer("k", k, 1) for k in ks)
  if max(ks) >= n:
    raise UserError(f"recall@{max(ks)} of {n} examples: k must be at most {n - 1}")
  return ks


def judged(hit, size, ks):
  """The metrics of each query, [q]: `hit` [q, depth], which neighbors are right; `size` [q], R."""
  rank = np.arange(1, hit.shape[1] + 1)
  counted = hit & (rank <= size[:, None])
  precision = np.cumsum(hit, 1) / rank
  return {
    **{f"recall@{k}": hit[:, :k].any(1) for k in ks},
    "map@r": (precision * counted).sum(1) / size,
    "r_precision": counted.sum(1) / size,
  }
