"""Measures the similarity of the negatives of a loss, and the share of false negatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from contrastax.compilation import quick_jit
from contrastax.core import Array, Group, Pairs, Params, Score, UserError
from contrastax.evaluation.inputs import known_vectors
from contrastax.labels import class_numbers, has_label
from contrastax.pairwise import cosine
from contrastax.pairwise.checks import check


class RankedNegatives(NamedTuple):
  """The positives and the negatives of anchors, as NumPy arrays that are padded with NaN.

  Attributes:
    anchor: [n], the index of each anchor's example.
    positive: [n, m], similarities of the positives.
    negative: [n, m], similarities of the negatives in descending order, so the hardest is first.
    index: [n, m], the indices of the negatives' examples; −1 means none.
    false: [n, m], 1 if a negative has the anchor's label, else 0. NaN if the negative belongs to no
      example, or if it or the anchor has no label.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> ranked = evaluation.RankedNegatives(
    ...   anchor=np.arange(2), positive=np.array([[0.9], [0.8]]), negative=np.array([[0.5], [0.1]]),
    ...   index=np.array([[1], [0]]), false=np.zeros((2, 1)),
    ... )
    >>> ranked.means()["hardest_similarity"]
    0.3
  """

  anchor: np.ndarray
  positive: np.ndarray
  negative: np.ndarray
  index: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]  # it hides tuple.index
  false: np.ndarray

  def means(self) -> dict[str, float]:
    """Returns the means by name.

    Returns:
      `positive_similarity`, `negative_similarity`, `false_negative_rate`, and for the hardest
      negative of each anchor `hardest_similarity` and `hardest_false_negative_rate`. A mean of no
      values is left out.
    """
    values = {
      "positive_similarity": self.positive,
      "negative_similarity": self.negative,
      "hardest_similarity": self.negative[:, 0],
      "false_negative_rate": self.false,
      "hardest_false_negative_rate": self.false[:, 0],
    }
    return {
      name: float(np.nanmean(x, dtype=float)) for name, x in values.items() if not np.isnan(x).all()
    }


def ranked_negatives(
  anchors: Group,
  groups: Sequence[Group],
  *,
  relation: Callable[..., Pairs],
  score: Score = cosine(),
  score_params: Params = (),
) -> RankedNegatives:
  """Ranks the negatives of each anchor by similarity.

  A positive is a candidate with a positive weight above 0. A negative is a candidate with a
  negative weight above 0 that is not a positive. So in i-Mix neither of the two examples of an
  anchor is a negative. If two negatives are equally similar, the earlier one ranks first. All pairs
  are in memory at the same time.

  Args:
    anchors: the anchors, with the sides `index`, `as_positive` and `as_negative`. A `label` of −1,
      or NaN for floats, means no label, as in training.
    groups: the groups of candidates, as a criterion takes them, with the same sides.
    relation: the relation; see `contrastax.criteria`.
    score: the score.
    score_params: its parameters.

  Returns:
    The ranked negatives.

  Raises:
    UserError: the sides or shapes of the groups do not fit together, vectors are not finite, or
      labels are not numbers.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation, relations
    >>> from contrastax.core import Group
    >>> ones = np.ones(3, np.float32)
    >>> side = {"index": np.arange(3), "view": 0 * ones, "as_positive": ones, "as_negative": ones}
    >>> group = Group(np.eye(3, dtype=np.float32), side)
    >>> ranked = evaluation.ranked_negatives(group, [group], relation=relations.same_example())
    >>> print(ranked.negative[0])
    [ 0.  0. nan]
  """
  (anchors, *candidates) = _prepared([anchors, *groups])
  check(anchors, candidates, False, score, score_params)
  pairs = [_pairs_of(anchors, group, relation, score, score_params) for group in candidates]
  joined = (np.concatenate(x, 1) for x in zip(*pairs, strict=True))
  similarity, positive, negative, index, false = joined
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


def _prepared(groups: Sequence[Group]) -> list[Group]:
  """Returns the groups with float32 or float64 vectors, and with labels that fit 32 bits."""
  names = ["the anchors", *(f"group {i}" for i in range(len(groups) - 1))]
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


def _numbered(groups: Sequence[Group]) -> list[np.ndarray]:
  """Returns the labels of the groups, renumbered unless they are floats, so that JAX keeps them."""
  labels = [np.asarray(group.side["label"]) for group in groups]
  if all(jnp.issubdtype(label.dtype, jnp.floating) for label in labels):
    return labels
  flat = np.concatenate([label.ravel() for label in labels])
  parts = np.split(class_numbers(flat, flat.size), np.cumsum([x.size for x in labels])[:-1])
  return [part.reshape(label.shape) for part, label in zip(parts, labels, strict=True)]


@quick_jit(static_argnums=(2, 3))
def _pairs_of(
  anchors: Group, group: Group, relation: Callable[..., Pairs], score: Score, score_params: Params
) -> list[Array]:
  """Returns, for the pairs of a group, [n, m]: similarity, positive, negative, index and false."""
  a = {name: x[:, None] for name, x in anchors.side.items()}
  c = {name: x if group.per_anchor else x[None] for name, x in group.side.items()}
  similarity = score(score_params, anchors.vectors, group.vectors)
  weights = relation(a, c, similarity)
  known, false = c["index"] >= 0, jnp.nan
  if "label" in a:
    known = known & has_label(a["label"]) & has_label(c["label"])
    false = a["label"] == c["label"]
  columns = (
    similarity.astype(jnp.float32),
    weights.positive * c["as_positive"] > 0,
    weights.negative * c["as_negative"] > 0,
    c["index"],
    jnp.where(known, false, jnp.float32(jnp.nan)),
  )
  return [jnp.broadcast_to(x, similarity.shape) for x in columns]
