"""What a loss meets as negatives: how near they come, and how many are of the anchor's own class."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.pairwise import cosine


class RankedNegatives(NamedTuple):
  """Anchors with their positives and their negatives, NaN where there is none. All NumPy.

  anchor: [n], the index of each one's example. positive: [n, m], similarities. negative: [n, m],
  similarities in falling order, so the hardest first. index: [n, m], the negatives' examples
  (−1: none). false: [n, m], 1 where a negative's label is the anchor's, else 0; NaN also where
  it is no example's, and everywhere without labels.
  """

  anchor: np.ndarray
  positive: np.ndarray
  negative: np.ndarray
  index: np.ndarray
  false: np.ndarray

  def means(self) -> dict[str, float]:
    """Of each array, and of the hardest negatives alone; what is nowhere is left out."""
    of = {
      "positive_similarity": self.positive,
      "negative_similarity": self.negative,
      "hardest_similarity": self.negative[:, 0],
      "false_negative_rate": self.false,
      "hardest_false_negative_rate": self.false[:, 0],
    }
    return {
      name: float(np.nanmean(x, dtype=float)) for name, x in of.items() if not np.isnan(x).all()
    }


def ranked_negatives(
  anchors, groups, *, relation, score=cosine(), score_params=()
) -> RankedNegatives:
  """All pairs of anchors and candidates, as a loss on groups is given them.

  A positive is what weighs more than 0 as one. A negative is what does as a negative, and nothing
  as a positive: the two examples that an anchor of i-Mix is made of are none. Of equal negatives
  the earlier is the harder. All pairs are in memory at once. Arguments: see `losses.groups`.
  """
  met = [_meet(anchors, group, relation, score, score_params) for group in groups]
  met = (np.concatenate(x, 1) for x in zip(*met, strict=True))
  similarity, positive, negative, index, false = met
  hardness = np.where(negative & ~positive, similarity, np.nan)
  order = np.argsort(-hardness, axis=1, kind="stable")  # NaN last
  hardness, index, false = (np.take_along_axis(x, order, 1) for x in (hardness, index, false))
  return RankedNegatives(
    anchor=np.asarray(anchors.side["index"]),
    positive=np.where(positive, similarity, np.nan),
    negative=hardness,
    index=np.where(np.isnan(hardness), -1, index),
    false=np.where(np.isnan(hardness), np.nan, false),
  )


@functools.partial(jax.jit, static_argnums=(2, 3))
def _meet(anchors, group, relation, score, score_params):
  """[n, m] of one group: similarity, whether positive, whether negative, index, whether false."""
  a = {name: x[:, None] for name, x in anchors.side.items()}
  c = {name: x if group.per_anchor else x[None] for name, x in group.side.items()}
  similarity = score(score_params, anchors.vectors, group.vectors)
  weights = relation(a, c, similarity)
  false = a["label"] == c["label"] if "label" in a else jnp.nan
  found = (
    similarity.astype(jnp.float32),
    weights.positive * c["as_positive"] > 0,
    weights.negative * c["as_negative"] > 0,
    c["index"],
    jnp.where(c["index"] >= 0, false, jnp.float32(jnp.nan)),
  )
  return [jnp.broadcast_to(x, similarity.shape) for x in found]
