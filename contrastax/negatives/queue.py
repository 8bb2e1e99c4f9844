"""A queue of the keys of batches before this one."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Group, UserError
from contrastax.negatives.sources import NegativeSource


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
    if not isinstance(self.size, int) or self.size < 1:
      raise UserError(f"a queue holds a number of keys, at least 1, not {self.size!r}")

  def init(self, key, keys, examples):
    n = keys.vectors.shape[0]
    if self.size % n:
      problem = "shorter than" if self.size < n else "not a multiple of"
      raise UserError(
        f"a queue of {self.size:,} keys is {problem} the {n:,} of a step; "
        f"take {max(1, round(self.size / n)) * n:,}"
      )
    empty = jax.tree.map(lambda x: jnp.zeros((self.size, *x.shape[1:]), x.dtype), keys)
    return {"next": jnp.int32(0), "keys": empty.attach(index=empty.side["index"] - 1)}

  def candidates(self, state, anchors, groups, key, compare):
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


def entries(state) -> Group:
  """What a queue holds, as negatives of no view (−1) of this step's.

  What is not filled yet has index −1 and weight 0.
  """
  keys = state["keys"]
  none, no_view = jnp.zeros_like(keys.side["as_positive"]), jnp.full_like(keys.side["view"], -1)
  filled = none + (keys.side["index"] >= 0)
  return keys.attach(as_positive=none, as_negative=filled, view=no_view)
