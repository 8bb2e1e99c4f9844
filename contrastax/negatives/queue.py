"""Queues of the keys of earlier steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from typing_extensions import override

from contrastax.core import Array, Compare, Group, State, UserError
from contrastax.negatives.sources import NegativeSource, weighted


@dataclasses.dataclass(frozen=True)
class queue(NegativeSource):
  """Uses the last `size` keys of earlier steps as negatives, as in MoCo.

  After each step, its keys replace the oldest keys. So the queue never contains keys of the current
  step. The keys have no gradient. They keep their sides, so a relation can recognize the key of the
  anchor's own example from an earlier epoch; `same_example` leaves it out. The vectors are stored
  as they are. Quantities that the score computes for each vector, such as the length for the
  cosine, are computed once per step.

  Args:
    size: the number of keys, a multiple of the number of keys of a step.

  Raises:
    UserError: `size` is not an integer of at least 1, or not such a multiple.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 8, 3))
    >>> anchors, groups = negatives.on_arrays(
    ...   negatives.queue(16), q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> [group.vectors.shape for group in groups]
    [(8, 3), (16, 3)]

  References:
    He et al. (MoCo), 2019, arXiv 1911.05722, §3.1.

  In other libraries:
    Here, a slot that is not filled yet has the weight 0. The code of MoCo fills the queue with
    random vectors, which are negatives in its first steps.
  """

  size: int

  def __post_init__(self):
    _check_size(self.size)

  @override
  def init(self, rng: Array, keys: Group, examples: int) -> State:
    n = keys.vectors.shape[0]
    if self.size % n:
      problem = "shorter than" if self.size < n else "not a multiple of"
      raise UserError(
        f"a queue of {self.size:,} keys is {problem} the {n:,} keys of a step; "
        f"use {max(1, round(self.size / n)) * n:,}"
      )
    return {"next": jnp.int32(0), "keys": unfilled(keys, self.size)}

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    return anchors, (*groups, entries(state))

  @override
  def advance(self, state: State, keys: Group) -> State:
    slot = state["next"]
    stored = jax.tree.map(
      lambda old, new: jax.lax.dynamic_update_slice_in_dim(
        old, jax.lax.stop_gradient(new).astype(old.dtype), slot, 0
      ),
      state["keys"],
      keys,
    )
    return {"next": (slot + len(keys.vectors)) % self.size, "keys": stored}


@dataclasses.dataclass(frozen=True)
class queues(NegativeSource):
  """Keeps a queue of `size` keys for each value 0 … count − 1 of a side, such as a language.

      slot of key i, which is the r-th key of the value v in this step:  (next_v + r) mod size
      of queue v

  So keys of a frequent value do not replace those of a rare one. The candidates are one group
  [count · size, d] of all queues. With the filter `negatives_share(by)`, an anchor has only
  negatives of its own value. As in `queue`, the keys have no gradient and keep their sides. A step
  may have any number of keys of a value, which are stored in the order of the batch. If there are
  more than `size`, the last `size` are stored.

  A key with the value −1, which means no value, is not stored. A key with another value outside of
  0 … count − 1 raises an error outside of `jax.jit`. A compiled step cannot raise an error, so it
  ignores such a key. With the filter, an anchor with such a value has no negatives in the queues.

  Args:
    size: the number of keys of each queue, at least 1.
    by: the name of the side, which is an integer for each key.
    count: the number of values, at least 1.

  Raises:
    UserError: an argument is outside its range, or the keys have no such side.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 8, 3))
    >>> anchors, groups = negatives.on_arrays(
    ...   negatives.queues(16, by="label", count=2),
    ...   q,
    ...   k,
    ...   label=jnp.arange(8) % 2,
    ...   relation=relations.same_example() & relations.negatives_share("label"),
    ...   rng=jax.random.key(1),
    ... )
    >>> [group.vectors.shape for group in groups]
    [(8, 3), (32, 3)]

  References:
    Wu et al., 2022, arXiv 2206.03281, with a memory bank for each language.
  """

  size: int
  by: str
  count: int

  def __post_init__(self):
    _check_size(self.size)
    if not isinstance(self.count, int) or self.count < 1:
      raise UserError(f"queues: count must be an integer of at least 1, not {self.count!r}")

  @override
  def init(self, rng: Array, keys: Group, examples: int) -> State:
    if self.by not in keys.side:
      raise UserError(
        f"queues needs the side {self.by!r}, but the keys have {', '.join(sorted(keys.side))}; "
        f"add an array {self.by!r} to the data"
      )
    value = keys.side[self.by]
    if value.ndim > 1 or not jnp.issubdtype(value.dtype, jnp.integer):
      raise UserError(
        f"queues needs one integer for each key, but {self.by!r} is {value.dtype} "
        f"{list(value.shape)}; number its values from 0"
      )
    keys = unfilled(keys, self.count * self.size)
    return {"next": jnp.zeros(self.count, jnp.int32), "keys": keys}

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    return anchors, (*groups, entries(state))

  @override
  def advance(self, state: State, keys: Group) -> State:
    slots, added = self._slots(state["next"], keys.side[self.by])
    stored = put(state["keys"], slots, keys)
    return {"next": (state["next"] + added) % self.size, "keys": stored}

  def _slots(self, following: Array, value: Array) -> tuple[Array, Array]:
    """Finds the slots of a step's keys.

    No slot is used twice, because the order of several writes to one slot is not defined.

    Returns:
      The slot of each key, [n], or count · size for a key that is not stored; and the number of
      keys of each value, [count].
    """
    valid = valid_index(
      value, self.count, f"a key's {self.by!r}", "set count to one more than the largest"
    )
    value = jnp.where(valid, value, 0).astype(jnp.int32)
    has_value = valid[:, None] & (value[:, None] == jnp.arange(self.count))
    so_far = jnp.cumsum(has_value, axis=0, dtype=jnp.int32)
    rank = jnp.take_along_axis(so_far, value[:, None], axis=1)[:, 0] - 1
    added = so_far[-1]
    is_stored = valid & (rank >= added[value] - self.size)
    slot = value * self.size + (following[value] + rank) % self.size
    return jnp.where(is_stored, slot, self.count * self.size), added


def entries(state: Any) -> Group:
  """Returns the keys in a queue or bank as negatives.

  The view of a key is −1, because it is not a view of this step. Its weight is its side `weight`,
  or 1. A slot that is not filled has the index −1 and the weight 0.

  Args:
    state: the state of `queue`, `queues` or `bank`.

  Returns:
    A shared group [size, d].

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 4, 3))
    >>> _, (keys, *_) = negatives.on_arrays(
    ...   negatives.in_batch(), q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> source = negatives.queue(8)
    >>> state = source.advance(source.init(jax.random.key(2), keys, examples=4), keys)
    >>> print(negatives.entries(state).side["as_negative"])
    [1. 1. 1. 1. 0. 0. 0. 0.]
  """
  keys = state["keys"]
  zero, no_view = jnp.zeros_like(keys.side["as_positive"]), jnp.full_like(keys.side["view"], -1)
  filled = weighted(zero + (keys.side["index"] >= 0), keys.side)
  return keys.attach(as_positive=zero, as_negative=filled, view=no_view)


def unfilled(keys: Group, size: int) -> Group:
  """Makes empty slots: zeros, with the index −1.

  Args:
    keys: keys with the shapes and types of those that will be stored.
    size: the number of slots.

  Returns:
    A group [size, d].
  """
  empty = jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), keys)
  return empty.attach(index=empty.side["index"] - 1)


def put(stored: Group, slots: Array, keys: Group) -> Group:
  """Stores keys in slots, without a gradient.

  Args:
    stored: the slots, [size, d].
    slots: the slot of each key, [n]. A key with a slot of `size` or more is not stored.
    keys: the keys, [n, d].

  Returns:
    The slots after the write.
  """

  def write(old, new):
    return old.at[slots].set(jax.lax.stop_gradient(new).astype(old.dtype), mode="drop")

  return jax.tree.map(write, stored, keys)


def valid_index(number: Array, count: int, name: str, fix: str) -> Array:
  """Returns which numbers are in 0 … count − 1.

  Args:
    number: integers, of any shape.
    count: the number of valid numbers.
    name: the name of a number in messages.
    fix: the advice for an invalid number, for messages.

  Returns:
    Booleans in the shape of `number`.

  Raises:
    UserError: a number is invalid and is not −1, which means none. Traced numbers are not checked.
  """
  valid = (number >= 0) & (number < count)
  if not isinstance(number, Tracer):
    values = np.asarray(number)
    wrong = values[(values < -1) | (values >= count)]
    if wrong.size:
      raise UserError(f"{name} must be 0 to {count - 1:,}, or −1 for none, not {wrong[0]:,}; {fix}")
  return valid


def _check_size(size: int) -> None:
  if not isinstance(size, int) or size < 1:
    raise UserError(f"the size of a queue must be an integer of at least 1, not {size!r}")
