"""Losses on the order of an anchor's candidates."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax import negatives
from contrastax.core import check_integer
from contrastax.losses.arrays import candidates, of_index, vectors
from contrastax.pairwise import Plan, cosine, unit
from contrastax.pairwise.inputs import check_positive
from contrastax.relations import same_example


def group_ordering(z1, z2, *, k=10, steepness=1.0, detach_candidates=True, plan=Plan()):
  """GroCo, learning by sorting: positives are to come after all negatives, in whatever order.

    x_i = the k hardest negatives' similarities, rising, then the positive's
    P_i = soft permutation of an odd-even sorting network over x_i, in which neighbors change
          places with the chance F(steepness · (left − right)),  F(v) = ½ + arctan(v)/π
    L_i = mean over e of the cross-entropy of (1 if e is the positive, else 0) and the chance
          that e comes to the positive's place, the last

  Args:
    z1, z2: [n, d], the two views; row i of both is the same example. An anchor's negatives are
      the others of its own view; s is the cosine.
    k: negatives, at least 1; where there are fewer, all.
    steepness: > 0, an inverse temperature.
    detach_candidates: the gradient moves anchors only, as in the paper.

  Returns:
    [2n], anchors z1 first. With n = 1 there is no negative: 0.
    The hardest are gathered, [n, k, d], and permutations are [n, k + 1, k + 1]: memory is
    linear in n, not in k.

  Shvetsova et al. 2023, arXiv 2301.02009, eqs. 4 to 7, with one positive.
  """
  z1, z2 = vectors(z1=z1, z2=z2)
  check_integer("k", k, 1)
  check_positive("steepness", steepness)
  n = len(z1)
  if n == 1:
    return 0 * jnp.tile((unit(z1) * unit(z2)).sum(1), 2)  # NaN stays NaN
  hold = jax.lax.stop_gradient if detach_candidates else lambda vectors: vectors

  def of_view(z, other):
    group = candidates(z, of_index(z), 0)
    hard = negatives.hardest(
      group, (group,), min(k, n - 1), relation=same_example(), same_set=True, plan=plan
    )
    rising = cosine()((), z, hold(hard.vectors))[:, ::-1]
    positive = (unit(z) * unit(hold(other))).sum(1, keepdims=True)
    return jnp.concatenate([rising, positive], 1)

  x = jnp.concatenate([of_view(z1, z2), of_view(z2, z1)])
  permutation = _sorted_softly(x, steepness)
  last, before = permutation[:, :, -1], permutation[:, :, :-1].sum(2)
  is_positive = jnp.arange(x.shape[1]) == x.shape[1] - 1
  return -jnp.log(jnp.where(is_positive, last, before)).mean(1)


def _sorted_softly(x, steepness):
  """[n, l] to P [n, l, l]: P_ab, the chance that entry a comes to place b."""
  n, length = x.shape
  permutation = jnp.broadcast_to(jnp.eye(length, dtype=x.dtype), (n, length, length))
  for layer in range(length):
    left = jnp.arange(layer % 2, length - 1, 2)
    step = steepness * (x[:, left + 1] - x[:, left])
    # The Cauchy distribution's F, exact in its tail too.
    stay, swap = (jnp.arctan2(1.0, -v) / jnp.pi for v in (step, -step))
    x = _mixed(x, left, stay, swap)
    permutation = _mixed(permutation, left, stay[:, None], swap[:, None])
  return permutation


def _mixed(x, left, stay, swap):
  """Neighbors along the last axis, exchanged with a chance."""
  a, b = x[..., left], x[..., left + 1]
  x = x.at[..., left].set(stay * a + swap * b)
  return x.at[..., left + 1].set(stay * b + swap * a)
