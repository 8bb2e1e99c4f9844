"""What the tests of candidates that are made share: groups, and a source compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Compare, Group
from contrastax.pairwise import Plan, cosine
from contrastax.relations import same_example

N, D = 6, 5
LABELS = np.array([0.5, 2.0, 1.0, 3.5, 1.0, 2.5])


def group(vectors, view=0, index=None, as_negative=1.0, **side):
  n = len(vectors)
  side |= {
    "index": np.arange(n) if index is None else index,
    "view": np.full(n, view),
    "as_positive": np.ones(n),
    "as_negative": np.full(n, as_negative),
  }
  return jax.tree.map(jnp.asarray, Group(vectors, side))


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)


def two_views(n=N, labels=LABELS):
  """All vectors of two views, as a SimCLR has them."""
  index = np.tile(np.arange(n), 2)
  both = group(normal(0, 2 * n, D), index=index, label=labels[index % len(labels)])
  return both.attach(view=np.repeat(np.arange(2), n))


def compared(relation=same_example(), score=cosine(), params=(), same_set=True, plan=Plan("dense")):
  return Compare(relation, score, params, same_set, plan)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _added(source, relation, score, same_set, plan, params, anchors, groups, key):
  compare = Compare(relation, score, params, same_set, plan)
  return source.candidates((), anchors, groups, jax.random.key(key), compare)[1][len(groups) :]


def made(source, anchors, groups, compare=None, key=0):
  """The groups that a source adds."""
  compare = compare or compared(same_set=anchors is groups[0])
  relation, score, params, same_set, plan = compare
  return _added(source, relation, score, same_set, plan, params, anchors, groups, key)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)
