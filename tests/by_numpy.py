"""Reductions of a row in NumPy, and comparisons of trees of arrays."""

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.pairwise import count, log_sum_exp, max_, min_, reductions, softmax_mean, sum_


def largest(k):
  def of(x):
    order = np.argsort(-x, kind="stable")[:k]
    return x[order], order

  return of


TOP = reductions.top_k(3)
ROW = {
  sum_: np.sum,
  count: np.count_nonzero,
  log_sum_exp: lambda x: np.log(np.exp(x).sum()),
  softmax_mean: lambda x, v: (
    np.log(np.exp(x).sum()),
    (np.exp(x) * v).sum() / np.exp(x).sum(),
  ),
  max_: np.max,
  min_: np.min,
  TOP: largest(3),
}
"""Each reduction of one row, as NumPy would write it."""


def stacked(rows):
  """The results of rows as those of all rows at once."""
  return jax.tree.map(lambda *values: np.stack(values), *rows)


def assert_same(found, expected, rtol=1e-12):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-13), found, expected
  )


def weighed(tree):
  """A sum in which every entry of every float result counts differently."""
  leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
  return sum(
    (jnp.cos(1.0 + i + jnp.arange(x.size)) * x.ravel()).sum() for i, x in enumerate(leaves)
  )
