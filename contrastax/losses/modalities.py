"""Losses between the vectors of several encoders, such as images and texts.

Row i of all arrays belongs to the same example. The losses normalize the vectors. The similarity s
of two vectors is the cosine. The similarity of more vectors is the sum over the products of their
entries.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from contrastax import criteria
from contrastax.core import Array, Group, UserError
from contrastax.criteria.softmax_core import attach_temperature
from contrastax.losses.arrays import check_vectors, make_group, row_index
from contrastax.pairwise import Plan, cosine, log_sum_exp, multilinear, reduce, sum_, unit
from contrastax.pairwise.inputs import numbers
from contrastax.pairwise.scores.precision import is_half
from contrastax.relations import same_example


def clip(
  a: ArrayLike,
  b: ArrayLike,
  *,
  temperature: ArrayLike | tuple[ArrayLike, ArrayLike],
  plan: Plan = Plan(),
) -> Array:
  """CLIP loss: the mean of InfoNCE from a to b and from b to a.

      L_i = ½ (−s(a_i, b_i)/τ + log Σ_j exp(s(a_i, b_j)/τ))
          + ½ (−s(a_i, b_i)/τ' + log Σ_j exp(s(a_j, b_i)/τ'))

  Both directions use the same similarities, which are computed once.

  Args:
    a: vectors of one modality, [n, d].
    b: vectors of the other modality, [n, d]. Row i of a and b belongs to the same example.
    temperature: temperature τ = τ' > 0, scalar or [n]; or the pair (τ, τ'). The logit scale of CLIP
      is 1/τ.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The mean of both directions for each example, [n]. With n = 1 there are no negatives and the
    loss is 0 up to rounding.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> images, texts = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.clip(images, texts, temperature=0.07).shape
    (8,)

  References:
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
    arXiv 2103.00020, fig. 3.

  In other libraries:
    Code that divides the columns of the similarity matrix by τ [n] applies the temperature of an
    anchor to its candidates. This function always uses the temperature of the anchor.
  """
  a, b = check_vectors(a=a, b=b)
  temperatures = temperature if isinstance(temperature, tuple) else (temperature, temperature)
  half = is_half(a)
  side = {"index": row_index(a)} if half else {}
  group_a, group_b = (
    attach_temperature(Group(vectors, side), each)
    for vectors, each in zip((a, b), temperatures, strict=True)
  )
  # In half precision, the gradient of each pair is rounded. As the sum of two rounded gradients,
  # that of a positive, p_ii − 1, would lose its precision. So the positive is taken from the same
  # product. In float32 a second product is faster.
  reductions = {"all": log_sum_exp, "matching": sum_} if half else {"all": log_sum_exp}
  rows, (columns,) = reduce(
    _Logits(half),
    group_a,
    (group_b,),
    score=cosine(),
    reductions=reductions,
    both=True,
    plan=plan,
  )
  assert columns is not None  # it is None only for a set per anchor
  if half:
    return (rows["all"] - rows["matching"] + columns["all"] - columns["matching"]) / 2
  matching = cosine()((), a, b[:, None])[:, 0]
  a_to_b = rows["all"] - matching / group_a.side["temperature"]
  b_to_a = columns["all"] - matching / group_b.side["temperature"]
  return (a_to_b + b_to_a) / 2


def siglip(
  a: ArrayLike, b: ArrayLike, *, temperature: ArrayLike, bias: ArrayLike, plan: Plan = Plan()
) -> Array:
  """Sigmoid loss of SigLIP: classifies each pair independently as matching or not.

      L_i = −Σ_j log σ( y_ij (s(a_i, b_j)/τ + bias) ),    y_ij = 1 if i = j, else −1

  Args:
    a: vectors of one modality, [n, d].
    b: vectors of the other modality, [n, d]. Row i of a and b belongs to the same example.
    temperature: temperature τ > 0, scalar or one per row of a, [n]. The paper learns log 1/τ and
      starts it at log 10.
    bias: scalar that is added to each logit. The paper learns it and starts it at −10, so that the
      many negatives do not dominate the first steps.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The sum over all pairs of each row of a, [n]. The loss of the paper is the mean of these.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> images, texts = jax.random.normal(jax.random.key(0), (2, 8, 4))
    >>> losses.siglip(images, texts, temperature=0.1, bias=-10.0).shape
    (8,)

  References:
    Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023, arXiv 2303.15343, eq. 1.
  """
  a, b = check_vectors(a=a, b=b)
  index = row_index(a)
  return criteria.evaluate(
    criteria.siglip(),
    make_group(a, index, 0),
    (make_group(b, index, 1),),
    relation=same_example(),
    temperature=temperature,
    bias=bias,
    plan=plan,
  ).value


def symile(
  *modalities: ArrayLike,
  temperature: ArrayLike,
  shuffles: ArrayLike | None = None,
  plan: Plan = Plan(),
) -> Array:
  """Symile loss: contrasts tuples of all modalities by one joint similarity.

      L_i = mean_a −log( exp(⟨z¹_i, …, z^m_i⟩/τ)
                         / (exp(⟨z¹_i, …, z^m_i⟩/τ) + Σ_j exp(⟨z^a_i, others_j⟩/τ)) )
      ⟨x, y, …⟩ = Σ_k x_k y_k …

  others_j are vectors of the other modalities that do not all belong to one example. Each modality
  is the anchor once. The loss depends on information that no pair of modalities has alone.

  Args:
    *modalities: vectors z¹, …, z^m of at least two modalities, each [n, d].
    temperature: temperature τ > 0, scalar or [n].
    shuffles: integers [m, m − 1, n] from `contrastax.negatives.shuffles`. others_j, for j ≠ i, are
      the rows `shuffles[a, :, j]` of the other modalities. None: others_j are all n^(m−1) − 1
      tuples, which needs memory for as many vectors unless m = 2.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each example, [n]. For two modalities without shuffles it equals `clip`. With n = 1
    there are no negatives and the loss is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> image, text, audio = jax.random.normal(jax.random.key(0), (3, 8, 4))
    >>> losses.symile(image, text, audio, temperature=0.1).shape
    (8,)

  References:
    Saporta et al., "Contrasting with Symile", 2024, arXiv 2411.01053, eq. 3. A shuffle may contain
    rows that belong to the same example.
  """
  if len(modalities) < 2:
    raise UserError(f"symile takes at least two modalities, not {len(modalities)}")
  arrays = check_vectors(**{f"modality {a}": z for a, z in enumerate(modalities)})
  m, n = len(arrays), len(arrays[0])
  if shuffles is not None:
    shuffles = _check_shuffles(shuffles, m, n)
  units = [unit(z) for z in arrays]
  together = functools.reduce(jnp.multiply, units).sum(1)
  terms = []
  for a, anchor in enumerate(units):
    others = units[:a] + units[a + 1 :]
    if shuffles is not None:
      rows = [z[places] for z, places in zip(others, shuffles[a], strict=True)]
      index = row_index(anchor)
    else:
      grid = jnp.meshgrid(*[row_index(z) for z in others], indexing="ij")
      rows = [z[places.ravel()] for z, places in zip(others, grid, strict=True)]
      same = functools.reduce(jnp.logical_and, [places == grid[0] for places in grid])
      index = jnp.where(same, grid[0], -1).ravel()
    anchors = attach_temperature(Group(anchor, {"index": row_index(anchor)}), temperature)
    reduced = reduce(
      _NegativeLogits(),
      anchors,
      (Group(jnp.concatenate(rows, 1), {"index": index}),),
      score=multilinear(m - 1),
      reductions={"others": log_sum_exp},
      plan=plan,
    )
    terms.append(jax.nn.softplus(reduced["others"] - together / anchors.side["temperature"]))
  return functools.reduce(jnp.add, terms) / m


def _check_shuffles(shuffles: ArrayLike, m: int, n: int) -> Array:
  if jnp.shape(shuffles) != (m, m - 1, n):
    raise UserError(
      f"shuffles of {m} modalities with {n} rows must have the shape {(m, m - 1, n)}, "
      f"not {jnp.shape(shuffles)}"
    )
  rows = numbers("shuffles", shuffles)
  if not jnp.issubdtype(rows.dtype, jnp.integer):
    raise UserError(f"shuffles must be integers, not {rows.dtype}")
  if not isinstance(rows, Tracer):
    known = np.asarray(rows)
    if not ((known >= 0) & (known < n)).all():
      raise UserError(
        f"shuffles must be row numbers from 0 to {n - 1}, not from {known.min()} to {known.max()}"
      )
  return rows


@dataclasses.dataclass(frozen=True)
class _NegativeLogits:
  def __call__(self, similarity, a, c, shared):
    return {"others": jnp.where(a["index"] == c["index"], -jnp.inf, similarity / a["temperature"])}


@dataclasses.dataclass(frozen=True)
class _Logits:
  matching: bool

  def __call__(self, similarity, a, c, shared):
    logit = similarity / a["temperature"]
    if not self.matching:
      return {"all": logit}
    return {"all": logit, "matching": jnp.where(a["index"] == c["index"], logit, 0)}
