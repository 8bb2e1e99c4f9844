"""What sources of candidates share, and the first of them: the batch itself.

A source sees what stands to its left in a sum, so `a + b` reads from left to right.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


class NegativeSource:
  """What sources share: `+`, and doing nothing where they have nothing to do."""

  def __add__(self, other: NegativeSource) -> NegativeSource:
    return _Sum(_parts(self) + _parts(other))

  def init(self, key, keys):
    return ()

  def candidates(self, state, anchors, groups, key):
    return anchors, groups

  def advance(self, state, keys):
    return state


@dataclasses.dataclass(frozen=True)
class _Sum(NegativeSource):
  parts: tuple[NegativeSource, ...]

  def init(self, key, keys):
    return tuple(p.init(jax.random.fold_in(key, i), keys) for i, p in enumerate(self.parts))

  def candidates(self, state, anchors, groups, key):
    for i, (part, own) in enumerate(zip(self.parts, state, strict=True)):
      anchors, groups = part.candidates(own, anchors, groups, jax.random.fold_in(key, i))
    return anchors, groups

  def advance(self, state, keys):
    return tuple(p.advance(own, keys) for p, own in zip(self.parts, state, strict=True))


def _parts(source):
  return source.parts if isinstance(source, _Sum) else (source,)


@dataclasses.dataclass(frozen=True)
class in_batch(NegativeSource):
  """The keys of the other examples of the batch are negatives (SimCLR; CLIP)."""

  def candidates(self, state, anchors, groups, key):
    keys, *others = groups
    negative = jnp.ones_like(keys.side["as_negative"])
    return anchors, (keys.attach(as_negative=negative), *others)
