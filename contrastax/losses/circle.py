"""The circle loss."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.losses.arrays import (
  labeled,
  precision,
)  # fmt: skip
from contrastax.pairwise import (
  Plan,
  cosine,
  log_sum_exp,
  reduce,
)  # fmt: skip
from contrastax.pairwise.inputs import check_numbers, check_positive
from contrastax.propagate import relu
from contrastax.relations import same_label


def circle(z, labels, *, margin=0.25, scale=256.0, plan=Plan()):
  """Circle loss: each similarity is moved as far as it still has to go.

    L_i = log(1 + Σ_n exp(γ α_n (s_in − m)) Σ_p exp(−γ α_p (s_ip − 1 + m)))
    α_p = max(0, 1 + m − s_ip),  α_n = max(0, s_in + m), without gradient

  Args:
    z: [n, d]; normalized here, s is the cosine.
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    margin: m, in units of the cosine.
    scale: γ > 0; 256 in the paper for faces, 80 for finer classes.

  Returns:
    [n].

  Sun et al. 2020, arXiv 2002.10857, eq. 6, for each anchor, as fast-reid has it.
  pytorch-metric-learning averages over anchors whose loss is not 0; some code sums over all
  pairs of the batch inside one logarithm.
  """
  check_numbers(margin=margin)
  check_positive("scale", scale)
  group = labeled(z, labels)
  r = reduce(
    _Circle(), group, (group,), score=cosine(), same_set=True, plan=plan,
    shared=(jnp.asarray(margin, precision(z)), jnp.asarray(scale, precision(z))),
    reductions={"positive": log_sum_exp, "negative": log_sum_exp},
  )  # fmt: skip
  return jax.nn.softplus(r["positive"] + r["negative"])


@dataclasses.dataclass(frozen=True)
class _Circle:
  def __call__(self, similarity, a, c, shared):
    margin, scale = shared
    pairs = same_label()(a, c, similarity)
    s = jax.lax.stop_gradient(similarity)
    pull = -scale * relu(1 + margin - s) * (similarity - 1 + margin)
    push = scale * relu(s + margin) * (similarity - margin)
    return {
      "positive": jnp.where(pairs.positive, pull, -jnp.inf),
      "negative": jnp.where(pairs.negative, push, -jnp.inf),
    }
