"""Retrieval: whether the nearest of an example are of its class."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from contrastax.core import UserError
from contrastax.pairwise import cosine, top_k

AT_ONCE = 2**22  # places found in one search: 32 MB of scores and places


def retrieval(features, labels, *, ks: tuple[int, ...] = (1, 5, 10)):
  """Recall@k, mAP@R and R-precision of each example among all others, nearest by cosine first.

    recall@k     the share of queries with at least one of their class among the k nearest
    R-precision  r / R, with r those of the query's class among the R nearest, R all there are
    mAP@R        (1/R) Σ_{i ≤ R} P(i),  P(i) = the precision of the i nearest where the i-th is
                 of the query's class, else 0

  features: [n, d]; labels: [n], int. Returns {"recall@1", …, "map@r", "r_precision"}, means
  over queries in [0, 1], and "left_out", how many examples have a class of their own and so
  are no queries; they may still be found. Exact at any size: queries pass in groups, to a
  depth of the largest class. Of equal neighbours the one with the lower index is nearer.

  Raises UserError where no class has two examples, and for k outside 1 … n − 1.
  Musgrave et al. 2020, arXiv 2003.08505; recall@k as metric learning counts it since Jégou
  et al. 2011, which is not the share of the class that was found.
  """
  n = len(features)
  if len(labels) != n:
    raise UserError(f"{n} vectors have as many labels, not {len(labels)}")
  _, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
  others = sizes[labels] - 1
  queries = np.flatnonzero(others)
  if not len(queries):
    raise UserError(f"no class has two of these {n} examples, so none can be retrieved")
  for k in ks:
    if not 1 <= k < n:
      raise UserError(f"recall@{k} of {n} examples: k is at least 1 and at most {n - 1}")
  features, depth = jnp.asarray(features), max(others.max(), *ks)
  group = min(len(queries), max(1, AT_ONCE // depth))
  found = []
  for start in range(0, len(queries), group):
    at = queries[start : start + group]
    filled = np.resize(at, group)  # so that one program serves all
    _, nearest = top_k(features[filled], features, depth, score=cosine(), exclude=filled)
    found.append(judged(labels[np.asarray(nearest)[: len(at)]] == labels[at, None], others[at], ks))
  means = {name: float(np.concatenate([part[name] for part in found]).mean()) for name in found[0]}
  return {**means, "left_out": n - len(queries)}


def judged(hit, size, ks):
  """The metrics of each query, [q]: `hit` [q, depth], which neighbours are right; `size` [q], R."""
  rank = np.arange(1, hit.shape[1] + 1)
  counted = hit & (rank <= size[:, None])
  precision = np.cumsum(hit, 1) / rank
  return {
    **{f"recall@{k}": hit[:, :k].any(1) for k in ks},
    "map@r": (precision * counted).sum(1) / size,
    "r_precision": counted.sum(1) / size,
  }
