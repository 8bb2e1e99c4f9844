"""The soft nearest neighbor loss."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array
from contrastax.criteria.softmax_core import attach_temperature, difference
from contrastax.losses.arrays import labeled_group
from contrastax.pairwise import Plan, log_sum_exp, negative_squared_distance, reduce
from contrastax.relations import same_label


def soft_nearest_neighbor(
  z: ArrayLike, labels: ArrayLike, *, temperature: ArrayLike, plan: Plan = Plan()
) -> Array:
  """Soft nearest neighbor loss: the log-probability that a sampled neighbor has the anchor's label.

      L_i = −log( Σ_{p ∈ P(i)} exp(−‖z_i − z_p‖²/τ) / Σ_{k ≠ i} exp(−‖z_i − z_k‖²/τ) )

  P(i) are the other vectors that have the label of vector i.

  Args:
    z: vectors [n, d]. The loss does not normalize them.
    labels: class numbers [n]; −1 for a vector without a label.
    temperature: temperature τ > 0, scalar or [n], in units of a squared distance.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [n]. It is 0 for an anchor without a positive, and for an anchor
    without a negative.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z = jax.random.normal(jax.random.key(0), (4, 8))
    >>> losses.soft_nearest_neighbor(z, jax.numpy.array([0, 0, 1, 1]), temperature=1.0).shape
    (4,)

  References:
    Frosst et al., "Analyzing and Improving Representations with the Soft Nearest Neighbor Loss",
    2019, arXiv 1902.01889, eq. 1.
    Goldberger et al., "Neighbourhood Components Analysis", 2004, which it equals for unit vectors.

  In other libraries:
    Public implementations add 1e-9 or 1e-5 inside the logarithm, which bounds the loss. This
    function does not.
  """
  group = attach_temperature(labeled_group(z, labels), temperature)
  reduced = reduce(
    _SoftNeighbors(),
    group,
    (group,),
    score=negative_squared_distance(),
    reductions={"all": log_sum_exp, "positive": log_sum_exp},
    same_set=True,
    plan=plan,
  )
  return difference(reduced["positive"] != -jnp.inf, reduced["all"], reduced["positive"])


@dataclasses.dataclass(frozen=True)
class _SoftNeighbors:
  def __call__(self, similarity, a, c, shared):
    pairs = same_label()(a, c, similarity)
    logit = similarity / a["temperature"]
    return {
      "positive": jnp.where(pairs.positive, logit, -jnp.inf),
      "all": jnp.where(pairs.positive | pairs.negative, logit, -jnp.inf),
    }
