"""Sources on plain arrays, without a method."""

from __future__ import annotations

import jax.numpy as jnp

from contrastax.core import Compare, Group, UserError
from contrastax.labels import signed
from contrastax.negatives.sources import synthetic_candidates
from contrastax.pairwise import Plan, cosine
from contrastax.pairwise.inputs import numbers
from contrastax.pairwise.scores.precision import promoted


def on_arrays(
  source, anchors, positives, negatives=None, *, relation, rng, label=None, score=cosine(), plan=Plan()
):  # fmt: skip
  """(anchors, groups) as a criterion takes them, with what a source makes of plain arrays.

    anchors, groups = on_arrays(mochi(hard=64, mixed=32, with_anchor=8), q, k, held,
                                relation=same_example(), rng=rng)
    value = criteria.evaluate(
      criteria.info_nce(), anchors, groups, relation=same_example(), temperature=0.2
    ).value

  Args:
    source: as it is at its first step; a sum too. What it would remember is given as `negatives`.
    anchors, positives: [n, d]; row i of both is example i, in views 0 and 1.
    negatives: None, or [m, d], the same for all anchors and of no example: a queue's keys, say.
    relation: what the loss is given as well. key: of what the source draws.
    label: None, or of each example, [n]. score: without parameters. plan: of searches.

  Raises UserError for shapes that do not fit, and what the source raises.
  """
  anchors, positives = promoted(numbers("anchors", anchors), numbers("positives", positives))
  if negatives is not None:
    negatives = numbers("negatives", negatives)
    anchors, positives, negatives = promoted(anchors, positives, negatives)
  n, shapes = len(anchors), [anchors.shape, positives.shape]
  if len(shapes[0]) != 2 or shapes[0] != shapes[1]:
    raise UserError(
      f"anchors and positives are [n, d], of one shape, not {shapes[0]} and {shapes[1]}"
    )
  if negatives is not None and (jnp.ndim(negatives) != 2 or negatives.shape[1] != shapes[0][1]):
    raise UserError(f"negatives are [m, {shapes[0][1]}], not {jnp.shape(negatives)}")
  one = jnp.ones(n, jnp.result_type(anchors, jnp.float32))
  side = {"index": jnp.arange(n), "view": jnp.zeros(n, jnp.int32)}
  side |= {"as_positive": one, "as_negative": 0 * one}
  side |= {} if label is None else {"label": signed(numbers("label", label))}
  own, keys = (Group(x, side) for x in (anchors, positives))
  keys = keys.attach(view=keys.side["view"] + 1)
  groups = (keys,)
  if negatives is not None:
    groups += (synthetic_candidates(negatives, keys),)
  compare = Compare(relation, score, (), False, plan)
  return source.candidates(source.init(rng, keys, n), own, groups, rng, compare)
