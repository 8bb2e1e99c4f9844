"""Negatives for plain arrays, without a method."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array, Compare, Group, Negatives, Pairs, Score, UserError
from contrastax.labels import signed
from contrastax.negatives.sources import synthetic_candidates
from contrastax.pairwise import Plan, cosine
from contrastax.pairwise.inputs import numbers
from contrastax.pairwise.scores.precision import promoted


def on_arrays(
  source: Negatives,
  anchors: ArrayLike,
  positives: ArrayLike,
  negatives: ArrayLike | None = None,
  *,
  relation: Callable[..., Pairs],
  rng: Array,
  label: ArrayLike | None = None,
  score: Score = cosine(),
  plan: Plan = Plan(),
) -> tuple[Group, tuple[Group, ...]]:
  """Applies a source of negatives to plain arrays.

  Args:
    source: the negatives, which may be a sum of several. Its state is the state before the first
      step. Pass keys of earlier steps as `negatives`.
    anchors: [n, d]. Row i is example i in view 0.
    positives: [n, d], the keys. Row i is example i in view 1.
    negatives: [m, d], such as the keys in a queue, or None. They are the same for all anchors and
      belong to no example.
    relation: the relation that the criterion uses too.
    rng: a random key, from which the source draws.
    label: the label of each example, [n], or None.
    score: the similarity, without parameters.
    plan: how searches are computed.

  Returns:
    (anchors, groups), the arguments of a criterion.

  Raises:
    UserError: shapes do not fit, or the source raises an error.

  Example:
    >>> import jax
    >>> from contrastax import criteria, negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 8, 3))
    >>> memory = jax.random.normal(jax.random.key(1), (32, 3))
    >>> source = negatives.mochi(hard=8, mixed=4, with_anchor=2)
    >>> relation = relations.same_example()
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, memory, relation=relation, rng=jax.random.key(2)
    ... )
    >>> [group.vectors.shape for group in groups]
    [(8, 3), (32, 3), (8, 6, 3)]
    >>> outcome = criteria.evaluate(
    ...   criteria.info_nce(), anchors, groups, relation=relation, temperature=0.2
    ... )
    >>> outcome.value.shape
    (8,)
  """
  anchors, positives = promoted(numbers("anchors", anchors), numbers("positives", positives))
  shape = anchors.shape
  if negatives is not None:
    anchors, positives, negatives = promoted(anchors, positives, numbers("negatives", negatives))
  if len(shape) != 2 or shape != positives.shape:
    raise UserError(
      f"anchors and positives must have the same shape [n, d], not {shape} and {positives.shape}"
    )
  if negatives is not None and (jnp.ndim(negatives) != 2 or negatives.shape[1] != shape[1]):
    raise UserError(f"negatives must be [m, {shape[1]}], not {jnp.shape(negatives)}")
  n = shape[0]
  one = jnp.ones(n, jnp.result_type(anchors, jnp.float32))
  side = {"index": jnp.arange(n), "view": jnp.zeros(n, jnp.int32)}
  side |= {"as_positive": one, "as_negative": 0 * one}
  side |= {} if label is None else {"label": signed(numbers("label", label))}
  anchor_group, keys = (Group(x, side) for x in (anchors, positives))
  keys = keys.attach(view=keys.side["view"] + 1)
  groups = (keys,)
  if negatives is not None:
    groups += (synthetic_candidates(negatives, keys),)
  compare = Compare(relation, score, (), False, plan)
  return source.candidates(source.init(rng, keys, n), anchor_group, groups, rng, compare)
