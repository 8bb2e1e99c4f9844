"""Selections among candidates: the hardest negatives of each anchor, alone or as all it keeps."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from contrastax.core import UserError, check_integer
from contrastax.negatives.sources import NegativeSource
from contrastax.pairwise import Plan, cosine, reduce, reductions
from contrastax.pairwise.checks import check_relation


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
  _, place, _ = hardest_places(
    anchors, groups, k, relation=relation, score=score, score_params=score_params,
    same_set=same_set, plan=plan,
  )  # fmt: skip
  return gather(groups, place)


def hardest_places(
  anchors, groups, k, *, relation, score=cosine(), score_params=(), same_set=False, plan=Plan()
):
  """Where they are: (their similarities [n, k], places [n, k] among all groups, counts [n]).

  In falling order; where an anchor has fewer negatives (`counts` is how many it has), the last are
  (−∞, −1). No gradient; else as `hardest`.
  """
  check_integer("k", k, 1)
  check_relation(relation)
  for at, group in enumerate(groups):
    if group.per_anchor:
      raise UserError(
        f"the hardest are chosen among shared candidates [m, d], and group {at} is a set per anchor; "
        "write its source to the right of the one that chooses"
      )
  found = reduce(
    _Hardness(relation), anchors, groups, score=score, score_params=score_params,
    same_set=same_set, plan=plan, reductions={"hardest": reductions.top_k(k), "there": reductions.sum_},
  )  # fmt: skip
  return jax.lax.stop_gradient((*found["hardest"], found["there"]))


@dataclasses.dataclass(frozen=True)
class _Hardness:
  relation: object

  def __call__(self, similarity, a, c, shared):
    there = ~(self.relation(a, c, similarity).negative * c["as_negative"] <= 0)
    return {"hardest": jnp.where(there, similarity, -jnp.inf), "there": there}


@dataclasses.dataclass(frozen=True)
class hardest_only(NegativeSource):
  """Of the negatives to its left an anchor keeps the `k` most similar to it.

  The selective filter of dual-view MoCo (Hoang et al. 2025, arXiv 2501.16360), there of the queue.
  The chosen are gathered, [n, k, d], with their gradient.
  """

  k: int

  def __post_init__(self):
    if not isinstance(self.k, int) or self.k < 1:
      raise UserError(f"hardest_only: k is a number of negatives, at least 1, not {self.k!r}")

  def candidates(self, state, anchors, groups, rng, compare):
    there = _number(groups)
    if there < self.k:
      raise UserError(f"hardest_only keeps {self.k:,} of {there:,} candidates; take a smaller k")
    return anchors, _instead(groups, hardest(anchors, groups, self.k, **compare._asdict()))


@dataclasses.dataclass(frozen=True)
class hardest_share(NegativeSource):
  """Of the N_i negatives to its left an anchor keeps the ⌈α N_i⌉ most similar to it.

  The hard contrastive loss (Wang & Liu 2021, arXiv 2012.09740, §4.4), with any source and loss.
  The chosen are gathered, [n, ⌈α m⌉, d] of m candidates, with their gradient.
  """

  alpha: float

  def __post_init__(self):
    if not (isinstance(self.alpha, int | float) and 0 < self.alpha <= 1):
      raise UserError(f"hardest_share: alpha is a share, 0 < alpha ≤ 1, not {self.alpha!r}")

  def candidates(self, state, anchors, groups, rng, compare):
    k = math.ceil(self.alpha * _number(groups))
    _, place, there = hardest_places(anchors, groups, k, **compare._asdict())
    wanted = jnp.ceil(self.alpha * there * (1 - 1e-6))  # 0.1 · 30 is a little more than 3
    place = jnp.where(jnp.arange(k) < wanted[:, None], place, -1)
    return anchors, _instead(groups, gather(groups, place))


def gather(groups, place):
  """The candidates at these places among all groups, [n, k, d]; −1: none, and weighs nothing."""
  everything = jax.tree.map(lambda *parts: jnp.concatenate(parts), *groups)
  chosen = jax.tree.map(lambda x: x[jnp.maximum(place, 0)], everything)
  return chosen.attach(as_negative=jnp.where(place >= 0, chosen.side["as_negative"], 0))


def _number(groups):
  return sum(group.vectors.shape[0] for group in groups)


def _instead(groups, chosen):
  """The keys, now positives alone, and the chosen as the only negatives."""
  keys, none = groups[0], jnp.zeros_like(chosen.side["as_negative"])
  keys = keys.attach(as_negative=jnp.zeros_like(keys.side["as_negative"]))
  return keys, chosen.attach(as_positive=none)
