"""The global contrastive loss on arrays."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax import criteria
from contrastax.core import Array, Schedule, State, UserError
from contrastax.losses.arrays import two_views
from contrastax.pairwise import Plan
from contrastax.pairwise.inputs import numbers
from contrastax.relations import other_view, same_example


def sogclr(
  z1: ArrayLike,
  z2: ArrayLike,
  *,
  index: ArrayLike,
  memory: State,
  temperature: ArrayLike,
  gamma: float | Schedule = 0.9,
  relative: bool = True,
  bimodal: bool = False,
  plan: Plan = Plan(),
) -> tuple[Array, State]:
  """SogCLR loss: DCL with a moving average over the steps as the denominator of each example.

      g_i = mean_j exp((s(z_i, z_j) − s(z_i, z_i⁺)) / τ_i)
      u_i ← (1 − γ) u_i + γ g_i,    u_i ← g_i at the first visit
      L_i = log u_i,    ∇L_i = ∇g_i / u_i

  j runs over the vectors of the other examples in both views, or, with `bimodal`, in the other
  modality only.

  Args:
    z1: vectors of the first view or modality, [n, d].
    z2: vectors of the second view or modality, [n, d]. Row i of z1 and z2 belongs to the same
      example.
    index: numbers of the examples in the data set, integers [n]. They may repeat.
    memory: memory that the previous step returned. In the first step, pass
      `criteria.sogclr().init(size)`, where size is the number of examples, or twice that number
      with `bimodal`.
    temperature: temperature τ > 0, scalar or [2n].
    gamma: weight γ of the new value in the average, in (0, 1]; or a schedule of the step.
    relative: whether the average is relative to the positive; see `criteria.sogclr`.
    bimodal: whether z1 and z2 are two modalities, each with its own averages.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [2n], with the vectors of z1 first; and the memory for the next step.
    With γ = 1 the loss equals `dcl` minus log(2n − 2), the number of negatives. With n = 1 there
    are no negatives and the loss is 0.

  Raises:
    UserError: `index` does not have one entry per row of z1, or an index is outside the memory.

  Example:
    >>> import jax
    >>> from contrastax import criteria, losses
    >>> z1, z2 = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> memory = criteria.sogclr().init(100)
    >>> index = jax.numpy.arange(8)
    >>> loss, memory = losses.sogclr(z1, z2, index=index, memory=memory, temperature=0.1)
    >>> loss.shape
    (16,)

  References:
    Yuan et al., "Provable Stochastic Optimization for Global Contrastive Learning", 2022, arXiv
    2202.12387, algorithm 1.

  In other libraries:
    The loss of the paper is τ times the sum of the means of the two views.
  """
  views = two_views(z1, z2)
  if jnp.shape(index) != jnp.shape(z1)[:1]:
    raise UserError(
      f"index must have one entry for each row of z1, which has the shape {jnp.shape(z1)}, "
      f"not the shape {jnp.shape(index)}"
    )
  index = numbers("index", index)
  row = jnp.tile(index, 2)
  if bimodal:
    size = memory["visited"].size // 2
    row = jnp.where(row < size, row + size * views.side["view"], -1)
  outcome = criteria.evaluate(
    criteria.sogclr(gamma, relative),
    views.attach(row=row),
    (views,),
    relation=same_example() & other_view() if bimodal else same_example(),
    temperature=temperature,
    same_set=True,
    memory=memory,
    plan=plan,
  )
  return outcome.value, outcome.memory
