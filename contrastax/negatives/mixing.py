"""Hard negatives that are mixed from others: MoCHi."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Group, UserError, join
from contrastax.negatives.selection import hardest_places
from contrastax.negatives.sources import NegativeSource, rng_per_vector
from contrastax.pairwise import unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class mochi(NegativeSource):
  """Mixes of each anchor's hardest negatives, as further negatives of that anchor.

    Q_i = the `hard` negatives most similar to anchor q_i, of those a queue holds
    h  = unit(α n_a + (1 − α) n_b),   α ~ U(0, 1),    a ≠ b drawn from Q_i;  `mixed` of them
    h' = unit(β q_i + (1 − β) n_c),   β ~ U(0, ½),    c drawn from Q_i;      `with_anchor` of them

  To be written to the right of what it mixes, `queue(4096) + mochi(…)`: of the candidates to its
  left all but the keys of the step. What is a negative, and how similar, is as the method's
  relation and score say, so a filter that drops false negatives keeps them out of Q_i, too. A mix
  carries what its first negative carries (h': its only one), but is no example, index −1. Mixes
  have no gradient. While a queue fills, Q_i is what there is; in the first `warmup` steps mixes weigh
  nothing. Beside the candidates, memory is n (hard + (mixed + with_anchor) d).

  Kalantidis et al. 2020, arXiv 2010.01028, §3.2 and 3.3: (1024, 512, 256) and others with a queue
  of 65,536, after 15 epochs without (ImageNet). a may be b in the public code.
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
        raise UserError(f"mochi: {name} is a number of at least {least}, not {value!r}")
    if not self.mixed + self.with_anchor:
      raise UserError("mochi mixes nothing with mixed = with_anchor = 0; leave it out")

  def init(self, rng, keys, examples):
    return {"step": jnp.int32(0)}

  def candidates(self, state, anchors, groups, rng, compare):
    held = groups[1:]
    if not held:
      raise UserError(
        "mochi mixes what a queue holds, and there is none to its left; write queue(…) before it"
      )
    there = sum(group.vectors.shape[0] for group in held)
    if there < self.hard:
      raise UserError(
        f"mochi takes the {self.hard:,} hardest of {there:,} candidates; take a longer queue, "
        "or a smaller hard set"
      )
    compare = compare._replace(same_set=False)._asdict()
    _, place, there = hardest_places(anchors, held, self.hard, **compare)
    held = join(*held)
    a, b, share = self._draw(rng, anchors, jnp.minimum(there, self.hard).astype(int))
    a, b = (jnp.take_along_axis(place, of, axis=1) for of in (a, b))
    first = jax.tree.map(lambda x: x[a], held)
    own = jnp.broadcast_to(unit(anchors.vectors)[:, None], first.vectors.shape)
    second = jnp.concatenate([unit(held.vectors[b]), own[:, self.mixed :]], axis=1)
    mixed = between(unit(first.vectors), second, share[..., None]).astype(first.vectors.dtype)
    weight = first.side["as_negative"]
    weight = jnp.where((a >= 0) & (state["step"] >= self.warmup), weight, 0)
    side = {"index": jnp.full_like(a, -1), "as_negative": weight, "as_positive": 0 * weight}
    mixes = Group(jax.lax.stop_gradient(mixed), {**first.side, **side})
    return anchors, (*groups, mixes)

  def advance(self, state, keys):
    return {"step": state["step"] + 1}

  def _draw(self, rng, anchors, count):
    """For every mix of an anchor whose Q has `count`: a, b (of the mixed alone), a's share."""
    mixed, all_of_them = self.mixed, self.mixed + self.with_anchor
    dtype = jnp.result_type(anchors.vectors, jnp.float32)

    def of_one(rng, count):
      of_a, of_b, of_share = jax.random.split(rng, 3)
      a = jax.random.randint(of_a, (all_of_them,), 0, jnp.maximum(count, 1))
      b = a[:mixed] + jax.random.randint(of_b, (mixed,), 1, jnp.maximum(count, 2))
      share = jax.random.uniform(of_share, (all_of_them,), dtype)
      with_anchor = jnp.arange(all_of_them) >= mixed
      return a, b % jnp.maximum(count, 1), jnp.where(with_anchor, (1 + share) / 2, share)

    return jax.vmap(of_one)(rng_per_vector(rng, anchors.side), count)


def between(x, y, share):
  """The direction of share · x + (1 − share) · y."""
  return unit(share * x + (1 - share) * y)
