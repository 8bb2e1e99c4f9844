"""What sources of candidates share, and the first of them: the batch itself.

A source sees what stands to its left in a sum, so `a + b` reads from left to right.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Group


class NegativeSource:
  """What sources share: `+`, and doing nothing where they have nothing to do."""

  def __add__(self, other: NegativeSource) -> NegativeSource:
    return _Sum(_parts(self) + _parts(other))

  def init(self, key, keys, examples):
    return ()

  def candidates(self, state, anchors, groups, key, compare):
    return anchors, groups

  def advance(self, state, keys):
    return state


@dataclasses.dataclass(frozen=True)
class _Sum(NegativeSource):
  parts: tuple[NegativeSource, ...]

  def init(self, key, keys, examples):
    return tuple(
      p.init(jax.random.fold_in(key, i), keys, examples) for i, p in enumerate(self.parts)
    )

  def candidates(self, state, anchors, groups, key, compare):
    for i, (part, own) in enumerate(zip(self.parts, state, strict=True)):
      own_key = jax.random.fold_in(key, i)
      anchors, groups = part.candidates(own, anchors, groups, own_key, compare)
    return anchors, groups

  def advance(self, state, keys):
    return tuple(p.advance(own, keys) for p, own in zip(self.parts, state, strict=True))


def _parts(source):
  return source.parts if isinstance(source, _Sum) else (source,)


@dataclasses.dataclass(frozen=True)
class in_batch(NegativeSource):
  """The keys of the other examples of the batch are negatives (SimCLR; CLIP)."""

  def candidates(self, state, anchors, groups, key, compare):
    keys, *others = groups
    negative = jnp.ones_like(keys.side["as_negative"])
    return anchors, (keys.attach(as_negative=negative), *others)


def of_no_example(vectors, like):
  """Negatives that are no example's, [m, d] or [n, k, d], with the sides that `like` has.

  Their whole numbers are −1 (index, view, label), a label that is another number is NaN, equal to
  none, and the rest 0.
  """
  leading = vectors.shape[:-1]

  def fill(name, x):
    whole = jnp.issubdtype(x.dtype, jnp.integer)
    value = -1 if whole else jnp.nan if name == "label" else 0
    return jnp.full((*leading, *x.shape[like.vectors.ndim - 1 :]), value, x.dtype)

  side = {name: fill(name, x) for name, x in like.side.items()}
  return Group(vectors, {**side, "as_negative": side["as_negative"] + 1})
