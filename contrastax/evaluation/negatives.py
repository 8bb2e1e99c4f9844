"""The negatives that a loss is given: how similar they are, and how many share the anchor's class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from contrastax.compilation import quick_jit
from contrastax.core import Group, Pairs, Params, Score, UserError
from contrastax.evaluation.inputs import known_vectors
from contrastax.labels import class_numbers, has_label
from contrastax.pairwise import cosine
from contrastax.pairwise.checks import check


class RankedNegatives(NamedTuple):
  """Anchors with their positives and their negatives, NaN where there is none. All NumPy.

  anchor: [n], the index of each anchor's example.
  positive: [n, m], similarities.
  negative: [n, m], similarities in falling order, so the hardest first.
  index: [n, m], the negatives' examples (−1: none).
  false: [n, m], 1 where a negative has the anchor's label, else 0. NaN where the negative is no
    example, where one of the two has no label, and everywhere without labels.
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
  anchors: Group, groups: Sequence[Group], *, relation: Callable[..., Pairs], score: Score = cosine(),
  score_params: Params = (),
) -> RankedNegatives:  # fmt: skip
  """All pairs of anchors and candidates, as a loss on groups is given them.

  A positive is what weighs more than 0 as one. A negative is what does as a negative, and nothing
  as a positive: the two examples that an anchor of i-Mix is made of are none. Of equal negatives
  the earlier is the harder. All pairs are in memory at once.

  Args:
    anchors, groups, relation, score, score_params: see `contrastax.criteria`. Labels are those of
      training: −1, or NaN of floats, means "no label".

  Raises:
    UserError for groups that do not fit, vectors that are not finite, and labels that are no
    numbers.
  """
  (anchors, *groups) = _prepared([anchors, *groups])
  check(anchors, groups, False, score, score_params)
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


def _prepared(groups):
  """The groups with vectors of float32 or float64, and with labels that JAX does not cut."""
  names = ["the anchors", *(f"group {at}" for at in range(len(groups) - 1))]
  for name, group in zip(names, groups, strict=True):
    missing = {"index", "as_positive", "as_negative"} - set(group.side)
    if missing:
      raise UserError(f"{name} must have the sides {', '.join(sorted(missing))}; attach them")
  prepared = []
  for name, group in zip(names, groups, strict=True):
    axes = "[n, k, d]" if group.per_anchor else "[n, d]"
    prepared.append(Group(jnp.asarray(known_vectors(group.vectors, name, axes=axes)), group.side))
  if not all("label" in group.side for group in groups):
    return prepared
  labels = _numbered(groups)
  return [group.attach(label=label) for group, label in zip(prepared, labels, strict=True)]


def _numbered(groups):
  """The groups' labels, equal where they were equal, in types that JAX does not cut."""
  labels = [np.asarray(group.side["label"]) for group in groups]
  if all(jnp.issubdtype(label.dtype, jnp.floating) for label in labels):
    return labels
  flat = np.concatenate([label.ravel() for label in labels])
  parts = np.split(class_numbers(flat, flat.size), np.cumsum([x.size for x in labels])[:-1])
  return [part.reshape(label.shape) for part, label in zip(parts, labels, strict=True)]


@quick_jit(static_argnums=(2, 3))
def _meet(anchors, group, relation, score, score_params):
  """[n, m] of one group: similarity, whether positive, whether negative, index, whether false."""
  a = {name: x[:, None] for name, x in anchors.side.items()}
  c = {name: x if group.per_anchor else x[None] for name, x in group.side.items()}
  similarity = score(score_params, anchors.vectors, group.vectors)
  weights = relation(a, c, similarity)
  known, false = c["index"] >= 0, jnp.nan
  if "label" in a:
    known = known & has_label(a["label"]) & has_label(c["label"])
    false = a["label"] == c["label"]
  found = (
    similarity.astype(jnp.float32),
    weights.positive * c["as_positive"] > 0,
    weights.negative * c["as_negative"] > 0,
    c["index"],
    jnp.where(known, false, jnp.float32(jnp.nan)),
  )
  return [jnp.broadcast_to(x, similarity.shape) for x in found]
