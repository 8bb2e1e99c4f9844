"""The triplet loss: a positive is to be nearer than a negative, by a margin."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from contrastax.core import UserError
from contrastax.criteria.softmax_core import length
from contrastax.labels import has_label
from contrastax.losses.arrays import labeled, of_index, precision
from contrastax.pairwise import Plan, negative_squared_distance, reduce, reductions
from contrastax.pairwise.inputs import check_numbers
from contrastax.propagate import relu
from contrastax.relations import same_label

Mining = Literal["batch hard", "batch all", "semi-hard"]


def triplet(z, labels, *, margin, mining: Mining = "batch hard", plan=Plan()):
  """Triplet loss: a positive is to be nearer than a negative, by a margin.

    h_ipn = max(0, d(z_i, z_p) − d(z_i, z_n) + margin),   d Euclidean

    batch hard   L_i = h_ipn of the farthest positive p and the nearest negative n
    batch all    L_i = n/|V| Σ_p Σ_n h_ipn,  V: the batch's triplets with h > 0
    semi-hard    L_i = n/|P| Σ_p h_ipn of the nearest n with d(z_i, z_n) > d(z_i, z_p), or of the
                 farthest negative if there is none;  P: the batch's pairs (i, p)

  so that the mean of the values is the mean over V, or over P.

  Args:
    z: [n, d], as it is: FaceNet's lies on the unit sphere (`pairwise.unit`).
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    margin: in units of the distance.
    mining: which triplets.
    plan: of "batch hard", whose memory is linear in n. The others keep [n, n] distances and
      take n³ steps; they are evaluated anchor by anchor, whatever the plan.

  Returns:
    [n]. No gradient flows through a distance of 0.

  Hermans et al. 2017, arXiv 1703.07737, eqs. 5 and 6; Schroff et al. 2015, arXiv 1503.03832,
  §3.2. pytorch-metric-learning normalizes, and averages over triplets with h > 0, also in
  "batch hard"; its semi-hard ones are all n at most `margin` farther than p. FaceNet's own
  distance is squared.
  """
  if mining not in get_args(Mining):
    raise UserError(f"mining is one of {', '.join(get_args(Mining))}, not {mining!r}")
  check_numbers(margin=margin)
  group = labeled(z, labels)
  z, labels = group.vectors, group.side["label"]
  wide = z.astype(precision(z))
  if mining == "batch hard":
    r = reduce(
      _Farthest(), group, (group,), score=negative_squared_distance(), same_set=True, plan=plan,
      reductions={"positive": reductions.top_k(1), "negative": reductions.top_k(1)},
    )  # fmt: skip
    (_, positive), (_, negative) = r["positive"], r["negative"]
    some = (positive[:, 0] >= 0) & (negative[:, 0] >= 0)
    # Of the vectors themselves: a distance from a product is wrong by the root of its rounding.
    far = length(wide - wide[positive[:, 0]])
    near = length(wide - wide[negative[:, 0]])
    hinge = relu(far - near + margin)
    return jnp.where(some | jnp.isnan(hinge), hinge, 0)

  known = has_label(labels)

  def of_anchor(row):
    i, anchor, label = row
    d = length(anchor - wide)
    other = jnp.arange(len(wide)) != i
    same = (labels == label) & known & known[i]
    positive, negative = same & other, ~same & other
    # An anchor has no triplet without both, but is NaN where its own vector or another's is.
    nothing = jnp.where(other | jnp.isnan(anchor).any(), 0 * d, 0).sum()
    if mining == "batch all":
      hinge = relu(d[:, None] - d + margin)
      hinge = jnp.where(positive[:, None] & negative, hinge, 0)
      return hinge.sum() + nothing, (hinge > 0).sum()
    farther = jnp.where(negative & (d > d[:, None]), d, jnp.inf).min(1)  # NaN: `nothing` has it
    farthest = jnp.where(negative, d, -jnp.inf).max()
    chosen = jnp.where(farther == jnp.inf, farthest, farther)
    positive = positive & negative.any()
    hinge = jnp.where(positive, relu(d - jnp.where(positive, chosen, 0) + margin), 0)
    return hinge.sum() + nothing, positive.sum()

  sums, counts = jax.lax.map(jax.checkpoint(of_anchor), (of_index(z), wide, labels))
  return sums * (len(z) / jnp.maximum(counts.sum(), 1))


@dataclasses.dataclass(frozen=True)
class _Farthest:
  """The largest of each is the hardest: similarity is −d²."""

  def __call__(self, similarity, a, c, shared):
    pairs = same_label()(a, c, similarity)
    return {
      "positive": jnp.where(pairs.positive, -similarity, -jnp.inf),
      "negative": jnp.where(pairs.negative, similarity, -jnp.inf),
    }
