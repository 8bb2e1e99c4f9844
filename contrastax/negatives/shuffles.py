"""Negatives for several modalities: tuples of vectors from different examples."""

from __future__ import annotations

import jax

from contrastax.core import Array


def shuffles(key: Array, modalities: int, n: int) -> Array:
  """Draws the permutations that define the negatives of `losses.symile`.

  For each modality as anchor, the rows of every other modality are permuted.

  Args:
    key: a random key.
    modalities: the number of modalities.
    n: the number of examples.

  Returns:
    int32 [modalities, modalities − 1, n], permutations of 0 … n − 1.

  Example:
    >>> import jax
    >>> from contrastax import negatives
    >>> negatives.shuffles(jax.random.key(0), modalities=3, n=8).shape
    (3, 2, 8)

  References:
    Saporta et al., Contrasting with Symile, 2024, arXiv 2411.01053: the "O(N)" negatives.
  """
  keys = jax.random.split(key, (modalities, modalities - 1))
  return jax.vmap(jax.vmap(lambda key: jax.random.permutation(key, n)))(keys)
