"""Hard negatives that are mixed from other negatives."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from typing_extensions import override

from contrastax.core import Array, Compare, Group, State, UserError, join
from contrastax.negatives.selection import hardest_positions
from contrastax.negatives.sources import NegativeSource, rng_per_vector
from contrastax.pairwise import unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class mochi(NegativeSource):
  """Adds mixes of each anchor's hardest negatives as further negatives of that anchor (MoCHi).

      Q_i = the `hard` negatives in a queue that are most similar to anchor q_i
      h  = unit(α n_a + (1 − α) n_b),   α ~ U(0, 1),    a ≠ b drawn from Q_i;  `mixed` of them
      h' = unit(β q_i + (1 − β) n_c),   β ~ U(0, ½),    c drawn from Q_i;      `with_anchor` of them

  Put this source to the right of the candidates that it mixes, as in `queue(4096) + mochi(…)`. It
  mixes all candidates to its left except the keys of the step. The method's relation determines
  which candidates are negatives, and its score how similar they are. So a filter that removes false
  negatives also removes them from Q_i. A mix has the sides of n_a, or of n_c for h', except for the
  index −1, because it belongs to no example. Mixes have no gradient. If there are fewer than `hard`
  negatives, as in the first steps of a queue, Q_i contains all of them. In addition to the
  candidates, a step needs memory for n (hard + (mixed + with_anchor) d) numbers.

  Args:
    hard: the size of Q_i, at least 1.
    mixed: the number of mixes h per anchor, at least 0.
    with_anchor: the number of mixes h' per anchor, at least 0.
    warmup: the number of steps at the start in which mixes have the weight 0.

  Raises:
    UserError: an argument is outside its range, there are no mixes, there are no candidates to the
      left except the keys of the step, or there are fewer than `hard`.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 8, 3))
    >>> source = negatives.queue(16) + negatives.mochi(hard=8, mixed=4, with_anchor=2)
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relations.same_example(), rng=jax.random.key(1)
    ... )
    >>> [group.vectors.shape for group in groups]
    [(8, 3), (16, 3), (8, 6, 3)]

  References:
    Kalantidis et al., Hard Negative Mixing for Contrastive Learning, 2020, arXiv 2010.01028, §3.2
    and 3.3: (hard, mixed, with_anchor) = (1024, 512, 256) and others, with a queue of 65,536, after
    15 epochs without mixes (ImageNet).

  In other libraries:
    In the public code, a may equal b.
  """

  hard: int
  mixed: int
  with_anchor: int
  warmup: int = 0

  def __post_init__(self):
    counts = {"hard": 1, "mixed": 0, "with_anchor": 0, "warmup": 0}
    for name, least in counts.items():
      value = getattr(self, name)
      if not isinstance(value, int) or value < least:
        raise UserError(f"mochi: {name} must be an integer of at least {least}, not {value!r}")
    if not self.mixed + self.with_anchor:
      raise UserError("mochi mixes nothing with mixed = with_anchor = 0; leave it out")

  @override
  def init(self, rng: Array, keys: Group, examples: int) -> State:
    return {"step": jnp.int32(0)}

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    stored = groups[1:]
    if not stored:
      raise UserError(
        "mochi mixes the keys in a queue, but there is no queue to its left; write queue(…) before it"
      )
    number = sum(group.vectors.shape[0] for group in stored)
    if number < self.hard:
      raise UserError(
        f"mochi cannot take the {self.hard:,} hardest of {number:,} candidates; use a longer queue, "
        "or a smaller hard set"
      )
    settings = compare._replace(same_set=False)._asdict()
    _, positions, negatives = hardest_positions(anchors, stored, self.hard, **settings)
    stored = join(*stored)
    a, b, share = self._draw(rng, anchors, jnp.minimum(negatives, self.hard).astype(int))
    a, b = (jnp.take_along_axis(positions, rank, axis=1) for rank in (a, b))
    first = jax.tree.map(lambda x: x[a], stored)
    own = jnp.broadcast_to(unit(anchors.vectors)[:, None], first.vectors.shape)
    second = jnp.concatenate([unit(stored.vectors[b]), own[:, self.mixed :]], axis=1)
    mixed = between(unit(first.vectors), second, share[..., None]).astype(first.vectors.dtype)
    weight = first.side["as_negative"]
    weight = jnp.where((a >= 0) & (state["step"] >= self.warmup), weight, 0)
    side = {"index": jnp.full_like(a, -1), "as_negative": weight, "as_positive": 0 * weight}
    mixes = Group(jax.lax.stop_gradient(mixed), {**first.side, **side})
    return anchors, (*groups, mixes)

  @override
  def advance(self, state: State, keys: Group) -> State:
    return {"step": state["step"] + 1}

  def _draw(self, rng, anchors, count):
    """Draws the mixes of each anchor, whose Q has `count` negatives.

    Returns:
      (a, b, share): ranks in Q [n, mixed + with_anchor] and [n, mixed], and the share of n_a in
      each mix. For h', a is c and the share is 1 − β.
    """
    mixed, total = self.mixed, self.mixed + self.with_anchor
    dtype = jnp.result_type(anchors.vectors, jnp.float32)

    def draw(rng, count):
      rng_a, rng_b, rng_share = jax.random.split(rng, 3)
      a = jax.random.randint(rng_a, (total,), 0, jnp.maximum(count, 1))
      # An offset of 1 to count − 1 makes b differ from a.
      b = a[:mixed] + jax.random.randint(rng_b, (mixed,), 1, jnp.maximum(count, 2))
      share = jax.random.uniform(rng_share, (total,), dtype)
      with_anchor = jnp.arange(total) >= mixed
      return a, b % jnp.maximum(count, 1), jnp.where(with_anchor, (1 + share) / 2, share)

    return jax.vmap(draw)(rng_per_vector(rng, anchors.side), count)


def between(x: Array, y: Array, share: ArrayLike) -> Array:
  """Mixes vectors and normalizes the mix.

      unit(share · x + (1 − share) · y)

  Args:
    x: [..., d].
    y: [..., d].
    share: the share of x, which broadcasts against x.

  Returns:
    [..., d].

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax import negatives
    >>> print(negatives.between(jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0]), 1.0))
    [1. 0.]
  """
  return unit(share * x + (1 - share) * y)
