"""The circle loss."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array
from contrastax.losses.arrays import compute_dtype, labeled_group
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce
from contrastax.pairwise.inputs import check_numbers, check_positive
from contrastax.propagate import relu
from contrastax.relations import same_label


def circle(
  z: ArrayLike,
  labels: ArrayLike,
  *,
  margin: ArrayLike = 0.25,
  scale: ArrayLike = 256.0,
  plan: Plan = Plan(),
) -> Array:
  """Circle loss: a loss of labeled vectors that weights each pair by its distance from its goal.

      L_i = log(1 + Σ_n exp(γ α_n (s_in − m)) Σ_p exp(−γ α_p (s_ip − 1 + m)))
      α_p = max(0, 1 + m − s_ip),  α_n = max(0, s_in + m)

  p runs over the positives of anchor i, n over its negatives, and s is the cosine similarity. No
  gradient flows through the weights α.

  Args:
    z: vectors [n, d]. The loss normalizes them.
    labels: class numbers [n]; −1 for a vector without a label.
    margin: margin m, in units of the cosine.
    scale: scale γ > 0. The paper uses 256 for faces and 80 for fine-grained classes.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [n].

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z = jax.random.normal(jax.random.key(0), (4, 8))
    >>> losses.circle(z, jax.numpy.array([0, 0, 1, 1])).shape
    (4,)

  References:
    Sun et al., "Circle Loss", 2020, arXiv 2002.10857, eq. 6.

  In other libraries:
    fast-reid computes the loss per anchor, as here. pytorch-metric-learning averages only over
    anchors with a loss above 0. Some implementations sum all pairs of the batch inside one
    logarithm.
  """
  check_numbers(margin=margin)
  check_positive("scale", scale)
  group = labeled_group(z, labels)
  dtype = compute_dtype(z)
  reduced = reduce(
    _Circle(),
    group,
    (group,),
    score=cosine(),
    reductions={"positive": log_sum_exp, "negative": log_sum_exp},
    shared=(jnp.asarray(margin, dtype), jnp.asarray(scale, dtype)),
    same_set=True,
    plan=plan,
  )
  return jax.nn.softplus(reduced["positive"] + reduced["negative"])


@dataclasses.dataclass(frozen=True)
class _Circle:
  def __call__(self, similarity, a, c, shared):
    margin, scale = shared
    pairs = same_label()(a, c, similarity)
    fixed = jax.lax.stop_gradient(similarity)
    attraction = -scale * relu(1 + margin - fixed) * (similarity - 1 + margin)
    repulsion = scale * relu(fixed + margin) * (similarity - margin)
    return {
      "positive": jnp.where(pairs.positive, attraction, -jnp.inf),
      "negative": jnp.where(pairs.negative, repulsion, -jnp.inf),
    }
