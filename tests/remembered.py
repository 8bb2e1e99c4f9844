"""What the tests of sources with a memory share: keys, and a source's steps compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import criteria
from contrastax.core import Compare, Group, UserError
from contrastax.pairwise import Plan, cosine
from contrastax.relations import same_example

D, EXAMPLES = 3, 20


def directions(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def keys_of(rng, n, d=D, **side):
  sides = {
    "index": rng.integers(0, EXAMPLES, n).astype(np.int32),
    "view": np.ones(n, np.int32),
    "as_positive": np.ones(n),
    "as_negative": np.zeros(n),
    **side,
  }
  sides.setdefault("label", (7 * sides["index"] % 5).astype(np.int32))
  vectors = rng.normal(size=(n, d)) * rng.uniform(0.5, 2, (n, 1))
  return jax.tree.map(jnp.asarray, Group(vectors, sides))


@functools.partial(jax.jit, static_argnums=(0, 2))
def begun(source, keys, examples=EXAMPLES):
  return source.init(jax.random.key(1), keys, examples)


@functools.partial(jax.jit, static_argnums=0)
def advanced(source, state, keys):
  return source.advance(state, keys)


def after(source, steps, state=None):
  state = begun(source, steps[0]) if state is None else state
  for keys in steps:
    state = advanced(source, state, keys)
  return state


@functools.partial(jax.jit, static_argnums=0)
def found_by(source, state, anchors, groups, key):
  compare = Compare(same_example(), cosine(), (), False, Plan())
  return source.candidates(state, anchors, groups, key, compare)


def candidates(source, state, anchors, groups=None, key=0):
  return found_by(source, state, anchors, groups or (anchors,), jax.random.key(key))


@functools.partial(jax.jit, static_argnums=0, static_argnames="stats")
def _evaluated(relation, anchors, groups, *, temperature, stats):
  found = criteria.evaluate(
    criteria.info_nce(),
    anchors,
    groups,
    relation=relation,
    temperature=temperature,
    stats=stats,
  )
  return found.value, found.stats


def evaluated(anchors, groups, temperature, relation=same_example(), stats=()):
  """InfoNCE of each anchor, and its statistics."""
  return _evaluated(relation, anchors, groups, temperature=temperature, stats=stats)


def said(wrong):
  with pytest.raises(UserError) as raised:
    wrong()
  assert "\n" not in str(raised.value)
  return str(raised.value)
