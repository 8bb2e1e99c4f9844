"""The base of negatives, their sum, and the keys of the batch as negatives.

In a sum `a + b`, each source receives the candidates of the sources to its left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Compare, Group, Negatives, State, per_example


class NegativeSource(Negatives):
  """The base of negatives, which are frozen dataclasses. `a + b` applies a, then b.

  Example:
    >>> import dataclasses
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> @dataclasses.dataclass(frozen=True)
    ... class halved(negatives.NegativeSource):
    ...   def candidates(self, state, anchors, groups, rng, compare):
    ...     keys, *others = groups
    ...     return anchors, (keys.attach(as_negative=keys.side["as_negative"] / 2), *others)
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 4, 3))
    >>> source = negatives.in_batch() + halved()
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> print(groups[0].side["as_negative"])
    [0.5 0.5 0.5 0.5]
  """

  def __add__(self, other: NegativeSource) -> NegativeSource:
    return _Sum(_parts(self) + _parts(other))


@dataclasses.dataclass(frozen=True)
class _Sum(NegativeSource):
  """Several sources, which are applied from left to right."""

  parts: tuple[NegativeSource, ...]

  @override
  def init(self, rng: Array, keys: Group, examples: int) -> State:
    return tuple(
      p.init(jax.random.fold_in(rng, i), keys, examples) for i, p in enumerate(self.parts)
    )

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    for i, (part, part_state) in enumerate(zip(self.parts, state, strict=True)):
      part_rng = jax.random.fold_in(rng, i)
      anchors, groups = part.candidates(part_state, anchors, groups, part_rng, compare)
    return anchors, groups

  @override
  def advance(self, state: State, keys: Group) -> State:
    return tuple(p.advance(s, keys) for p, s in zip(self.parts, state, strict=True))


def _parts(source: NegativeSource) -> tuple[NegativeSource, ...]:
  return source.parts if isinstance(source, _Sum) else (source,)


@dataclasses.dataclass(frozen=True)
class in_batch(NegativeSource):
  """Uses the keys of the other examples of the batch as negatives, as in SimCLR and CLIP.

  The weight of a negative is its side `weight`, or 1 without that side.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 4, 3))
    >>> anchors, groups = negatives.on_arrays(
    ...   negatives.in_batch(), q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> print(groups[0].side["as_negative"])
    [1. 1. 1. 1.]
  """

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    keys, *others = groups
    negative = weighted(jnp.ones_like(keys.side["as_negative"]), keys.side)
    return anchors, (keys.attach(as_negative=negative), *others)


def weighted(as_negative: Array, side: Mapping[str, Array]) -> Array:
  """Multiplies weights as negatives by the side `weight`, if there is one.

  Args:
    as_negative: the weights of the vectors as negatives.
    side: the sides of the vectors.

  Returns:
    The weights, in the same shape.
  """
  return as_negative * side["weight"] if "weight" in side else as_negative


def rng_per_vector(rng: Array, side: Mapping[str, Array]) -> Array:
  """Derives a random key for each vector from its example, its view and its side `place`, if any.

  So the values that are drawn for a vector depend neither on its row nor on its device.

  Args:
    rng: a random key.
    side: the sides of the vectors [n].

  Returns:
    [n] random keys.

  Example:
    >>> import jax
    >>> from contrastax import negatives
    >>> side = {"index": jax.numpy.array([7, 7, 9]), "view": jax.numpy.array([0, 1, 0])}
    >>> negatives.rng_per_vector(jax.random.key(0), side).shape
    (3,)
  """
  names = ("view", "place") if "place" in side else ("view",)
  keys = per_example(rng, side["index"])
  for name in names:
    keys = jax.vmap(jax.random.fold_in)(keys, side[name])
  return keys


def synthetic_candidates(vectors: Array, like: Group) -> Group:
  """Makes a group of negatives that belong to no example.

  Sides of integers (such as index, view and label) are −1. A label that is a float is NaN, which
  equals no label. `as_negative` and `weight` are 1, and the other sides are 0.

  Args:
    vectors: [m, d] or [n, k, d].
    like: a group that has the same sides as the result.

  Returns:
    The group.
  """
  leading = vectors.shape[:-1]

  def fill(name, x):
    is_integer = jnp.issubdtype(x.dtype, jnp.integer)
    value = -1 if is_integer else {"label": jnp.nan, "weight": 1}.get(name, 0)
    return jnp.full((*leading, *x.shape[like.vectors.ndim - 1 :]), value, x.dtype)

  side = {name: fill(name, x) for name, x in like.side.items()}
  return Group(vectors, {**side, "as_negative": side["as_negative"] + 1})
