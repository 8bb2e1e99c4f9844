"""Our losses as golden_rows.py calls them: on arrays where the score is None, on groups with any other."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from contrastax import criteria, losses
from contrastax.core import Group, Pairs, join
from contrastax.pairwise import cosine
from contrastax.relations import Relation, same_example, same_label


def group(vectors, index, *, view, as_positive=1.0, as_negative=1.0, **side):
  """Vectors as anchors or candidates."""
  full = functools.partial(jnp.broadcast_to, shape=vectors.shape[:-1])
  weights = {"as_positive": full(as_positive), "as_negative": full(as_negative)}
  return Group(vectors, {"index": full(index), "view": full(view), **weights, **side})


def both_views(z1, z2):
  index = jnp.arange(len(z1))
  return join(group(z1, index, view=0), group(z2, index, view=1))


def two_views(name, z1, z2, tau, score, **more):
  """A loss of two views, one value per anchor [2n]: those of z1 first."""
  if score is None:
    return getattr(losses, name)(z1, z2, temperature=tau, **more)
  views = both_views(z1, z2)
  criterion = getattr(criteria, {"nt_xent": "info_nce"}.get(name, name))(**more)
  return criteria.evaluate(
    criterion, views, (views,), relation=same_example(), temperature=tau, score=score, same_set=True
  ).value


def one_way(a, b, negatives, tau, score, *, loss="info_nce", in_batch=False, weight=1.0):
  """InfoNCE. Other anchors' positives are negatives if there are no others, or `in_batch`."""
  if score is None and loss == "info_nce" and not in_batch:
    return losses.info_nce(a, b, negatives, temperature=tau)
  index = jnp.arange(len(a))
  if negatives is None or in_batch:
    candidates = (group(b, index, view=1),)
  else:
    candidates = (group(b[:, None], index[:, None], view=1),)
  if negatives is not None:
    candidates += (group(negatives, -1, view=1, as_positive=0, as_negative=weight),)
  return criteria.evaluate(
    getattr(criteria, loss)(), group(a, index, view=0), candidates,
    relation=same_example(), temperature=tau, score=score or cosine(),
  ).value  # fmt: skip


def clip(a, b, tau, score):
  if score is None:
    return losses.clip(a, b, temperature=tau)
  ab, ba = tau if isinstance(tau, tuple) else (tau, tau)
  return (one_way(a, b, None, ab, score) + one_way(b, a, None, ba, score)) / 2


@dataclasses.dataclass(frozen=True)
class every_pair(Relation):
  """All are positives and negatives, as much as the candidates' weights say."""

  def __call__(self, a, c, similarity):
    return Pairs(jnp.ones_like(similarity), jnp.ones_like(similarity))


def labeled(name, z, label, tau, score):
  """A loss of labeled vectors, each against all others."""
  if score is None:
    return getattr(losses, name)(z, label, temperature=tau)
  all_of_them = group(z, jnp.arange(len(z)), view=0, label=label)
  return criteria.evaluate(
    criteria.info_nce(), all_of_them, (all_of_them,),
    relation=same_label(), temperature=tau, score=score, same_set=True,
  ).value  # fmt: skip


def with_memory(z, label, memory, memory_label):
  """Labeled vectors and a memory, all without gradient: the candidates of z."""
  return jax.lax.stop_gradient(jnp.concatenate([z, memory])), jnp.concatenate([label, memory_label])


def pairs(z, label, tau, candidates=None, candidate_label=None):
  """InfoNCE of every pair of one label, its negatives all of other labels.

  Returns values [n, m] and which of the pairs there are. Candidates: z, or such as begin with it.
  """
  if candidates is None:
    candidates, candidate_label = z, label
  i, j = (index.ravel() for index in jnp.indices((len(z), len(candidates))))
  positive = (label[i] == candidate_label[j]) & (i != j)
  negative = label[i][:, None] != candidate_label
  own = group(candidates[j][:, None], i[:, None], view=1, as_positive=1.0 * positive[:, None])
  others = group(
    jnp.broadcast_to(candidates, (len(i), *candidates.shape)), -1,
    view=1, as_positive=0, as_negative=1.0 * negative,
  )  # fmt: skip
  values = criteria.evaluate(
    criteria.info_nce(),
    group(z[i], i, view=0),
    (own, others),
    relation=same_example(),
    temperature=tau,
  ).value
  return values.reshape(len(z), -1), positive.reshape(len(z), -1)


def soft(a, b, targets, tau, score=None):
  """Cross-entropy with targets [n, m], rows summing to 1: InfoNCE with weighted positives."""
  weights = {"as_positive": targets, "as_negative": 1 - targets}
  return criteria.evaluate(
    criteria.info_nce(),
    group(a, 0, view=0), (group(jnp.broadcast_to(b, (len(a), *b.shape)), 0, view=1, **weights),),
    relation=every_pair(), temperature=tau, score=score or cosine(),
  ).value  # fmt: skip
