"""The soft nearest neighbor loss."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from contrastax.criteria.softmax_core import attach, difference
from contrastax.losses.arrays import (
  labeled,
)  # fmt: skip
from contrastax.pairwise import (
  Plan,
  log_sum_exp,
  negative_squared_distance,
  reduce,
)  # fmt: skip
from contrastax.relations import same_label


def soft_nearest_neighbor(z, labels, *, temperature, plan=Plan()):
  """Soft nearest neighbor loss: the log of the chance to meet a neighbor of one's own class.

    L_i = −log( Σ_{p ∈ P(i)} exp(−‖z_i − z_p‖²/τ) / Σ_{k ≠ i} exp(−‖z_i − z_k‖²/τ) )

  Args:
    z: [n, d], as it is.
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    temperature: τ > 0, scalar or [n], in units of a squared distance.

  Returns:
    [n], 0 for an anchor without a positive; and for one without a negative.

  Frosst et al. 2019, arXiv 1902.01889, eq. 1. Of unit vectors it is neighborhood component
  analysis (Goldberger et al. 2004). Public code adds 1e-9 or 1e-5 under the logarithm, where the
  loss stops to grow; here it does not.
  """
  group = attach(labeled(z, labels), temperature)
  r = reduce(
    _SoftNeighbors(), group, (group,), score=negative_squared_distance(), same_set=True,
    reductions={"all": log_sum_exp, "positive": log_sum_exp}, plan=plan,
  )  # fmt: skip
  return difference(r["positive"] != -jnp.inf, r["all"], r["positive"])


@dataclasses.dataclass(frozen=True)
class _SoftNeighbors:
  def __call__(self, similarity, a, c, shared):
    pairs = same_label()(a, c, similarity)
    logit = similarity / a["temperature"]
    return {
      "positive": jnp.where(pairs.positive, logit, -jnp.inf),
      "all": jnp.where(pairs.positive | pairs.negative, logit, -jnp.inf),
    }
