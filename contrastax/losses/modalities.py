"""Losses between several encoders' vectors, such as images and texts.

Row i of all belongs together. The vectors are normalized: the similarity s is the cosine, and of
more than two the sum of the products of their entries.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastax import criteria
from contrastax.core import Group, UserError
from contrastax.criteria.softmax_core import attach
from contrastax.losses.arrays import candidates, of_index, vectors
from contrastax.pairwise import Plan, cosine, log_sum_exp, multilinear, reduce, sum_, unit
from contrastax.pairwise.inputs import numbers
from contrastax.pairwise.scores.precision import is_half
from contrastax.relations import same_example


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
  a, b = vectors(a=a, b=b)
  one, other = temperature if isinstance(temperature, tuple) else (temperature, temperature)
  side = {"index": of_index(a)} if is_half(a) else {}
  sides = attach(Group(a, side), one), attach(Group(b, side), other)
  # Half precision rounds each pair's gradient once it is whole. The matching pair's, p_ii − 1, would
  # be lost if its parts came from two products; float32 takes the cheaper two.
  reductions = {"all": log_sum_exp, "matching": sum_} if is_half(a) else {"all": log_sum_exp}
  rows, (columns,) = reduce(
    _Logits(is_half(a)), sides[0], (sides[1],), score=cosine(), reductions=reductions, both=True,
    plan=plan,
  )  # fmt: skip
  if is_half(a):
    return (rows["all"] - rows["matching"] + columns["all"] - columns["matching"]) / 2
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
  a, b = vectors(a=a, b=b)
  index = of_index(a)
  return criteria.evaluate(
    criteria.siglip(), candidates(a, index, 0), (candidates(b, index, 1),), bias=bias,
    relation=same_example(), temperature=temperature, plan=plan,
  ).value  # fmt: skip


def symile(*modalities, temperature, shuffles=None, plan=Plan()):
  """Symile: one similarity of all modalities, so that it sees what no pair of them shows.

    L_i = mean_a −log( exp(⟨z¹_i, …, z^m_i⟩/τ) / (exp(⟨z¹_i, …, z^m_i⟩/τ) + Σ_j exp(⟨z^a_i, others_j⟩/τ)) )

  ⟨x, y, …⟩ = Σ_k x_k y_k …; others_j are vectors of the other modalities that do not belong
  together. The mean over a takes every modality as anchor.

  Args:
    modalities: z¹, …, z^m, each [n, d].
    temperature: τ, scalar or [n].
    shuffles: int [m, m − 1, n], `contrastax.negatives.shuffles`: others_j, j ≠ i, are rows
      shuffles[a, ·, j] of the other modalities. None: all n^(m−1) − 1 tuples, which takes
      memory for as many vectors unless m = 2.

  Returns:
    [n]. Of two modalities without shuffles: `clip`. With n = 1 there is no negative: 0.

  Saporta et al. 2024, arXiv 2411.01053, eq. 3. A shuffle may draw rows that belong together.
  """
  if len(modalities) < 2:
    raise UserError(f"symile takes at least two modalities, not {len(modalities)}")
  modalities = vectors(**{f"modality {a}": z for a, z in enumerate(modalities)})
  m, n = len(modalities), len(modalities[0])
  if shuffles is not None and jnp.shape(shuffles) != (m, m - 1, n):
    raise UserError(
      f"shuffles of {m} modalities of {n} rows are {(m, m - 1, n)}, not {jnp.shape(shuffles)}"
    )
  if shuffles is not None:
    shuffles = _rows(shuffles, n)
  units = [unit(z) for z in modalities]
  together = functools.reduce(jnp.multiply, units).sum(1)
  total = 0.0
  for a, anchor in enumerate(units):
    others = units[:a] + units[a + 1 :]
    if shuffles is not None:
      rows = [z[places] for z, places in zip(others, shuffles[a], strict=True)]
      itself = of_index(anchor)
    else:
      grid = jnp.meshgrid(*[of_index(z) for z in others], indexing="ij")
      rows = [z[places.ravel()] for z, places in zip(others, grid, strict=True)]
      same = functools.reduce(jnp.logical_and, [places == grid[0] for places in grid])
      itself = jnp.where(same, grid[0], -1).ravel()
    anchors = attach(Group(anchor, {"index": of_index(anchor)}), temperature)
    r = reduce(
      _NotTogether(), anchors, (Group(jnp.concatenate(rows, 1), {"index": itself}),),
      score=multilinear(m - 1), reductions={"others": log_sum_exp}, plan=plan,
    )  # fmt: skip
    total += jax.nn.softplus(r["others"] - together / anchors.side["temperature"])
  return total / m


def _rows(shuffles, n):
  """Shuffles as an array of JAX; refuses what is known not to be rows 0 … n − 1."""
  rows = numbers("shuffles", shuffles)
  if not jnp.issubdtype(rows.dtype, jnp.integer):
    raise UserError(f"shuffles are rows, integers, not {rows.dtype}")
  if not isinstance(rows, jax.core.Tracer):
    known = np.asarray(rows)
    if not ((known >= 0) & (known < n)).all():
      raise UserError(f"shuffles are rows 0 to {n - 1}, not {known.min()} to {known.max()}")
  return rows


@dataclasses.dataclass(frozen=True)
class _NotTogether:
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
