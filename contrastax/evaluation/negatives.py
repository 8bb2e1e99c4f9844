"""The negatives that a loss is given: how similar they are, and how many share the anchor's class."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Group, Pairs, Params, Score, UserError
from contrastax.evaluation.inputs import known_vectors, label_values
from contrastax.pairwise import cosine
from contrastax.pairwise.checks import check


class RankedNegatives(NamedTuple):
  """Anchors with their positives and their negatives, NaN where there is none. All NumPy.

  anchor: [n], the index of each anchor's example.
  positive: [n, m], similarities.
  negative: [n, m], similarities in falling order, so the hardest first.
  index: [n, m], the negatives' examples (−1: none).
  false: [n, m], 1 where a negative has the anchor's label, else 0. NaN where the negative is no
    example, where one of the two has no label (−1), and everywhere without labels.
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
    anchors, groups, relation, score, score_params: see `losses.groups`. As in training, the label
      −1 means "no label".

  Raises:
    UserError for groups that do not fit, vectors that are not finite, and labels that are no
    integers, bools or strings.
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
  """The groups with float vectors and, where they have labels, labels that are int32."""
  names = ["the anchors", *(f"group {at}" for at in range(len(groups) - 1))]
  for name, group in zip(names, groups, strict=True):
    missing = {"index", "as_positive", "as_negative"} - set(group.side)
    if missing:
      raise UserError(f"{name} must have the sides {', '.join(sorted(missing))}; attach them")
  vectors = [
    known_vectors(group.vectors, name, axes="[n, k, d]" if group.per_anchor else "[n, d]")
    for name, group in zip(names, groups, strict=True)
  ]
  labels = [{}] * len(groups)
  if all("label" in group.side for group in groups):
    labels = [
      {"label": jnp.asarray(label)} for label in _whole_labels([g.side["label"] for g in groups])
    ]
  return [
    Group(jnp.asarray(x), {**group.side, **label})
    for x, group, label in zip(vectors, groups, labels, strict=True)
  ]


def _whole_labels(labels):
  """Labels of several groups as int32, equal where they were equal; −1 stays −1."""
  shapes = [np.shape(label) for label in labels]
  flat = [label_values(np.ravel(label), int(np.size(label)), "label") for label in labels]
  if len({values.dtype.kind for values in flat}) > 1:
    raise UserError("the groups' labels are integers and strings; give all in one type")
  together = np.concatenate(flat)
  if together.dtype.kind != "i":
    together = np.unique(together, return_inverse=True)[1]
  elif not np.array_equal(together.astype(np.int32), together):
    together = np.where(together == -1, -1, np.unique(together, return_inverse=True)[1])
  ends = np.cumsum([values.size for values in flat])[:-1]
  parts = np.split(together.astype(np.int32), ends)
  return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _meet(anchors, group, relation, score, score_params):
  """[n, m] of one group: similarity, whether positive, whether negative, index, whether false."""
  a = {name: x[:, None] for name, x in anchors.side.items()}
  c = {name: x if group.per_anchor else x[None] for name, x in group.side.items()}
  similarity = score(score_params, anchors.vectors, group.vectors)
  weights = relation(a, c, similarity)
  known, false = c["index"] >= 0, jnp.nan
  if "label" in a:
    known = known & (a["label"] != -1) & (c["label"] != -1)
    false = a["label"] == c["label"]
  found = (
    similarity.astype(jnp.float32),
    weights.positive * c["as_positive"] > 0,
    weights.negative * c["as_negative"] > 0,
    c["index"],
    jnp.where(known, false, jnp.float32(jnp.nan)),
  )
  return [jnp.broadcast_to(x, similarity.shape) for x in found]
