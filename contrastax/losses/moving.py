"""The global contrastive loss on arrays."""

import jax.numpy as jnp

from contrastax import criteria
from contrastax.core import UserError
from contrastax.losses.arrays import two_views
from contrastax.pairwise import Plan
from contrastax.pairwise.inputs import numbers
from contrastax.relations import other_view, same_example


def sogclr(
  z1, z2, *, index, memory, temperature, gamma=0.9, relative=True, bimodal=False, plan=Plan()
):
  """SogCLR's loss: DCL whose denominator is a moving average over the steps, of each example.

    g_i = mean_j exp((s(z_i, z_j) − s(z_i, z_i⁺)) / τ_i)
    u_i ← (1 − γ) u_i + γ g_i,    u_i ← g_i the first time
    L_i = log u_i,    ∇L_i = ∇g_i / u_i

  with j over the other examples' vectors of both views, or, `bimodal`, of the other modality alone.

  Args:
    z1, z2: [n, d], two views; or two modalities. Row i of both is the same example.
    index: int [n], the examples' places in the data, which may repeat.
    memory: of the step before; at first `criteria.sogclr().init(size)`, size the number of
      examples, of two modalities twice that.
    temperature: τ, scalar or [2n].
    gamma: γ in (0, 1], or a schedule of the step. relative: see `criteria.sogclr`.

  Returns:
    [2n], those of z1 first, and the next memory. With γ = 1 it is `dcl` less log(2n − 2), the number
    of negatives. With n = 1 there is no negative: 0.

  Yuan et al. 2022, arXiv 2202.12387, algorithm 1, whose loss is τ times the sum of two views' means.
  """
  views = two_views(z1, z2)
  if jnp.shape(index) != jnp.shape(z1)[:1]:
    raise UserError(f"index is one for each row of z1, not {jnp.shape(index)} for {jnp.shape(z1)}")
  index = numbers("index", index)
  row = jnp.tile(index, 2)
  if bimodal:
    size = memory["visited"].size // 2
    row = jnp.where(row < size, row + size * views.side["view"], -1)
  outcome = criteria.evaluate(
    criteria.sogclr(gamma, relative), views.attach(row=row), (views,), temperature=temperature,
    relation=same_example() & other_view() if bimodal else same_example(), same_set=True,
    memory=memory, plan=plan,
  )  # fmt: skip
  return outcome.value, outcome.memory
