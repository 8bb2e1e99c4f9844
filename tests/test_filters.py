"""Filters of negatives: which pairs they leave, by formula, alone and inside a loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import criteria, relations
from contrastax.core import Group, UserError
from contrastax.pairwise import Plan
from contrastax.relations import same_example

rng = np.random.default_rng(0)
N = 7


def examples():
  return Group(
    jnp.asarray(rng.normal(size=(N, 4))),
    {
      "index": jnp.arange(N),
      "view": jnp.zeros(N, int),
      "label": jnp.asarray([0.0, 1, 2, 0, 1, 2, 0]),
      "cluster": jnp.asarray([0, 0, 0, 1, 1, 1, 1]),
      "guide": jnp.asarray(rng.normal(size=(N, 3))),
      "as_positive": jnp.ones(N),
      "as_negative": jnp.ones(N),
    },
  )


def cosines(vectors):
  unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  return np.asarray(unit @ unit.T)


def label(group):
  return np.asarray(group.side["label"])


FILTERS = {
  "negatives_differ": (
    relations.negatives_differ("label"),
    lambda g, s: label(g)[:, None] != label(g),
  ),
  "negatives_share": (
    relations.negatives_share("cluster"),
    lambda g, s: np.asarray(g.side["cluster"])[:, None] == np.asarray(g.side["cluster"]),
  ),
  "similarity_within, most": (
    relations.similarity_within(most=0.2),
    lambda g, s: s <= 0.2,
  ),
  "similarity_within, both, otherwise": (
    relations.similarity_within(-0.3, 0.4, otherwise=0.25),
    lambda g, s: np.where((s >= -0.3) & (s <= 0.4), 1, 0.25),
  ),
  "guide_below": (
    relations.guide_below(0.1),
    lambda g, s: cosines(g.side["guide"]) <= 0.1,
  ),
  "guide_below, otherwise": (
    relations.guide_below(0.1, otherwise=0.5),
    lambda g, s: np.where(cosines(g.side["guide"]) <= 0.1, 1, 0.5),
  ),
  "label_distance": (
    relations.label_distance(),
    lambda g, s: 1 + np.abs(label(g)[:, None] - label(g)),
  ),
}


@pytest.mark.parametrize("plan", [Plan("dense"), Plan(3)], ids=["dense", "tiles"])
@pytest.mark.parametrize("name", FILTERS)
def test_a_loss_weighs_negatives_as_the_filter_says(name, plan, float64):
  relation, weights = FILTERS[name]
  keys = examples()
  anchors = Group(keys.vectors + 0.3, {**keys.side, "view": 1 - keys.side["view"]})
  tau, s = 0.3, cosines(np.concatenate([anchors.vectors, keys.vectors]))[:N, N:]
  of_pairs = weights(keys, s)
  w = of_pairs * (1 - np.eye(N))
  assert 0 < (w > 0).sum() < N * N and len(np.unique(w)) > 1
  expected = -np.diag(s) / tau + np.log(np.exp(np.diag(s) / tau) + (w * np.exp(s / tau)).sum(1))
  found = criteria.evaluate(
    criteria.info_nce(),
    anchors,
    (keys,),
    relation=same_example() & relation,
    temperature=tau,
    stats=("count",),
    plan=plan,
  )
  np.testing.assert_allclose(found.value, expected, rtol=1e-10)
  np.testing.assert_allclose(found.stats["count"], w.sum(1), rtol=1e-12)


def test_the_limits_of_similarity_have_no_gradient(float64):
  keys = examples()

  def total(vectors):
    group = Group(vectors, keys.side)
    relation = same_example() & relations.similarity_within(most=0.3, otherwise=0.5)
    return criteria.evaluate(
      criteria.dcl(), Group(keys.vectors + 0.3, {**keys.side, "view": keys.side["view"] + 1}),
      (group,), relation=relation, temperature=0.3,
    ).value.sum()  # fmt: skip

  direction = jnp.asarray(rng.normal(size=keys.vectors.shape))
  step = 1e-6
  slope = (
    (total(keys.vectors + step * direction) - total(keys.vectors - step * direction)) / 2 / step
  )
  np.testing.assert_allclose((jax.grad(total)(keys.vectors) * direction).sum(), slope, rtol=1e-6)


def test_a_guide_of_no_example_is_below_any_limit():
  nothing = {"guide": jnp.zeros((1, 1, 3))}
  found = relations.guide_below(-0.5)({"guide": jnp.ones((4, 1, 3))}, nothing, jnp.zeros((4, 1)))
  assert found.negative.all()


@pytest.mark.parametrize(
  "wrong",
  [
    lambda: relations.similarity_within(0.5, 0.5),
    lambda: relations.similarity_within(most=0.5, otherwise=-1),
    lambda: relations.guide_below(1.0),
    lambda: relations.guide_below(0.5, otherwise=-0.1),
  ],
)
def test_limits_that_make_no_sense_are_refused(wrong):
  with pytest.raises(UserError):
    wrong()


@pytest.mark.parametrize("name", ["negatives_differ", "guide_below", "label_distance"])
def test_a_side_that_is_missing_is_named(name):
  keys = examples()
  bare = Group(keys.vectors, {k: x for k, x in keys.side.items() if k not in ("label", "guide")})
  relation = same_example() & FILTERS[name][0]
  with pytest.raises(UserError, match=f"{name} needs the side '(label|guide)'"):
    criteria.evaluate(criteria.info_nce(), bare, (bare,), relation=relation, temperature=1.0)
