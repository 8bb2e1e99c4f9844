"""Mixes for labels that are numbers: harder negatives, and positives out of negatives."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from contrastax.core import UserError
from contrastax.negatives.mixing import between
from contrastax.negatives.sources import NegativeSource, rng_per_vector, synthetic_candidates
from contrastax.pairwise import unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class supremix(NegativeSource):
  """Mixes of the batch by their labels, numbers y, as further candidates of each anchor.

    mix-neg, a negative: unit(λ z_i + (1 − λ) z_j),   label λ y_i + (1 − λ) y_j
      y_j ≠ y_i,   λ ~ Beta(alpha, beta)
    mix-pos, a positive: unit(λ z_j + (1 − λ) z_k),   label y_i = λ y_j + (1 − λ) y_k
      y_i − window < y_j < y_i < y_k < y_i + window

  z are unit vectors: the anchor's, and of the keys those with these labels. For each anchor
  `negatives` mix-negs and `positives` mix-poss are drawn, [n, k, d] each, j and k uniformly and
  with replacement; where there is no such j or k they weigh 0. They are of no example, without
  gradient, and positives or negatives by the relation: `same_label()`, to which the paper's
  "distance magnifying" is `& label_distance()`. Other filters do not reach what is mixed.

  negatives, positives: at least 0, one of them above. alpha, beta: > 0; (2, 8) is nearer to the
  negative, (8, 2) to the anchor; beta None: alpha. window: > 0, in units of the label.

  Wu et al. 2023, arXiv 2309.16633 (SupReMix). Their code makes all b³ mixes of a batch, detached,
  of α, β = (2, 8), (5, 5) or (8, 2), and subtracts one maximum from the logits of keys and another
  from those of mixes before it adds their exponentials; here there is one denominator.

  Raises UserError for numbers outside these ranges, and for labels that are missing or not float.
  """

  negatives: int
  positives: int
  alpha: float
  beta: float | None = None
  window: float = math.inf

  def __post_init__(self):
    for name in ("negatives", "positives"):
      value = getattr(self, name)
      if not isinstance(value, int) or value < 0:
        raise UserError(f"supremix: {name} is a whole number, at least 0, not {value!r}")
    if not self.negatives + self.positives:
      raise UserError("supremix mixes nothing with negatives = positives = 0; leave it out")
    for name in ("alpha", "beta", "window"):
      value = getattr(self, name)
      if not (isinstance(value, int | float) and value > 0) and (name, value) != ("beta", None):
        raise UserError(f"supremix: {name} is a number above 0, not {value!r}")

  def candidates(self, state, anchors, groups, rng, compare):
    anchors_, keys = jax.lax.stop_gradient((anchors, groups[0]))
    y_i, y = _label(anchors_), _label(keys)
    # Sorted by label, what may be mixed is a range. Equal labels are sorted by what tells vectors
    # apart, so that their order in the batch does not matter.
    ties = [keys.side[name] for name in ("place", "view", "index") if name in keys.side]
    order = jnp.lexsort((*ties, y))
    z, y = unit(keys.vectors[order]), y[order]
    place = functools.partial(jnp.searchsorted, y)
    first, end = place(y_i, side="left"), place(y_i, side="right")
    least, most = place(y_i - self.window, side="right"), place(y_i + self.window, side="left")

    negatives, below, above = len(y) - (end - first), first - least, most - end
    drawn, share, of_below, of_above = self._draw(rng, anchors_, negatives, below, above)
    j = drawn + jnp.where(drawn >= first[:, None], (end - first)[:, None], 0)
    lower, upper = least[:, None] + of_below, end[:, None] + of_above

    def group(x, y, share, label, there, kind):
      mixed = between(x, y, share[..., None]).astype(anchors.vectors.dtype)
      made = synthetic_candidates(mixed, keys)
      weight = made.side["as_negative"] * there[:, None]
      none = {"as_positive": 0 * weight, "as_negative": 0 * weight}
      return made.attach(label=label.astype(y_i.dtype), **{**none, kind: weight})

    made, y_i = [], y_i[:, None]
    if self.negatives:
      label = share * y_i + (1 - share) * y[j]
      own = unit(anchors_.vectors)[:, None]
      made.append(group(own, z[j], share, label, negatives > 0, "as_negative"))
    if self.positives:
      there = (below > 0) & (above > 0)
      apart = jnp.where(there[:, None], y[upper] - y[lower], 1)
      share = ((y[upper] - y_i) / apart).astype(z.dtype)
      # Not λ y_j + (1 − λ) y_k, which by a rounding would not be a positive's.
      label = jnp.broadcast_to(y_i, share.shape)
      made.append(group(z[lower], z[upper], share, label, there, "as_positive"))
    return anchors, (*groups, *made)

  def _draw(self, rng, anchors, *counts):
    """Places in ranges of these sizes, one of each for every mix, and the anchor's share."""
    beta = self.alpha if self.beta is None else self.beta
    dtype = jnp.promote_types(anchors.vectors.dtype, jnp.float32)

    def of_one(rng, negatives, below, above):
      keys = jax.random.split(rng, 4)

      def place(rng, number, count):
        return jax.random.randint(rng, (number,), 0, jnp.maximum(count, 1))

      share = jax.random.beta(keys[1], self.alpha, beta, (self.negatives,), dtype)
      return (
        place(keys[0], self.negatives, negatives), share,
        place(keys[2], self.positives, below), place(keys[3], self.positives, above),
      )  # fmt: skip

    return jax.vmap(of_one)(rng_per_vector(rng, anchors.side), *counts)


def _label(group):
  label = group.side.get("label")
  if label is None or not jnp.issubdtype(label.dtype, jnp.floating):
    found = "the data have none" if label is None else f"those of the data are {label.dtype}"
    raise UserError(f"supremix mixes labels, and {found}; give numbers as float32 'label'")
  return label
