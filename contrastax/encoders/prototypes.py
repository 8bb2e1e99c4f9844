"""Prototypes: learned directions that vectors are compared with."""

from __future__ import annotations

import jax

from contrastax.core import Encoder, UserError
from contrastax.pairwise import dot, unit


def prototypes(count: int) -> Encoder:
  """Computes the cosine of each vector [n, d] with each of `count` learned directions.

  Vectors and prototypes are normalized in every call.

  Args:
    count: the number of prototypes, at least 2.

  Returns:
    An encoder of vectors [n, d] with outputs [n, count].

  Raises:
    UserError: `count` is not an integer of at least 2.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from contrastax import encoders
    >>> layer, z = encoders.prototypes(10), jnp.ones((4, 8))
    >>> params, state = layer.init(jax.random.key(0), z)
    >>> layer.apply(params, state, z, key=None, train=True)[0].shape
    (4, 10)

  References:
    Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments" (SwAV),
    2020, arXiv 2006.09882.

  In other libraries:
    The code of SwAV normalizes the stored prototypes before every step. The code of DINO (arXiv
    2104.14294) uses weight normalization with a fixed length. The outputs are the same. Here the
    gradient has no component along a prototype; in SwAV the next normalization removes it.
  """
  if not isinstance(count, int) or count < 2:
    raise UserError(f"prototypes: count must be an integer of at least 2, not {count!r}")

  def init(key, z):
    return {"kernel": jax.random.normal(key, (count, z.shape[-1]))}, ()

  def apply(params, state, z, *, key=None, train):
    return dot()((), unit(z), unit(params["kernel"])), state

  return Encoder(init, apply)
