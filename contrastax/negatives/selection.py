"""Selections among candidates: which negatives an anchor keeps."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Group, UserError
from contrastax.pairwise import Plan, cosine, reduce, reductions


def hardest(
  anchors, groups, k, *, relation, score=cosine(), score_params=(), same_set=False, plan=Plan()
):
  """The k negatives of each anchor that are most similar to it, as a set per anchor.

  Args:
    anchors: vectors [n, d]. groups: candidates, each [m, d], with the sides of a loss.
    k: how many, at least 1.
    relation: `(anchor side, candidate side, similarity) -> Pairs`; a negative is what weighs
      more than 0 as one.
    score, score_params: similarity. same_set: the first group is the anchors.
    plan: how the search is evaluated.

  Returns:
    Group, vectors [n, k, d], hardest first; of equal ones the earlier. Its sides are the
    chosen candidates'; where an anchor has fewer negatives, `as_negative` of the rest is 0.
    The choice has no gradient, the chosen vectors have.

  Raises:
    UserError: a group that is a set per anchor already.
  """
  for at, group in enumerate(groups):
    if group.per_anchor:
      raise UserError(
        f"the hardest are chosen among shared candidates [m, d]; group {at} is {group.vectors.shape}"
      )
  r = reduce(
    _Hardness(relation), anchors, groups, score=score, score_params=score_params,
    same_set=same_set, plan=plan, rows={"hardest": reductions.top_k(k)},
  )  # fmt: skip
  _, place = jax.lax.stop_gradient(r["hardest"])
  there = place >= 0
  everything = jax.tree.map(lambda *parts: jnp.concatenate(parts), *groups)
  chosen = jax.tree.map(lambda x: x[jnp.maximum(place, 0)], everything)
  weight = chosen.side["as_negative"]
  return Group(chosen.vectors, {**chosen.side, "as_negative": jnp.where(there, weight, 0)})


@dataclasses.dataclass(frozen=True)
class _Hardness:
  relation: object

  def __call__(self, similarity, a, c, shared):
    weight = self.relation(a, c, similarity).negative * c["as_negative"]
    return {"hardest": jnp.where(weight > 0, similarity, -jnp.inf)}
