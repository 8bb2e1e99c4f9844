"""Negatives of several modalities: tuples of vectors that do not belong together."""

from __future__ import annotations

import jax


def shuffles(key, modalities: int, n: int):
  """For each modality as anchor, a permutation of n rows for each of the others.

  Returns:
    int [modalities, modalities − 1, n], as `losses.symile` takes them.

  Saporta et al. 2024, arXiv 2411.01053, the "O(N)" negatives.
  """
  keys = jax.random.split(key, (modalities, modalities - 1))
  return jax.vmap(jax.vmap(lambda key: jax.random.permutation(key, n)))(keys)
