"""Mixes for numeric labels: harder negatives, and positives that are mixed from negatives."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from typing_extensions import override

from contrastax.core import Array, Compare, Group, State, UserError
from contrastax.negatives.mixing import between
from contrastax.negatives.sources import NegativeSource, rng_per_vector, synthetic_candidates
from contrastax.pairwise import unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class supremix(NegativeSource):
  """Adds mixes of the batch as candidates of each anchor, for numeric labels y (SupReMix).

      mix-neg, a negative: unit(λ z_i + (1 − λ) z_j),   label λ y_i + (1 − λ) y_j
        y_j ≠ y_i,   λ ~ Beta(alpha, beta)
      mix-pos, a positive: unit(λ z_j + (1 − λ) z_k),   label y_i = λ y_j + (1 − λ) y_k
        y_i − window < y_j < y_i < y_k < y_i + window

  z_i is the unit vector of the anchor, and z_j and z_k are unit vectors of keys. For each anchor,
  `negatives` mixes of the first kind and `positives` mixes of the second kind are drawn, [n, k, d]
  each. j and k are drawn uniformly and with replacement. If there is no such j or k, the mixes have
  the weight 0. Mixes belong to no example and have no gradient. The relation determines positives
  and negatives: use `same_label()`. The paper's "distance magnifying" is `same_label() &
  label_distance()`. Filters that read other sides do not apply to mixes.

  Args:
    negatives: the number of mix-neg candidates per anchor, at least 0.
    positives: the number of mix-pos candidates per anchor, at least 0.
    alpha: the first parameter of the beta distribution, above 0.
    beta: the second parameter, above 0; None: alpha. With (2, 8) a mix-neg is closer to the
      negative, and with (8, 2) it is closer to the anchor.
    window: the largest difference of labels in a mix-pos, above 0, in units of the label.

  Raises:
    UserError: an argument is outside its range, there are no mixes, or labels are missing or have
      no floating type.

  Example:
    >>> import jax
    >>> from contrastax import negatives, relations
    >>> q, k = jax.random.normal(jax.random.key(0), (2, 6, 3))
    >>> age = jax.random.uniform(jax.random.key(1), (6,))
    >>> source = negatives.in_batch() + negatives.supremix(negatives=4, positives=2, alpha=2.0)
    >>> anchors, groups = negatives.on_arrays(
    ...   source, q, k, relation=relations.same_label(), rng=jax.random.key(2), label=age
    ... )
    >>> [group.vectors.shape for group in groups]
    [(6, 3), (6, 4, 3), (6, 2, 3)]

  References:
    Wu et al. (SupReMix), 2023, arXiv 2309.16633.

  In other libraries:
    The paper's code computes all b³ mixes of a batch, without a gradient, with one of (2, 8), (5,
    5) and (8, 2) as (alpha, beta). It subtracts one maximum from the logits of the keys and another
    from the logits of the mixes, and then adds their exponentials. This class uses one denominator
    with the same maximum for all logits.
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
        raise UserError(f"supremix: {name} must be an integer of at least 0, not {value!r}")
    if not self.negatives + self.positives:
      raise UserError("supremix mixes nothing with negatives = positives = 0; leave it out")
    for name in ("alpha", "beta", "window"):
      value = getattr(self, name)
      if not (isinstance(value, int | float) and value > 0) and (name, value) != ("beta", None):
        raise UserError(f"supremix: {name} must be a number above 0, not {value!r}")

  @override
  def candidates(
    self, state: State, anchors: Group, groups: tuple[Group, ...], rng: Array, compare: Compare
  ) -> tuple[Group, tuple[Group, ...]]:
    constants, keys = jax.lax.stop_gradient((anchors, groups[0]))
    y_i, y = _label(constants), _label(keys)
    # In the order of the labels, the candidates of a mix are contiguous. Equal labels are ordered
    # by the sides that identify a vector, so that the order in the batch does not matter.
    ties = [keys.side[name] for name in ("place", "view", "index") if name in keys.side]
    order = jnp.lexsort((*ties, y))
    z, y = unit(keys.vectors[order]), y[order]
    rank = functools.partial(jnp.searchsorted, y)
    # In sorted order, [first, end) has the anchor's label, and [least, most) is in the window.
    first, end = rank(y_i, side="left"), rank(y_i, side="right")
    least, most = rank(y_i - self.window, side="right"), rank(y_i + self.window, side="left")

    different, below, above = len(y) - (end - first), first - least, most - end
    drawn, share, drawn_below, drawn_above = self._draw(rng, constants, different, below, above)
    j = drawn + jnp.where(drawn >= first[:, None], (end - first)[:, None], 0)
    lower, upper = least[:, None] + drawn_below, end[:, None] + drawn_above

    def group(x, y, share, label, exists, role):
      mixed = between(x, y, share[..., None]).astype(anchors.vectors.dtype)
      mixes = synthetic_candidates(mixed, keys)
      weight = mixes.side["as_negative"] * exists[:, None]
      weights = {"as_positive": 0 * weight, "as_negative": 0 * weight, role: weight}
      return mixes.attach(label=label.astype(y_i.dtype), **weights)

    mix_groups, y_i = [], y_i[:, None]
    if self.negatives:
      label = share * y_i + (1 - share) * y[j]
      own = unit(constants.vectors)[:, None]
      mix_groups.append(group(own, z[j], share, label, different > 0, "as_negative"))
    if self.positives:
      exists = (below > 0) & (above > 0)
      difference = jnp.where(exists[:, None], y[upper] - y[lower], 1)
      share = ((y[upper] - y_i) / difference).astype(z.dtype)
      # The label is y_i itself. λ y_j + (1 − λ) y_k may differ from it by a rounding error.
      label = jnp.broadcast_to(y_i, share.shape)
      mix_groups.append(group(z[lower], z[upper], share, label, exists, "as_positive"))
    return anchors, (*groups, *mix_groups)

  def _draw(self, rng: Array, anchors: Group, *counts: Array) -> tuple[Array, ...]:
    """Draws the vectors and the shares of all mixes.

    Args:
      rng: a random key.
      anchors: the anchors [n].
      *counts: for each anchor, the sizes of the ranges of negatives, lower and higher keys.

    Returns:
      Ranks in the range of negatives [n, negatives], the anchor's share of these mixes, and ranks
      in the ranges of lower and higher keys [n, positives].
    """
    beta = self.alpha if self.beta is None else self.beta
    dtype = jnp.promote_types(anchors.vectors.dtype, jnp.float32)

    def draw(rng, negatives, below, above):
      rngs = jax.random.split(rng, 4)

      def ranks(rng, number, count):
        return jax.random.randint(rng, (number,), 0, jnp.maximum(count, 1))

      share = jax.random.beta(rngs[1], self.alpha, beta, (self.negatives,), dtype)
      return (
        ranks(rngs[0], self.negatives, negatives), share,
        ranks(rngs[2], self.positives, below), ranks(rngs[3], self.positives, above),
      )  # fmt: skip

    return jax.vmap(draw)(rng_per_vector(rng, anchors.side), *counts)


def _label(group: Group) -> Array:
  label = group.side.get("label")
  if label is None or not jnp.issubdtype(label.dtype, jnp.floating):
    found = "the data have none" if label is None else f"those of the data are {label.dtype}"
    raise UserError(f"supremix mixes labels, but {found}; give numbers as float32 'label'")
  return label
