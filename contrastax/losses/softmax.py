"""The softmax losses on arrays, under their papers' names.

Each builds the groups that its paper means and calls the loss on groups. All normalise
their inputs: the similarity s is the cosine. All return one value per anchor, so the
paper's loss is the mean of what they return. Temperatures τ > 0 are scalars, or one per
anchor, and may be traced and differentiated.
"""

import chex
import jax.numpy as jnp

from contrastax.core import Group, join
from contrastax.losses import groups as on_groups
from contrastax.positives import same_example


def info_nce(anchors, positives, negatives=None, *, temperature):
  """InfoNCE, in one direction.

    L_i = −s(a_i, p_i)/τ + log( exp(s(a_i, p_i)/τ) + Σ_j exp(s(a_i, n_j)/τ) )

  Args:
    anchors: [n, d].
    positives: [n, d], positives[i] belongs to anchors[i].
    negatives: None: the other anchors' positives (in-batch); [m, d]: the same for every
      anchor, such as a MoCo queue, and then no other anchor's positive is a negative;
      [n, k, d]: a set per anchor.
    temperature: τ, scalar or [n].

  Returns:
    [n]. In-batch with n = 1, or with m or k = 0, there is no negative: 0.

  Oord et al. 2018, arXiv 1807.03748, eq. 4. With a queue: He et al. 2020, arXiv
  1911.05722, eq. 1. MoCo v3's code multiplies by 2τ; this does not.
  """
  chex.assert_rank([anchors, positives], 2)
  chex.assert_equal_shape([anchors, positives])
  n = anchors.shape[0]
  index = jnp.arange(n)
  queries = Group(anchors, {"index": index, "view": jnp.zeros(n, int)})
  if negatives is None:
    candidates = (_candidates(positives, index, 1),)
  else:
    none = jnp.full(negatives.shape[:-1], -1)
    keys = _candidates(positives[:, None], index[:, None], 1)
    candidates = (keys, _candidates(negatives, none, 1, as_positive=0))
  return on_groups.info_nce(
    queries, candidates, relation=same_example(), temperature=temperature
  ).value


def nt_xent(z1, z2, *, temperature):
  """NT-Xent, SimCLR's loss: every view of every example is an anchor.

    L_i = −s(z_i, z_i⁺)/τ + log Σ_{j ≠ i} exp(s(z_i, z_j)/τ)

  over the 2n vectors z = [z1; z2], z_i⁺ the other view of z_i's example.

  Args:
    z1, z2: [n, d], the two views; row i of both is the same example.
    temperature: τ, scalar or [2n].

  Returns:
    [2n], anchors z1 first. With n = 1 there is no negative: 0.

  Chen et al. 2020, arXiv 2002.05709, eq. 1. Google's code returns the sum of the two
  views' means: twice the mean of this.
  """
  views = _two_views(z1, z2)
  return on_groups.info_nce(
    views, (views,), relation=same_example(), temperature=temperature, same_set=True
  ).value


def dcl(z1, z2, *, temperature):
  """Decoupled contrastive loss: NT-Xent without the positive in the denominator.

    L_i = −s(z_i, z_i⁺)/τ + log Σ_j exp(s(z_i, z_j)/τ), j over the other examples' vectors

  Args:
    z1, z2: [n, d], the two views; row i of both is the same example.
    temperature: τ, scalar or [2n].

  Returns:
    [2n], anchors z1 first. With n = 1 there is no negative: 0.

  Yeh et al. 2022, arXiv 2110.06848, eq. 5. The paper sums the two directions: twice the
  mean of this. A public port uses one direction and unnormalised inputs.
  """
  views = _two_views(z1, z2)
  return on_groups.dcl(
    views, (views,), relation=same_example(), temperature=temperature, same_set=True
  ).value


def _two_views(z1, z2):
  chex.assert_rank([z1, z2], 2)
  chex.assert_equal_shape([z1, z2])
  index = jnp.arange(z1.shape[0])
  return join(_candidates(z1, index, 0), _candidates(z2, index, 1))


def _candidates(vectors, index, view, *, as_positive=1):
  one = jnp.ones(index.shape, jnp.promote_types(vectors.dtype, jnp.float32))
  side = {"index": index, "view": jnp.full(index.shape, view)}
  return Group(vectors, {**side, "as_positive": as_positive * one, "as_negative": one})
