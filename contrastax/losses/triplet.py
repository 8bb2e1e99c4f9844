"""The triplet loss."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array, UserError
from contrastax.criteria.softmax_core import norm
from contrastax.labels import has_label
from contrastax.losses.arrays import compute_dtype, labeled_group, row_index
from contrastax.pairwise import Plan, negative_squared_distance, reduce, reductions
from contrastax.pairwise.inputs import check_numbers
from contrastax.propagate import relu
from contrastax.relations import same_label

Mining = Literal["batch hard", "batch all", "semi-hard"]


def triplet(
  z: ArrayLike,
  labels: ArrayLike,
  *,
  margin: ArrayLike,
  mining: Mining = "batch hard",
  plan: Plan = Plan(),
) -> Array:
  """Triplet loss: a positive must be closer to the anchor than a negative, by a margin.

      h_ipn = max(0, d(z_i, z_p) − d(z_i, z_n) + margin),   d Euclidean

      batch hard   L_i = h_ipn of the farthest positive p and the nearest negative n
      batch all    L_i = n/|V| Σ_p Σ_n h_ipn,  V: the triplets of the batch with h > 0
      semi-hard    L_i = n/|P| Σ_p h_ipn of the nearest n with d(z_i, z_n) > d(z_i, z_p), or of the
                   farthest negative if there is none;  P: the pairs (i, p) of the batch

  The factors n/|V| and n/|P| make the mean of the losses equal to the mean over V or P.

  Args:
    z: vectors [n, d]. The loss does not normalize them. FaceNet uses unit vectors, which
      `pairwise.unit` makes.
    labels: class numbers [n]; −1 for a vector without a label.
    margin: margin, in units of the distance.
    mining: which triplets are used.
    plan: how the pairs of "batch hard" are evaluated, with memory linear in n. It does not change
      the result. The other two forms need [n, n] distances and n³ steps, and are evaluated one
      anchor at a time.

  Returns:
    The loss of each vector, [n]. No gradient flows through a distance of 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z = jax.random.normal(jax.random.key(0), (4, 8))
    >>> losses.triplet(z, jax.numpy.array([0, 0, 1, 1]), margin=0.2).shape
    (4,)

  References:
    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, arXiv
    1703.07737, eqs. 5 and 6.
    Schroff et al., "FaceNet", 2015, arXiv 1503.03832, §3.2.

  In other libraries:
    pytorch-metric-learning normalizes the vectors and averages over triplets with h > 0, also for
    batch-hard mining. Its semi-hard triplets are all those where n is farther than p by at most
    the margin. FaceNet uses squared distances.
  """
  if mining not in get_args(Mining):
    raise UserError(f"mining must be one of {', '.join(get_args(Mining))}, not {mining!r}")
  check_numbers(margin=margin)
  group = labeled_group(z, labels)
  vectors = group.vectors.astype(compute_dtype(group.vectors))
  if mining == "batch hard":
    reduced = reduce(
      _Hardest(),
      group,
      (group,),
      score=negative_squared_distance(),
      reductions={"positive": reductions.top_k(1), "negative": reductions.top_k(1)},
      same_set=True,
      plan=plan,
    )
    (_, positive), (_, negative) = reduced["positive"], reduced["negative"]
    has_both = (positive[:, 0] >= 0) & (negative[:, 0] >= 0)
    # These distances come from the vectors, because those from products have a large rounding
    # error.
    farthest = norm(vectors - vectors[positive[:, 0]])
    nearest = norm(vectors - vectors[negative[:, 0]])
    hinge = relu(farthest - nearest + margin)
    return jnp.where(has_both | jnp.isnan(hinge), hinge, 0)

  all_labels = group.side["label"]
  labeled = has_label(all_labels)

  def sum_and_count(row):
    i, anchor, label = row
    distance = norm(anchor - vectors)
    other = jnp.arange(len(vectors)) != i
    same = (all_labels == label) & labeled & labeled[i]
    positive, negative = same & other, ~same & other
    # 0, or NaN if the anchor or another vector has a NaN. It keeps NaN for an anchor without
    # triplets.
    zero = jnp.where(other | jnp.isnan(anchor).any(), 0 * distance, 0).sum()
    if mining == "batch all":
      hinge = relu(distance[:, None] - distance + margin)
      hinge = jnp.where(positive[:, None] & negative, hinge, 0)
      return hinge.sum() + zero, (hinge > 0).sum()
    is_farther = negative & (distance > distance[:, None])  # False for NaN, which `zero` has
    nearest_farther = jnp.where(is_farther, distance, jnp.inf).min(1)
    farthest = jnp.where(negative, distance, -jnp.inf).max()
    chosen = jnp.where(nearest_farther == jnp.inf, farthest, nearest_farther)
    positive = positive & negative.any()
    hinge = relu(distance - jnp.where(positive, chosen, 0) + margin)
    hinge = jnp.where(positive, hinge, 0)
    return hinge.sum() + zero, positive.sum()

  rows = (row_index(vectors), vectors, all_labels)
  sums, counts = jax.lax.map(jax.checkpoint(sum_and_count), rows)
  return sums * (len(vectors) / jnp.maximum(counts.sum(), 1))


@dataclasses.dataclass(frozen=True)
class _Hardest:
  """Quantities whose maximum is the hardest pair. The similarity is −d²."""

  def __call__(self, similarity, a, c, shared):
    pairs = same_label()(a, c, similarity)
    return {
      "positive": jnp.where(pairs.positive, -similarity, -jnp.inf),
      "negative": jnp.where(pairs.negative, similarity, -jnp.inf),
    }
