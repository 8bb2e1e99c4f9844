"""A memory bank: one vector of every example of the data."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Compare, Group, State, UserError
from contrastax.negatives.queue import entries, put, unfilled, valid_index
from contrastax.negatives.sources import NegativeSource
from contrastax.pairwise import unit


@dataclasses.dataclass(frozen=True)
class bank(NegativeSource):
  """Keeps a moving average of the keys of each of the N examples, and uses these as negatives.

      m_i ← unit(momentum · m_i + (1 − momentum) · unit(k_i))      after a step that has example i
      m_i ← unit(k_i)                                              after the first such step

  If an example has several keys in a step, as in SimCLR, k_i is the sum of their directions. The
  negatives are a shared group [N or sample, d], without a gradient. They have the sides of their
  examples, but the view −1. If an example has several keys, these are the sides of the first one.
  An entry that has no key so far has the weight 0, and is drawn only if fewer than `sample` entries
  have a key. The relation `same_example` leaves out the anchor's own entry. A method needs the size
  of the data, as in `methods.SimCLR(negatives=in_batch() + bank(sample=512), examples=1297, …)`.

  A key with the index −1, which belongs to no example, is not stored. A key with an index of N or
  more raises an error outside of `jax.jit`. A compiled step cannot raise an error, so it ignores
  such a key. In addition to the table, a step needs memory for n² numbers if it has n keys.

  Args:
    sample: the number of entries that are drawn in each step, without replacement and the same for
      all anchors; None: all N.
    momentum: the weight of the old average, at least 0 and below 1.

  Raises:
    UserError: an argument is outside its range, or the method's `examples` is 0 or below `sample`.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 8, 3))
    >>> source = negatives.in_batch() + negatives.bank(sample=4)
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> [group.vectors.shape for group in groups]
    [(8, 3), (4, 3)]

  References:
    Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, 2018, arXiv
    1805.01978, with 4,096 negatives on ImageNet and, in the code, a momentum of 0.5.
    Misra and van der Maaten (PIRL), 2020, arXiv 1912.01991, with 32,000 negatives and a momentum of
    0.5.

  In other libraries:
    In both papers, the anchor's own entry is the positive. The code of Wu et al. starts with random
    vectors, and draws with replacement for each anchor separately.
  """

  sample: int | None = None
  momentum: float = 0.5

  def __post_init__(self):
    if self.sample is not None and (not isinstance(self.sample, int) or self.sample < 1):
      raise UserError(
        f"bank: sample must be an integer of at least 1, or None for all, not {self.sample!r}"
      )
    if not (isinstance(self.momentum, int | float) and 0 <= self.momentum < 1):
      raise UserError(f"bank: momentum must be at least 0 and below 1, not {self.momentum!r}")

  @override
  def init(self, rng: Array, keys: Group, examples: int) -> State:
    if examples < 1:
      raise UserError(
        f"bank keeps a vector of each example of the data, but examples is {examples}; give the "
        "method examples=…, the size of the data"
      )
    if self.sample is not None and self.sample > examples:
      raise UserError(
        f"bank cannot draw {self.sample:,} of {examples:,} examples; use a smaller sample, or None for "
        "all"
      )
    return {"keys": unfilled(keys, examples)}

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    stored = entries(state)
    if self.sample is not None:
      draw = jax.random.uniform(rng, stored.vectors.shape[:1])
      _, drawn = jax.lax.top_k(jnp.where(stored.side["index"] >= 0, draw, -1), self.sample)
      stored = jax.tree.map(lambda x: x[drawn], stored)
    return anchors, (*groups, stored)

  @override
  def advance(self, state: State, keys: Group) -> State:
    stored, index = state["keys"], keys.side["index"]
    examples = len(stored.vectors)
    fix = "give the method examples=…, the size of the data"
    valid = valid_index(index, examples, "the index of a bank's key", fix)
    row = jnp.where(valid, index, 0)
    same = index[:, None] == index
    vectors = unit(keys.vectors)
    new = unit(jnp.matmul(same.astype(vectors.dtype), vectors, precision="highest"))
    old = stored.vectors[row].astype(new.dtype)
    averaged = unit(self.momentum * old + (1 - self.momentum) * new)
    visited = stored.side["index"][row] >= 0
    keys = dataclasses.replace(keys, vectors=jnp.where(visited[:, None], averaged, new))
    # The order of several writes to one row is not defined. So all keys of an example write the
    # same values: the side of the first key, and one average.
    first = jax.tree.map(lambda x: x[same.argmax(1)], keys)
    return {"keys": put(stored, jnp.where(valid, index, examples), first)}
