"""Losses between two encoders' vectors, such as images and texts, in both directions.

Row i of both belongs together. The vectors are normalised: the similarity s is the cosine.
"""

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Group
from contrastax.losses.arrays import check_same_shape, of_index
from contrastax.losses.family import attach
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, sum_


def clip(a, b, *, temperature, plan=Plan()):
  """CLIP's loss: the mean of InfoNCE from a to b and from b to a.

    L_i = ½ (−s(a_i, b_i)/τ + log Σ_j exp(s(a_i, b_j)/τ))
        + ½ (−s(a_i, b_i)/τ' + log Σ_j exp(s(a_j, b_i)/τ'))

  Both directions are read from one product.

  Args:
    a, b: [n, d].
    temperature: τ = τ', scalar or [n]; or the pair (τ, τ'), each scalar or [n]. CLIP's
      logit scale is 1/τ, learned as its logarithm.

  Returns:
    [n], for row i the mean of its two directions. With n = 1 there is no negative: 0 but for
    rounding.

  Radford et al. 2021, arXiv 2103.00020, fig. 3. A code that divides columns by τ [n] applies
  an anchor's temperature to candidates; this never does.
  """
  check_same_shape(a=a, b=b)
  one, other = temperature if isinstance(temperature, tuple) else (temperature, temperature)
  sides = attach(Group(a, {}), one), attach(Group(b, {}), other)
  rows, (columns,) = reduce(
    _Logits(), sides[0], (sides[1],), score=cosine(), rows={"all": log_sum_exp}, both=True,
    plan=plan,
  )  # fmt: skip
  matching = cosine()((), a, b[:, None])[:, 0]
  losses = (
    found["all"] - matching / side.side["temperature"]
    for found, side in zip((rows, columns), sides, strict=True)
  )
  return sum(losses) / 2


def siglip(a, b, *, temperature, bias, plan=Plan()):
  """The sigmoid loss: every pair on its own is a match or is not.

    L_i = −Σ_j log σ( y_ij (s(a_i, b_j)/τ + bias) ),    y_ij = 1 if i = j, else −1

  Args:
    a, b: [n, d].
    temperature: τ, scalar or [n], one per row of a. The paper learns log 1/τ, from log 10.
    bias: scalar, added to every logit. The paper learns it, from −10, so that the many
      negatives do not swamp the beginning.

  Returns:
    [n], the sum over row i of all pairs; the paper's loss is the mean of this.

  Zhai et al. 2023, arXiv 2303.15343, eq. 1.
  """
  check_same_shape(a=a, b=b)
  index = of_index(a)
  anchors = attach(Group(a, {"index": index}), temperature)
  keys = Group(b, {"index": index})
  found = reduce(
    _Sigmoid(), anchors, (keys,), score=cosine(), rows={"loss": sum_}, shared=jnp.asarray(bias),
    plan=plan,
  )  # fmt: skip
  return found["loss"]


@dataclasses.dataclass(frozen=True)
class _Logits:
  def __call__(self, similarity, a, c, shared):
    return {"all": similarity / a["temperature"]}


@dataclasses.dataclass(frozen=True)
class _Sigmoid:
  def __call__(self, similarity, a, c, bias):
    logit = similarity / a["temperature"] + bias
    match = jnp.where(a["index"] == c["index"], 1, -1)
    return {"loss": jax.nn.softplus(-match * logit)}
