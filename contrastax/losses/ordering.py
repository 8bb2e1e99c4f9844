"""The group ordering loss."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax import negatives
from contrastax.core import Array, check_integer
from contrastax.losses.arrays import check_vectors, make_group, row_index
from contrastax.pairwise import Plan, cosine, unit
from contrastax.pairwise.inputs import check_positive
from contrastax.relations import same_example


def group_ordering(
  z1: ArrayLike,
  z2: ArrayLike,
  *,
  k: int = 10,
  steepness: ArrayLike = 1.0,
  detach_candidates: bool = True,
  plan: Plan = Plan(),
) -> Array:
  """GroCo loss: a sorting network compares each positive with the hardest negatives of its anchor.

      x_i = the similarities of the k hardest negatives in ascending order, then of the positive
      P_i = soft permutation of an odd-even sorting network over x_i, in which neighbors are
            exchanged with probability F(steepness · (left − right)),  F(v) = ½ + arctan(v)/π
      L_i = mean over the entries e of the cross-entropy between (1 if e is the positive, else 0)
            and the probability that e is sorted to the last place

  The similarity is the cosine. The negatives of an anchor are the other vectors of its own view.
  The order among the negatives does not matter.

  Args:
    z1: vectors of the first view, [n, d].
    z2: vectors of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    k: number of negatives per anchor, at least 1. If there are fewer, all are used.
    steepness: steepness > 0 of the sorting network, an inverse temperature.
    detach_candidates: whether the gradient flows into anchors only, as in the paper.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [2n], with the vectors of z1 first. With n = 1 there are no negatives
    and the loss is 0. The hardest negatives [n, k, d] and the permutations [n, k + 1, k + 1] are
    stored, so memory is linear in n but not in k.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.group_ordering(z1, z2, k=3).shape
    (16,)

  References:
    Shvetsova et al., "Learning by Sorting: Self-supervised Learning with Group Ordering
    Constraints", 2023, arXiv 2301.02009, eqs. 4 to 7, with one positive.
  """
  z1, z2 = check_vectors(z1=z1, z2=z2)
  check_integer("k", k, 1)
  check_positive("steepness", steepness)
  n = len(z1)
  if n == 1:
    return 0 * jnp.tile((unit(z1) * unit(z2)).sum(1), 2)  # 0 · NaN remains NaN

  def sorted_similarities(z: Array, other: Array) -> Array:
    group = make_group(z, row_index(z), 0)
    hard = negatives.hardest(
      group, (group,), min(k, n - 1), relation=same_example(), same_set=True, plan=plan
    ).vectors
    if detach_candidates:
      hard, other = jax.lax.stop_gradient((hard, other))
    ascending = cosine()((), z, hard)[:, ::-1]
    positive = (unit(z) * unit(other)).sum(1, keepdims=True)
    return jnp.concatenate([ascending, positive], 1)

  x = jnp.concatenate([sorted_similarities(z1, z2), sorted_similarities(z2, z1)])
  permutation = _soft_sort(x, steepness)
  last, before = permutation[:, :, -1], permutation[:, :, :-1].sum(2)
  is_positive = jnp.arange(x.shape[1]) == x.shape[1] - 1
  return -jnp.log(jnp.where(is_positive, last, before)).mean(1)


def _soft_sort(x: Array, steepness: ArrayLike) -> Array:
  """Returns P [n, l, l] of x [n, l]: P_ab is the probability that entry a is sorted to place b."""
  n, length = x.shape
  permutation = jnp.broadcast_to(jnp.eye(length, dtype=x.dtype), (n, length, length))
  for layer in range(length):
    left = jnp.arange(layer % 2, length - 1, 2)
    step = steepness * (x[:, left + 1] - x[:, left])
    # arctan2(1, −v)/π equals ½ + arctan(v)/π and is also accurate if the result is close to 0.
    stay, swap = (jnp.arctan2(1.0, -v) / jnp.pi for v in (step, -step))
    x = _exchange(x, left, stay, swap)
    permutation = _exchange(permutation, left, stay[:, None], swap[:, None])
  return permutation


def _exchange(x: Array, left: Array, stay: Array, swap: Array) -> Array:
  """Returns x with neighbors along the last axis mixed by the probability of their exchange."""
  a, b = x[..., left], x[..., left + 1]
  x = x.at[..., left].set(stay * a + swap * b)
  return x.at[..., left + 1].set(stay * b + swap * a)
