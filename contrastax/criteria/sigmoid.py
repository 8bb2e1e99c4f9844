"""The sigmoid loss on groups of candidates: no softmax, and so no competition."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from contrastax.core import Criterion, Outcome
from contrastax.criteria.softmax_core import Channels, softmax_reductions, times
from contrastax.pairwise import sum_
from contrastax.pairwise.inputs import check_numbers


@dataclasses.dataclass(frozen=True)
class siglip(Criterion):
  """The sigmoid loss on groups: every pair on its own is a match or is not.

    L_i = −Σ_j w⁺_ij log σ(ℓ_ij + b) − Σ_j w⁻_ij log σ(−(ℓ_ij + b))

  It is called with `bias`, the scalar b, which is learned with the temperature:
  `temperatures.learned(0.1, bias=-10.0)`. An anchor with neither positives nor negatives has
  value 0. For the other arguments see `contrastax.criteria`.

  Zhai et al. 2023, arXiv 2303.15343, eq. 1.
  """

  learns_bias: ClassVar[bool] = True

  def __call__(self, anchors, groups, compare, *, temperature, bias=0.0, memory=(), stats=()):
    check_numbers(bias=bias)
    reductions = {"sigmoid": sum_}
    found = softmax_reductions(
      _Sigmoid(compare.relation),
      anchors,
      groups,
      compare,
      temperature,
      reductions,
      stats,
      jnp.asarray(bias),
    )
    return Outcome(found.reductions["sigmoid"], found.weight, found.stats, memory)


@dataclasses.dataclass(frozen=True)
class _Sigmoid(Channels):
  def __call__(self, similarity, a, c, bias):
    pairs = self.relation(a, c, similarity)
    logit = similarity / a["temperature"] + bias
    match = times(pairs.positive, c["as_positive"] * jax.nn.softplus(-logit))
    none = times(pairs.negative, c["as_negative"] * jax.nn.softplus(logit))
    return {**super().__call__(similarity, a, c, ()), "sigmoid": match + none}
