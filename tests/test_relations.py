"""Relations: which candidates are positives and negatives of an anchor, and with which weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_numpy import assert_same, weighed

from contrastax import criteria
from contrastax.core import Group, Pairs
from contrastax.relations import Relation, same_example, same_label


def pairs(relation, anchors, candidates):
  """The weights of all pairs: sides [n] and [m] -> [n, m], positive and negative."""
  a = {name: np.asarray(x)[:, None] for name, x in anchors.items()}
  c = {name: np.asarray(x)[None] for name, x in candidates.items()}
  return jax.tree.map(np.asarray, relation(a, c, jnp.zeros((a["index"].size, c["index"].size))))


ANCHORS = {"index": [0, 1, 2], "view": [0, 0, 1], "label": [0, 0, 1]}
CANDIDATES = {"index": [0, 1, 2, -1], "view": [1, 0, 0, 1], "label": [0, 0, 0, 1]}


def test_same_label_tells_positives_negatives_and_a_vector_itself():
  found = pairs(same_label(), ANCHORS, CANDIDATES)
  np.testing.assert_array_equal(found.positive, [[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
  np.testing.assert_array_equal(found.negative, [[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 0]])


def test_same_example_tells_positives_negatives_and_a_vector_itself():
  found = pairs(same_example(), ANCHORS, CANDIDATES)
  np.testing.assert_array_equal(found.positive, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]])
  np.testing.assert_array_equal(found.negative, [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]])


@dataclasses.dataclass(frozen=True)
class by_label(Relation):
  """Halves positives; of the negatives only those of another label remain."""

  def __call__(self, a, c, similarity):
    other = jnp.where(a["label"] == c["label"], 0.0, 1.0)
    return Pairs(jnp.full_like(other, 0.5), other)


def test_and_multiplies_both_weights():
  both = same_example() & by_label()
  found = pairs(both, ANCHORS, CANDIDATES)
  np.testing.assert_array_equal(found.positive, [[0.5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0.5, 0]])
  np.testing.assert_array_equal(found.negative, [[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0]])
  twice = pairs(both & by_label(), ANCHORS, CANDIDATES)
  np.testing.assert_array_equal(twice.positive, 0.5 * found.positive)
  assert both == same_example() & by_label()
  assert hash(both) == hash(same_example() & by_label())


@dataclasses.dataclass(frozen=True)
class numbers(Relation):
  """Another relation's masks as numbers."""

  masks: Relation

  def __call__(self, a, c, similarity):
    return jax.tree.map(lambda mask: mask.astype(jnp.float64), self.masks(a, c, similarity))


@pytest.mark.parametrize("criterion", [criteria.info_nce(), criteria.hard_negative(1.0, 0.1)])
@pytest.mark.parametrize("weighted", [False, True], ids=["all candidates alike", "weighted"])
def test_masks_and_weights_of_0_and_1_say_the_same(float64, criterion, weighted):
  rng = np.random.default_rng(0)
  weight = np.array([1, 1, 0.5, 0, 1, 2, 0.0]) if weighted else np.ones(7)
  index = np.arange(7)
  side = {"index": index, "view": 0 * index, "label": index % 3}
  side |= {"as_positive": weight, "as_negative": weight[::-1]}

  @functools.partial(jax.jit, static_argnums=0)
  def found(relation, vectors):
    def total(vectors):
      anchors = Group(vectors, side)
      out = criteria.evaluate(criterion, anchors, (anchors,), relation=relation, temperature=0.3)
      return weighed(out.value), out.value

    return jax.value_and_grad(total, has_aux=True)(vectors)

  vectors = rng.normal(size=(7, 3))
  assert_same(found(same_label(), vectors), found(numbers(same_label()), vectors))
