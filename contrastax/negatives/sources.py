"""What sources of candidates share, and the first of them: the batch itself.

A source sees what stands to its left in a sum, so `a + b` reads from left to right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from contrastax.core import Array, Group, Negatives, per_example


class NegativeSource(Negatives):
  """What sources share: `+` joins them."""

  def __add__(self, other: NegativeSource) -> NegativeSource:
    return _Sum(_parts(self) + _parts(other))


@dataclasses.dataclass(frozen=True)
class _Sum(NegativeSource):
  parts: tuple[NegativeSource, ...]

  def init(self, rng, keys, examples):
    return tuple(
      p.init(jax.random.fold_in(rng, i), keys, examples) for i, p in enumerate(self.parts)
    )

  def candidates(self, state, anchors, groups, rng, compare):
    for i, (part, own) in enumerate(zip(self.parts, state, strict=True)):
      own_key = jax.random.fold_in(rng, i)
      anchors, groups = part.candidates(own, anchors, groups, own_key, compare)
    return anchors, groups

  def advance(self, state, keys):
    return tuple(p.advance(own, keys) for p, own in zip(self.parts, state, strict=True))


def _parts(source):
  return source.parts if isinstance(source, _Sum) else (source,)


@dataclasses.dataclass(frozen=True)
class in_batch(NegativeSource):
  """The keys of the other examples of the batch are negatives (SimCLR; CLIP).

  A key with the side `weight` is a negative of that weight, any other of weight 1.
  """

  def candidates(self, state, anchors, groups, rng, compare):
    keys, *others = groups
    negative = weighted(jnp.ones_like(keys.side["as_negative"]), keys.side)
    return anchors, (keys.attach(as_negative=negative), *others)


def weighted(as_negative: Array, side: Mapping[str, Array]) -> Array:
  """The weights as negatives, multiplied by the vectors' own, the side `weight`, if there is one."""
  return as_negative * side["weight"] if "weight" in side else as_negative


def rng_per_vector(rng: Array, side: Mapping[str, Array]) -> Array:
  """A random key of each vector, folded from its example, its view and its `place` if it has one.

  So no draw depends on a row's place in the batch or on a device.
  """
  names = ("view", "place") if "place" in side else ("view",)
  keys = per_example(rng, side["index"])
  for name in names:
    keys = jax.vmap(jax.random.fold_in)(keys, side[name])
  return keys


def synthetic_candidates(vectors, like):
  """Negatives that are no example's, [m, d] or [n, k, d], with the sides that `like` has.

  Their whole numbers are −1 (index, view, label), a label that is another number is NaN, equal to
  none, `weight` is 1, and the rest 0.
  """
  leading = vectors.shape[:-1]

  def fill(name, x):
    whole = jnp.issubdtype(x.dtype, jnp.integer)
    value = -1 if whole else {"label": jnp.nan, "weight": 1}.get(name, 0)
    return jnp.full((*leading, *x.shape[like.vectors.ndim - 1 :]), value, x.dtype)

  side = {name: fill(name, x) for name, x in like.side.items()}
  return Group(vectors, {**side, "as_negative": side["as_negative"] + 1})
