"""A memory bank: one vector of every example of the data."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import UserError
from contrastax.negatives.queue import entries, put, unfilled, valid_index
from contrastax.negatives.sources import NegativeSource
from contrastax.pairwise import unit


@dataclasses.dataclass(frozen=True)
class bank(NegativeSource):
  """Of each of the N examples a moving average of its keys is kept, and is a negative.

    m_i ← unit(momentum · m_i + (1 − momentum) · unit(k_i))      after a step that has example i
    m_i ← unit(k_i)                                              the first time

  Several keys of one example, as SimCLR has: k_i is the sum of their directions. Negatives are all
  entries, or `sample` of them, drawn anew each step without replacement and the same for all
  anchors; a shared group [N or sample, d], without gradient. They carry what their examples carry
  (of several keys, the first's) but are of no view (−1). What was not visited yet weighs nothing,
  and is drawn only where fewer than `sample` were.

    methods.SimCLR(negatives=in_batch() + bank(sample=512), examples=1297)

  The anchor's own entry `same_example` leaves out; in the papers it is the positive. Wu et al. 2018,
  arXiv 1805.01978 (instance discrimination): 4,096 negatives on ImageNet; Misra & van der Maaten
  2020, arXiv 1912.01991 (PIRL): 32,000, momentum 0.5, as in the code of the former. That code begins
  with random vectors, and draws for each anchor apart, with replacement.

  A key of index −1, of no example, is not kept. Nor is one of an index of N or more: in a compiled
  step nothing can say so, nor is another's entry touched; outside of one it is an error. Beside the
  table, a step takes n² numbers.

  Raises UserError where the method's `examples` is 0, or below `sample`.
  """

  sample: int | None = None
  momentum: float = 0.5

  def __post_init__(self):
    if self.sample is not None and (not isinstance(self.sample, int) or self.sample < 1):
      raise UserError(
        f"bank: sample is a number of examples, at least 1, or None for all, not {self.sample!r}"
      )
    if not (isinstance(self.momentum, int | float) and 0 <= self.momentum < 1):
      raise UserError(f"bank: momentum is at least 0 and below 1, not {self.momentum!r}")

  def init(self, rng, keys, examples):
    if examples < 1:
      raise UserError(
        f"bank keeps a vector of each example of the data, and examples is {examples}; give the "
        "method examples=…, their number"
      )
    if self.sample is not None and self.sample > examples:
      raise UserError(
        f"bank draws {self.sample:,} of {examples:,} examples; take a smaller sample, or None for all"
      )
    return {"keys": unfilled(keys, examples)}

  def candidates(self, state, anchors, groups, rng, compare):
    held = entries(state)
    if self.sample is not None:
      draw = jax.random.uniform(rng, held.vectors.shape[:1])
      _, chosen = jax.lax.top_k(jnp.where(held.side["index"] >= 0, draw, -1), self.sample)
      held = jax.tree.map(lambda x: x[chosen], held)
    return anchors, (*groups, held)

  def advance(self, state, keys):
    kept, index = state["keys"], keys.side["index"]
    examples = len(kept.vectors)
    mend = "give the method examples=…, the size of the data"
    within = valid_index(index, examples, "the index of a bank's key", mend)
    own = jnp.where(within, index, 0)
    same = index[:, None] == index
    vectors = unit(keys.vectors)
    new = unit(jnp.matmul(same.astype(vectors.dtype), vectors, precision="highest"))
    old = kept.vectors[own].astype(new.dtype)
    averaged = unit(self.momentum * old + (1 - self.momentum) * new)
    visited = kept.side["index"][own] >= 0
    keys = dataclasses.replace(keys, vectors=jnp.where(visited[:, None], averaged, new))
    # All keys of an example write the same, its first's, for the order of writes is not defined.
    first = jax.tree.map(lambda x: x[same.argmax(1)], keys)
    return {"keys": put(kept, jnp.where(within, index, examples), first)}
