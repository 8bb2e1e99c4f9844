"""The sigmoid loss on groups of candidates: no softmax, and so no competition."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Contrast
from contrastax.losses.family import Channels, find, times
from contrastax.pairwise import Plan, cosine, sum_
from contrastax.pairwise.inputs import check_numbers


def siglip(
  anchors, groups, *, relation, temperature, bias=0.0, score=cosine(), score_params=(),
  same_set=False, memory=(), stats=(), plan=Plan(),
):  # fmt: skip
  """The sigmoid loss on groups: every pair on its own is a match or is not.

    L_i = −Σ_j w⁺_ij log σ(ℓ_ij + b) − Σ_j w⁻_ij log σ(−(ℓ_ij + b))

  bias: b, scalar, learned with the temperature: `temperatures.learned(0.1, bias=-10.0)`.
  An anchor with neither positives nor negatives has value 0. For the other
  arguments see `softmax`.

  Zhai et al. 2023, arXiv 2303.15343, eq. 1.
  """
  check_numbers(bias=bias)
  found = find(
    _Sigmoid(relation), anchors, groups, temperature, {"sigmoid": sum_}, stats, score=score,
    score_params=score_params, shared=jnp.asarray(bias), same_set=same_set, plan=plan,
  )  # fmt: skip
  return Contrast(found.rows["sigmoid"], found.stats, memory)


@dataclasses.dataclass(frozen=True)
class _Sigmoid(Channels):
  def __call__(self, similarity, a, c, bias):
    pairs = self.relation(a, c, similarity)
    logit = similarity / a["temperature"] + bias
    match = times(pairs.positive, c["as_positive"] * jax.nn.softplus(-logit))
    none = times(pairs.negative, c["as_negative"] * jax.nn.softplus(logit))
    return {**super().__call__(similarity, a, c, ()), "sigmoid": match + none}
