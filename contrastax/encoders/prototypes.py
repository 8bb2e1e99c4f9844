"""Prototypes: how similar a vector is to each of K directions that are learned."""

from __future__ import annotations

import jax

from contrastax.core import Encoder, UserError
from contrastax.pairwise import dot, unit


def prototypes(count: int) -> Encoder:
  """Scores [n, count]: the cosine of each vector [n, d] with each of `count` learned directions.

  Both are normalized here, at every use. SwAV's code (Caron et al. 2020, arXiv 2006.09882)
  normalizes the stored prototypes before every step, DINO's (2021, arXiv 2104.14294) has a
  weight normalization of fixed length; the scores are the same, and their gradient here has no
  part along a prototype, which SwAV's next normalization would take away.
  """
  if not isinstance(count, int) or count < 2:
    raise UserError(f"prototypes: count is a number of at least 2, not {count!r}")

  def init(key, z):
    return {"kernel": jax.random.normal(key, (count, z.shape[-1]))}, ()

  def apply(params, state, z, *, key=None, train):
    return dot()((), unit(z), unit(params["kernel"])), state

  return Encoder(init, apply)
