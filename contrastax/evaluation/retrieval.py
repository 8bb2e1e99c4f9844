"""Retrieval: measures whether the nearest neighbors of an example have its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from contrastax.core import UserError, check_integer
from contrastax.evaluation.inputs import class_numbers, known_vectors
from contrastax.pairwise import cosine, top_k

AT_ONCE = 2**22  # The number of neighbors in one search: 32 MB of scores and positions.


def retrieval(
  features: ArrayLike, labels: ArrayLike, *, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
  """Measures the retrieval of each example's class among all other examples, by cosine similarity.

      recall@k     the share of queries that have an example of their class among the k nearest
      R-precision  r / R, where R others have the query's class, r of them among the R nearest
      mAP@R        (1/R) Σ_{i ≤ R} P(i), where P(i) is the precision of the i nearest if the
                   i-th has the query's class, else 0

  The search is exact. If two neighbors are equally similar, the one with the lower position counts
  as nearer.

  Args:
    features: [n, d].
    labels: [n], names of classes: any integers, bools or strings.
    ks: the values of k, each from 1 to n − 1.

  Returns:
    `recall@k` for each k, `map@r` and `r_precision`, which are means over queries in [0, 1], and
    `left_out`, the number of examples whose class has no other example. These examples are not
    queries, but can be neighbors of queries.

  Raises:
    UserError: features or labels are invalid, no class has two examples, or a k is out of range.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> features = np.array([[1, 0.1], [1, 0], [0, 1], [0.1, 1]])
    >>> evaluation.retrieval(features, [0, 0, 1, 1], ks=(1,))
    {'recall@1': 1.0, 'map@r': 1.0, 'r_precision': 1.0, 'left_out': 0}

  References:
    Musgrave et al., 2020, arXiv 2003.08505. Recall@k is defined as in metric learning since Jégou
    et al., 2011; it is not the share of the class that was found.
  """
  known = known_vectors(features)
  n = len(known)
  _, number = class_numbers(labels, n)
  others = np.bincount(number)[number] - 1
  queries = np.flatnonzero(others)
  if not len(queries):
    raise UserError(
      f"no class has two of these {n} examples, so none can be retrieved; check the labels"
    )
  ks = _checked_depths(ks, n)
  corpus, depth = jnp.asarray(known), max(others.max(), *ks)
  group = min(len(queries), max(1, AT_ONCE // depth))
  parts = []
  for start in range(0, len(queries), group):
    rows = queries[start : start + group]
    # All groups have the same size, so one compiled program is enough.
    filled = np.resize(rows, group)
    _, nearest = top_k(corpus[filled], corpus, depth, score=cosine(), exclude=filled)
    hit = number[np.asarray(nearest)[: len(rows)]] == number[rows, None]
    parts.append(judged(hit, others[rows], ks))
  means = {name: float(np.concatenate([part[name] for part in parts]).mean()) for name in parts[0]}
  return {**means, "left_out": n - len(queries)}


def _checked_depths(ks: Any, n: int) -> tuple[int, ...]:
  if isinstance(ks, str) or not isinstance(ks, Sequence | np.ndarray) or not len(ks):
    raise UserError(f"ks must be a sequence of at least one k, such as (1, 5), not {ks!r}")
  ks = tuple(check_integer("k", k, 1) for k in ks)
  if max(ks) >= n:
    raise UserError(f"recall@{max(ks)} of {n} examples: k must be at most {n - 1}")
  return ks


def judged(hit: np.ndarray, size: np.ndarray, ks: Sequence[int]) -> dict[str, Any]:
  """Returns the metrics of each query.

  Args:
    hit: [q, depth], bool: which neighbors have the class of the query, nearest first.
    size: [q], R.
    ks: the values of k.

  Returns:
    Arrays [q] by name.
  """
  rank = np.arange(1, hit.shape[1] + 1)
  counted = hit & (rank <= size[:, None])
  precision = np.cumsum(hit, 1) / rank
  return {
    **{f"recall@{k}": hit[:, :k].any(1) for k in ks},
    "map@r": (precision * counted).sum(1) / size,
    "r_precision": counted.sum(1) / size,
  }
