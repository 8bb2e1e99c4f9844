"""Queues of the keys of batches before this one: one, or one for each language, modality, class."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Group, UserError
from contrastax.negatives.sources import NegativeSource, weighted


@dataclasses.dataclass(frozen=True)
class queue(NegativeSource):
  """The keys of the last steps, `size` of them, are negatives (MoCo; arXiv 1911.05722, §3.1).

  The keys of a step replace the oldest after it, so an anchor never meets its own batch here.
  They come without gradient and with all that they carry, so that a relation can tell the key
  of the anchor's own example of an earlier epoch: `same_example` leaves it out. Vectors are kept
  as they come, and whatever the score does to a vector (the cosine: its length) is done once per
  step. A slot that is not filled yet weighs nothing; MoCo's code fills them at random, so that
  its first steps push from noise.

  Raises UserError where `size` is not a multiple of the keys of a step.
  """

  size: int

  def __post_init__(self):
    _check_size(self.size)

  def init(self, rng, keys, examples):
    n = keys.vectors.shape[0]
    if self.size % n:
      problem = "shorter than" if self.size < n else "not a multiple of"
      raise UserError(
        f"a queue of {self.size:,} keys is {problem} the {n:,} of a step; "
        f"take {max(1, round(self.size / n)) * n:,}"
      )
    return {"next": jnp.int32(0), "keys": unfilled(keys, self.size)}

  def candidates(self, state, anchors, groups, rng, compare):
    return anchors, (*groups, entries(state))

  def advance(self, state, keys):
    at = state["next"]
    kept = jax.tree.map(
      lambda old, new: jax.lax.dynamic_update_slice_in_dim(
        old, jax.lax.stop_gradient(new).astype(old.dtype), at, 0
      ),
      state["keys"],
      keys,
    )
    return {"next": (at + len(keys.vectors)) % self.size, "keys": kept}


@dataclasses.dataclass(frozen=True)
class queues(NegativeSource):
  """A queue of `size` keys for each value 0 … count − 1 of the side `by`: language, modality, class.

    place of key i, the r-th of its value v in this step:  (next_v + r) mod size  of queue v

  So a frequent value does not push the keys of a rare one out. An anchor meets all queues, one
  group [count · size, d]; with the filter `negatives_share(by)` its own value's alone, which is
  Wu et al.'s memory bank for each language (2022, arXiv 2206.03281). For the rest see `queue`, but
  that a step may bring any number of keys of a value, in the order of the batch; of more than
  `size` the last `size` stay.

  A key whose value is −1, of none, enters no queue. Nor does one of a value outside 0 … count − 1:
  in a compiled step nothing can say so; outside of one it is an error. With the filter, an anchor
  of such a value has no negative here.

  Raises UserError where the keys have no side `by`, or one that is not a whole number each.
  """

  size: int
  by: str
  count: int

  def __post_init__(self):
    _check_size(self.size)
    if not isinstance(self.count, int) or self.count < 1:
      raise UserError(f"queues: count is a number of values, at least 1, not {self.count!r}")

  def init(self, rng, keys, examples):
    if self.by not in keys.side:
      raise UserError(
        f"queues needs the side {self.by!r}, and the keys have {', '.join(sorted(keys.side))}; "
        f"an array {self.by!r} of the data becomes one"
      )
    value = keys.side[self.by]
    if value.ndim > 1 or not jnp.issubdtype(value.dtype, jnp.integer):
      raise UserError(
        f"queues are told apart by a whole number of each key, and {self.by!r} is {value.dtype} "
        f"{list(value.shape)}; number its values from 0"
      )
    keys = unfilled(keys, self.count * self.size)
    return {"next": jnp.zeros(self.count, jnp.int32), "keys": keys}

  def candidates(self, state, anchors, groups, rng, compare):
    return anchors, (*groups, entries(state))

  def advance(self, state, keys):
    place, brought = self._places(state["next"], keys.side[self.by])
    kept = put(state["keys"], place, keys)
    return {"next": (state["next"] + brought) % self.size, "keys": kept}

  def _places(self, following, value):
    """Where the step's keys go, count · size: nowhere; and how many it brought of each value.

    No place is given twice, for which of two writes would stay is not defined.
    """
    within = valid_index(
      value, self.count, f"a key's {self.by!r}", "give queues as count one more than the largest"
    )
    value = jnp.where(within, value, 0).astype(jnp.int32)
    of_value = within[:, None] & (value[:, None] == jnp.arange(self.count))
    so_far = jnp.cumsum(of_value, axis=0, dtype=jnp.int32)
    rank = jnp.take_along_axis(so_far, value[:, None], axis=1)[:, 0] - 1
    brought = so_far[-1]
    stays = within & (rank >= brought[value] - self.size)
    place = value * self.size + (following[value] + rank) % self.size
    return jnp.where(stays, place, self.count * self.size), brought


def entries(state) -> Group:
  """What a queue holds, as negatives of no view (−1) of this step's.

  Their weight is 1, or their side `weight`. What is not filled yet has index −1 and weight 0.
  """
  keys = state["keys"]
  none, no_view = jnp.zeros_like(keys.side["as_positive"]), jnp.full_like(keys.side["view"], -1)
  filled = weighted(none + (keys.side["index"] >= 0), keys.side)
  return keys.attach(as_positive=none, as_negative=filled, view=no_view)


def unfilled(keys, size) -> Group:
  """Places for `size` of such keys: zeros, of index −1."""
  empty = jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), keys)
  return empty.attach(index=empty.side["index"] - 1)


def put(kept, place, keys):
  """The keys at these places [n], without gradient; a place beyond the last one: not kept."""

  def write(old, new):
    return old.at[place].set(jax.lax.stop_gradient(new).astype(old.dtype), mode="drop")

  return jax.tree.map(write, kept, keys)


def valid_index(number, count, what, mend):
  """Which are 0 … count − 1. Where they are known, others than −1, of none, are an error."""
  within = (number >= 0) & (number < count)
  if not isinstance(number, jax.core.Tracer):
    number = np.asarray(number)
    wrong = number[(number < -1) | (number >= count)]
    if wrong.size:
      raise UserError(f"{what} is 0 to {count - 1:,}, or −1 for none, not {wrong[0]:,}; {mend}")
  return within


def _check_size(size):
  if not isinstance(size, int) or size < 1:
    raise UserError(f"a queue holds a number of keys, at least 1, not {size!r}")
