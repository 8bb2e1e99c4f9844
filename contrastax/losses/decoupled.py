"""Decoupled contrastive losses on arrays: the positive is not in the denominator.

The losses normalize the vectors, and s is the cosine similarity. Each returns one value per anchor,
so the loss of the paper is the mean of the result. Temperatures τ > 0 are scalars or have one value
per anchor. They may be traced and differentiated.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from contrastax import criteria
from contrastax.core import Array
from contrastax.losses.arrays import two_views
from contrastax.pairwise import Plan
from contrastax.relations import same_example


def dcl(z1: ArrayLike, z2: ArrayLike, *, temperature: ArrayLike, plan: Plan = Plan()) -> Array:
  """Decoupled contrastive loss: NT-Xent without the positive in the denominator.

      L_i = −s(z_i, z_i⁺)/τ + log Σ_j exp(s(z_i, z_j)/τ)

  j runs over the vectors of the other examples.

  Args:
    z1: vectors of the first view, [n, d].
    z2: vectors of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    temperature: temperature τ > 0, scalar or [2n].
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [2n], with the vectors of z1 first. It has no lower bound. With n = 1
    there are no negatives and the loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.dcl(z1, z2, temperature=0.1).shape
    (16,)

  References:
    Yeh et al., "Decoupled Contrastive Learning", 2022, arXiv 2110.06848, eq. 5.

  In other libraries:
    The paper sums the means of the two directions, which is twice the mean of this result. One
    public port has one direction and does not normalize its inputs.
  """
  views = two_views(z1, z2)
  return criteria.evaluate(
    criteria.dcl(),
    views,
    (views,),
    relation=same_example(),
    temperature=temperature,
    same_set=True,
    plan=plan,
  ).value


def dclw(
  z1: ArrayLike,
  z2: ArrayLike,
  *,
  temperature: ArrayLike,
  sigma: float = 0.5,
  plan: Plan = Plan(),
) -> Array:
  """DCL with a von Mises-Fisher weight of the positive, which is larger for hard positives.

      L_i = −v_i s(z_i, z_i⁺)/τ + log Σ_j exp(s(z_i, z_j)/τ)
      v_i = 2 − exp(s(z_i, z_i⁺)/σ) / mean_k exp(s(z_k, z_k⁺)/σ)

  j runs over the vectors of the other examples. The mean is over the global batch, on all devices.
  No gradient flows through v.

  Args:
    z1: vectors of the first view, [n, d].
    z2: vectors of the second view, [n, d]. Row i of z1 and z2 belongs to the same example.
    temperature: temperature τ > 0, scalar or [2n].
    sigma: width σ > 0 of the weight, in units of the cosine.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [2n], with the vectors of z1 first. With n = 1 there are no negatives
    and the loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.dclw(z1, z2, temperature=0.1).shape
    (16,)

  References:
    Yeh et al., "Decoupled Contrastive Learning", 2022, arXiv 2110.06848, eq. 6.

  In other libraries:
    On several devices, lightly takes the mean over the examples of each device. One public port
    does not stop the gradient through v.
  """
  views = two_views(z1, z2)
  return criteria.evaluate(
    criteria.dclw(sigma),
    views,
    (views,),
    relation=same_example(),
    temperature=temperature,
    same_set=True,
    plan=plan,
  ).value
