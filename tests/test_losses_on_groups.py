"""The losses on groups: against their formulas with weights, and at the edges."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from loss_cases import similarity, slopes
from loss_groups import (
  GROUPS,
  SCORES,
  STATS,
  candidates,
  each_group_loss,
  each_that_compares,
  graded,
  lacking_problem,
  mean,
  numbers,
  on_groups,
  rows_of,
  von_mises_fisher_weights,
  weighted_problem,
)

from contrastax.core import Group, Pairs
from contrastax.pairwise import cosine
from contrastax.relations import Relation, same_example, same_label


@pytest.mark.parametrize(
  ("name", "score"),
  [*((name, cosine()) for name in GROUPS), *(("info_nce", score) for score in SCORES if score != cosine())],
  ids=lambda of: of if isinstance(of, str) else type(of).__name__,
)  # fmt: skip
def test_weights_multiply_as_the_formula_on_groups_says(float64, name, score):
  """Values, and gradients by all vectors, temperatures and weights."""
  problem = weighted_problem()
  leaves, structure = jax.tree.flatten(problem)
  values, _, gradients = on_groups(name, score=score)(problem)
  v = von_mises_fisher_weights(list(rows_of(problem, SCORES[score])))

  def formula(problem):
    rows = rows_of(problem, SCORES[score])
    return np.array([GROUPS[name][1](*row, of_i) for row, of_i in zip(rows, v, strict=True)])

  np.testing.assert_allclose(values, formula(problem), rtol=1e-10)
  found = jax.tree.leaves_with_path(gradients)
  for place, (path, gradient) in enumerate(found):
    if leaves[place].dtype.kind != "f":
      continue

    def at(leaf, place=place):
      moved = structure.unflatten([*leaves[:place], leaf, *leaves[place + 1 :]])
      return (np.arange(1, 6) * formula(moved)).sum()

    expected = slopes(at, leaves[place], 1e-5)
    path, counted = jax.tree_util.keystr(path), leaves[place] != 0  # what weighs 0 comes next
    assert np.isfinite(gradient).all(), path
    atol = 1e-7 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(
      gradient[counted], expected[counted], rtol=0, atol=atol, err_msg=path
    )


@each_group_loss
def test_a_candidate_that_weighs_nothing_has_no_gradient_by_its_weight_or_vector(float64, name):
  """It is not there, as the test of copies says: no step moves a queue's empty places."""
  problem = weighted_problem()
  _, (_, queue, _), _ = problem
  _, _, (_, (_, found, _), _) = on_groups(name)(problem)
  empty = queue.side["as_negative"] == 0
  np.testing.assert_array_equal(found.vectors[empty], np.zeros((3, 4)))
  np.testing.assert_array_equal(found.side["as_negative"][empty], np.zeros(3))
  assert np.abs(found.side["as_negative"][~empty]).min() > 0


@each_group_loss
def test_a_weight_is_a_number_of_copies(float64, name):
  """Of none, too: a queue's empty places are as if they were not there."""
  anchors, (keys, queue, mixes), tau = weighted_problem()
  fold, times = np.array([1, 2, 1, 3, 1, 2, 1]), np.array([0, 2, 1, 0, 3, 1])
  weighted = keys.attach(as_positive=1.0 * fold), queue.attach(as_negative=1.0 * times), mixes
  copies = keys.attach(as_positive=np.ones(7), as_negative=keys.side["as_negative"] / fold)
  copied = repeated(copies, fold), repeated(queue.attach(as_negative=np.ones(6)), times), mixes

  @jax.jit
  def values(*problems):
    return [
      GROUPS[name][0](anchors, groups, relation=graded(), temperature=tau).value
      for groups in problems
    ]

  found, expected = values(weighted, copied)
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def repeated(group, times):
  return jax.tree.map(lambda x: np.repeat(x, times, 0), group)


@dataclasses.dataclass(frozen=True)
class as_numbers(Relation):
  """A relation's masks as weights of 0 and 1."""

  masks: Relation

  def __call__(self, a, c, similarity):
    return Pairs(*(1.0 * mask for mask in self.masks(a, c, similarity)))


@pytest.mark.parametrize("name", ["info_nce", "sup_con_in", "dcl", "hard_negative"])
def test_masks_are_weights_of_0_and_1(float64, name):
  """Values, and gradients by all vectors, temperatures and weights."""
  anchors, (keys, _, _), tau = weighted_problem()
  keys = keys.attach(as_negative=keys.side["as_negative"] * (np.arange(7) != 2))
  problem = with_index(anchors), (with_index(keys),), tau
  found = on_groups(name, relation=same_label(), stats=())(problem)
  expected = numbers(on_groups(name, relation=as_numbers(same_label()), stats=())(problem))
  for path, array in numbers(found).items():
    np.testing.assert_allclose(array, expected[path], rtol=1e-10, atol=1e-12, err_msg=path)


def with_index(group):
  return group.attach(index=np.arange(len(group.vectors)), view=np.zeros(len(group.vectors), int))


# Anchors without a positive, without a negative.


@each_that_compares
def test_anchors_without_a_positive_or_a_negative_have_their_documented_value(float64, name):
  problem = anchors, (keys,), _ = lacking_problem()
  values, observed, gradients = on_groups(name, relation=same_example())(problem)
  np.testing.assert_array_equal(values[:3], np.zeros(3))
  assert values[3] != 0
  for path, gradient in numbers(gradients).items():
    assert np.isfinite(gradient).all(), path
    if "vectors" in path or path == "[2]":  # vectors and temperatures
      np.testing.assert_array_equal(gradient[:3], np.zeros_like(gradient[:3]), err_msg=path)
      assert np.abs(gradient[3]).max() > 0, path

  positive, negative = (
    [10 * similarity(anchors.vectors[i], keys.vectors[i, j]) for i in range(4)] for j in (0, 1)
  )
  expected = {
    "positive": [0, positive[1], 0, positive[3]],
    "count": [1, 0, 0, 1],
    "log_mean": [negative[0], 0, 0, negative[3]],
    "mean_logit": [negative[0], 0, 0, negative[3]],
  }
  for stat, of_each in expected.items():
    np.testing.assert_allclose(observed[stat], of_each, rtol=1e-12, err_msg=stat)
  if name == "dclw":  # the mean of its weights is over all that have a positive: 1 and 3
    v = 2 - 2 / (1 + np.exp((positive[1] - positive[3]) * 0.1 / 0.4))
    np.testing.assert_allclose(values[3], -v * positive[3] + negative[3], rtol=1e-12)


@each_that_compares
def test_without_any_positive_nothing_costs_anything(float64, name):
  values, _, gradients = on_groups(name, relation=same_example())(lacking_problem(some=0.0))
  np.testing.assert_array_equal(values, np.zeros(4))
  for path, gradient in numbers(gradients).items():
    assert np.isfinite(gradient).all(), path
    if "vectors" in path:
      np.testing.assert_array_equal(gradient, np.zeros_like(gradient), err_msg=path)


@pytest.mark.parametrize("name", ["hard_negative", "debiased"])
def test_where_the_bound_holds_negatives_have_no_gradient(float64, name):
  """Anchor 0 is at its positive and far from its negatives, anchor 1 the other way around."""
  vectors, away = np.array([[1, 0, 0], [0, 1, 0.0]]), np.array([[0, -1, 0.5], [0, 0.5, 1]])
  problem = (
    Group(vectors, {"index": np.arange(2), "view": np.zeros(2, int)}),
    (candidates(vectors * [[1], [-1]], np.arange(2), positive=1.0),
     candidates(np.stack([away, away]), -1, negative=1.0)),
    np.full(2, 0.1),
  )  # fmt: skip
  values, _, gradients = on_groups(name, relation=same_example(), stats=())(problem)
  _, (_, to_negatives), to_temperature = gradients
  np.testing.assert_allclose(values[0], np.log1p(2 * np.exp(-20)), rtol=1e-6)
  np.testing.assert_array_equal(to_negatives.vectors[0], np.zeros((2, 3)))
  assert np.abs(to_negatives.vectors[1]).max() > 0
  assert to_temperature[0] > 0  # by which the bound itself rises


@each_group_loss
def test_stats_are_what_they_are_said_to_be(float64, name):
  problem = weighted_problem()
  _, observed, _ = on_groups(name)(problem)
  expected = {stat: [] for stat in STATS}
  for logit, positive, negative, _ in rows_of(problem):
    expected["positive"].append(mean(positive, logit))
    expected["count"].append(negative.sum())
    expected["log_mean"].append(np.log(mean(negative, np.exp(logit))))
    expected["mean_logit"].append(mean(negative * np.exp(logit), logit))
    weight = negative * np.exp(logit) / (negative * np.exp(logit)).sum()
    expected["divergence"].append((weight * (logit - np.log(mean(negative, np.exp(logit))))).sum())
  assert observed.keys() == expected.keys()
  for stat, of_each in expected.items():
    np.testing.assert_allclose(observed[stat], of_each, rtol=1e-10, err_msg=stat)


@pytest.mark.parametrize("name", ["info_nce", "hard_negative"])
def test_stats_carry_no_gradient_and_change_nothing(float64, name):
  problem = weighted_problem()

  @jax.jit
  @functools.partial(jax.grad, allow_int=True)
  def of_stats(problem):
    anchors, groups, tau = problem
    found = GROUPS[name][0](anchors, groups, relation=graded(), temperature=tau, stats=STATS)
    return sum(observed.sum() for observed in found.stats.values())

  for path, gradient in numbers(of_stats(problem)).items():
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient), err_msg=path)
  without, beside = on_groups(name, stats=())(problem), on_groups(name)(problem)
  assert without[1] == {}
  beside = numbers((beside[0], {}, beside[2]))
  for path, array in numbers(without).items():
    np.testing.assert_allclose(array, beside[path], rtol=1e-12, atol=1e-13, err_msg=path)
