"""The sigmoid loss, which has no softmax over candidates."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from typing_extensions import override

from contrastax.core import Compare, Criterion, Group, Outcome, State
from contrastax.criteria.softmax_core import Channels, softmax_reductions, times
from contrastax.pairwise import sum_
from contrastax.pairwise.inputs import check_numbers


@dataclasses.dataclass(frozen=True)
class siglip(Criterion):
  """Sigmoid loss of SigLIP: classifies each pair independently as matching or not.

      L_i = −Σ_j w⁺_ij log σ(ℓ_ij + b) − Σ_j w⁻_ij log σ(−(ℓ_ij + b))

  A call also takes `bias`, the scalar b, which is learned together with the temperature:
  `temperatures.learned(0.1, bias=-10.0)`. The value of an anchor without positives and negatives
  is 0.

  Example:
    >>> import jax
    >>> from contrastax import criteria, relations
    >>> from contrastax.core import Group
    >>> one, index = jax.numpy.ones(8), jax.numpy.arange(8)
    >>> side = {"index": index, "as_positive": one, "as_negative": one}
    >>> images, texts = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> outcome = criteria.evaluate(
    ...   criteria.siglip(), Group(images, {**side, "view": 0 * index}),
    ...   (Group(texts, {**side, "view": 0 * index + 1}),), relation=relations.same_example(),
    ...   temperature=0.1, bias=-10.0,
    ... )
    >>> outcome.value.shape
    (8,)

  References:
    Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023, arXiv 2303.15343, eq. 1.
  """

  learns_bias: ClassVar[bool] = True

  @override
  def __call__(
    self,
    anchors: Group,
    groups: tuple[Group, ...],
    compare: Compare,
    *,
    temperature: ArrayLike,
    bias: ArrayLike = 0.0,
    memory: State = (),
    stats: tuple[str, ...] = (),
  ) -> Outcome:
    check_numbers(bias=bias)
    reduced = softmax_reductions(
      _Sigmoid(compare.relation),
      anchors,
      groups,
      compare,
      temperature,
      {"sigmoid": sum_},
      stats,
      jnp.asarray(bias),
    )
    return Outcome(reduced.reductions["sigmoid"], reduced.weight, reduced.stats, memory)


@dataclasses.dataclass(frozen=True)
class _Sigmoid(Channels):
  @override
  def __call__(self, similarity, a, c, shared):
    bias = shared
    pairs = self.relation(a, c, similarity)
    logit = similarity / a["temperature"] + bias
    positive = times(pairs.positive, c["as_positive"] * jax.nn.softplus(-logit))
    negative = times(pairs.negative, c["as_negative"] * jax.nn.softplus(logit))
    return {**super().__call__(similarity, a, c, ()), "sigmoid": positive + negative}
