"""Selection of the hardest negatives of each anchor."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Compare, Group, Pairs, Score, State, UserError, check_integer
from contrastax.negatives.sources import NegativeSource
from contrastax.pairwise import Plan, cosine, reduce, reductions
from contrastax.pairwise.checks import check_relation


def hardest(
  anchors: Group,
  groups: Sequence[Group],
  k: int,
  *,
  relation: Callable[..., Pairs],
  score: Score = cosine(),
  score_params: Any = (),
  same_set: bool = False,
  plan: Plan = Plan(),
) -> Group:
  """Selects the k negatives of each anchor that are most similar to it, as a set per anchor.

  The selection has no gradient. The selected vectors keep their gradient.

  Args:
    anchors: vectors [n, d].
    groups: candidates, each [m, d], with the sides that a criterion needs.
    k: the number of negatives, at least 1.
    relation: `(anchor side, candidate side, similarity) -> Pairs`. Candidates with a weight above 0
      as a negative are negatives.
    score: the similarity.
    score_params: the parameters of the score.
    same_set: whether the first group consists of the anchors themselves.
    plan: how the similarities are computed.

  Returns:
    Vectors [n, k, d], hardest first, with the sides of the selected candidates. Among equally
    similar candidates, the earlier one comes first. If an anchor has fewer than k negatives,
    `as_negative` of the remaining vectors is 0.

  Raises:
    UserError: a group is already a set per anchor, or k is not an integer of at least 1.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 8, 3))
    >>> relation = relations.same_example()
    >>> anchors, groups = negatives.on_arrays(
    ...   negatives.in_batch(), q, k, relation=relation, rng=jax.random.key(1)
    ... )
    >>> negatives.hardest(anchors, groups, 2, relation=relation).vectors.shape
    (8, 2, 3)
  """
  _, positions, _ = hardest_positions(
    anchors, groups, k, relation=relation, score=score, score_params=score_params,
    same_set=same_set, plan=plan,
  )  # fmt: skip
  return gather(groups, positions)


def hardest_positions(
  anchors: Group,
  groups: Sequence[Group],
  k: int,
  *,
  relation: Callable[..., Pairs],
  score: Score = cosine(),
  score_params: Any = (),
  same_set: bool = False,
  plan: Plan = Plan(),
) -> tuple[Array, Array, Array]:
  """Finds the positions of the negatives that `hardest` selects, without a gradient.

  Args:
    anchors: as for `hardest`.
    groups: as for `hardest`.
    k: as for `hardest`.
    relation: as for `hardest`.
    score: as for `hardest`.
    score_params: as for `hardest`.
    same_set: as for `hardest`.
    plan: as for `hardest`.

  Returns:
    (similarities [n, k] in descending order, positions [n, k] in the sequence of all groups,
    numbers of negatives [n]). If an anchor has fewer than k negatives, its row ends in (−∞, −1).
  """
  check_integer("k", k, 1)
  check_relation(relation)
  for i, group in enumerate(groups):
    if group.per_anchor:
      raise UserError(
        f"the hardest negatives are selected from shared candidates [m, d], but group {i} is a set "
        "per anchor; put the source of this group to the right of the selection"
      )
  results = reduce(
    _Hardness(relation), anchors, groups, score=score, score_params=score_params,
    same_set=same_set, plan=plan,
    reductions={"hardest": reductions.top_k(k), "is_negative": reductions.sum_},
  )  # fmt: skip
  return jax.lax.stop_gradient((*results["hardest"], results["is_negative"]))


@dataclasses.dataclass(frozen=True)
class _Hardness:
  """Channels: the similarity of the negatives, and whether a candidate is a negative."""

  relation: Callable[..., Pairs]

  def __call__(self, similarity, a, c, shared):
    is_negative = ~(self.relation(a, c, similarity).negative * c["as_negative"] <= 0)
    return {"hardest": jnp.where(is_negative, similarity, -jnp.inf), "is_negative": is_negative}


@dataclasses.dataclass(frozen=True)
class hardest_only(NegativeSource):
  """Keeps the `k` negatives that are most similar to each anchor, among the negatives to its left.

  The selected negatives are gathered to [n, k, d], with their gradient.

  Args:
    k: the number of negatives per anchor, at least 1.

  Raises:
    UserError: k is not an integer of at least 1, or there are fewer than k candidates.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 8, 3))
    >>> source = negatives.in_batch() + negatives.hardest_only(2)
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> [group.vectors.shape for group in groups]
    [(8, 3), (8, 2, 3)]

  References:
    Hoang et al. (dual-view MoCo), 2025, arXiv 2501.16360: the selective filter, applied to a queue.
  """

  k: int

  def __post_init__(self):
    if not isinstance(self.k, int) or self.k < 1:
      raise UserError(f"hardest_only: k must be an integer of at least 1, not {self.k!r}")

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    number = _number(groups)
    if number < self.k:
      raise UserError(
        f"hardest_only cannot keep {self.k:,} of {number:,} candidates; use a smaller k"
      )
    return anchors, _replace_negatives(
      groups, hardest(anchors, groups, self.k, **compare._asdict())
    )


@dataclasses.dataclass(frozen=True)
class hardest_share(NegativeSource):
  """Keeps the ⌈α N_i⌉ negatives that are most similar to anchor i, among the N_i to its left.

  This generalizes the hard contrastive loss to any criterion and any source. The selected negatives
  are gathered to [n, ⌈α m⌉, d] for m candidates, with their gradient.

  Args:
    alpha: the share α of the negatives, 0 < α ≤ 1.

  Raises:
    UserError: α is outside its range.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 8, 3))
    >>> source = negatives.in_batch() + negatives.hardest_share(0.5)
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> [group.vectors.shape for group in groups]
    [(8, 3), (8, 4, 3)]

  References:
    Wang and Liu, Understanding the Behaviour of Contrastive Loss, 2021, arXiv 2012.09740, §4.4.
  """

  alpha: float

  def __post_init__(self):
    if not (isinstance(self.alpha, int | float) and 0 < self.alpha <= 1):
      raise UserError(f"hardest_share: alpha must be above 0 and at most 1, not {self.alpha!r}")

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    k = math.ceil(self.alpha * _number(groups))
    _, positions, number = hardest_positions(anchors, groups, k, **compare._asdict())
    # The factor compensates for rounding errors. In floating point, 0.1 · 30 is slightly more than
    # 3.
    wanted = jnp.ceil(self.alpha * number * (1 - 1e-6))
    positions = jnp.where(jnp.arange(k) < wanted[:, None], positions, -1)
    return anchors, _replace_negatives(groups, gather(groups, positions))


def gather(groups: Sequence[Group], positions: Array) -> Group:
  """Gathers candidates by their positions in the sequence of all groups.

  Args:
    groups: candidates, each [m, d].
    positions: [n, k]. The position −1 gives a candidate whose weight as a negative is 0.

  Returns:
    A set per anchor, [n, k, d].
  """
  everything = jax.tree.map(lambda *parts: jnp.concatenate(parts), *groups)
  selected = jax.tree.map(lambda x: x[jnp.maximum(positions, 0)], everything)
  as_negative = jnp.where(positions >= 0, selected.side["as_negative"], 0)
  return selected.attach(as_negative=as_negative)


def _number(groups: Sequence[Group]) -> int:
  return sum(group.vectors.shape[0] for group in groups)


def _replace_negatives(groups: Sequence[Group], selected: Group) -> tuple[Group, Group]:
  """Returns the keys, as positives only, and the selected candidates, as negatives only."""
  keys, zero = groups[0], jnp.zeros_like(selected.side["as_negative"])
  keys = keys.attach(as_negative=jnp.zeros_like(keys.side["as_negative"]))
  return keys, selected.attach(as_positive=zero)
