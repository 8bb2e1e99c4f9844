"""The linear probe: scikit-learn's optimum, and a penalty chosen without the test set."""

import numpy as np
import pytest
import scipy.special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from contrastax.evaluation import linear, mean_and_interval
from contrastax.evaluation.regression import (
  L2,
  chosen_l2,
  held_out,
  predict,
  softmax_regression,
  standardized,
)


def clusters(n, seed=0, d=6, classes=3, noise=2.0):
  """Overlapping classes, in standardized dimensions."""
  centers = np.random.default_rng(9).normal(size=(classes, d))
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(n) % classes)
  return centers[labels] + noise * rng.normal(size=(n, d)), labels


def ours(features, labels, l2, weight=None, **options):
  start = np.zeros((features.shape[1] + 1, labels.max() + 1), features.dtype)
  weight = np.ones(len(labels)) if weight is None else weight
  return np.asarray(softmax_regression(features, labels, start, l2=l2, weight=weight, **options))


def theirs(features, labels, c, weight=None):
  probe = LogisticRegression(C=c, tol=1e-12, max_iter=10_000).fit(features, labels, weight)
  return np.vstack([probe.coef_.T, probe.intercept_])


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_its_weights_are_scikit_learns_optimum(float64, l2):
  features, labels = clusters(90)
  found = ours(features, labels, l2, tolerance=1e-11)
  np.testing.assert_allclose(found, theirs(features, labels, 1 / (90 * l2)), rtol=1e-6, atol=1e-7)


def test_two_classes_have_scikit_learns_optimum_of_the_difference(float64):
  features, labels = clusters(90, classes=2)
  found = ours(features, labels, 0.01, tolerance=1e-11)
  expected = theirs(features, labels, 2 / (90 * 0.01))
  np.testing.assert_allclose(found[:, 1:] - found[:, :1], expected, rtol=1e-6, atol=1e-7)


def test_an_example_of_weight_0_is_not_there_and_one_of_weight_2_is_there_twice(float64):
  features, labels = clusters(90)
  weight = np.random.default_rng(5).permutation(np.arange(90) % 3)
  twice = np.repeat(np.arange(90), weight)
  found = ours(features, labels, 0.01, weight, tolerance=1e-11)
  expected = ours(features[twice], labels[twice], 0.01, tolerance=1e-11)
  np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("l2", [1e-2, 1e-6])
def test_float32_predicts_as_scikit_learn_in_float64(l2):
  features, labels = clusters(3000, d=32, classes=10)
  features /= features.std(0)
  found = predict(ours(features.astype(np.float32), labels, l2), features)
  expected = predict(theirs(features, labels, 1 / (3000 * l2)), features)
  assert np.mean(found == expected) > 0.998


def test_a_test_example_moves_nothing_but_its_own_verdict():
  features, labels = clusters(90)
  test, truth = clusters(200, seed=1)
  first = linear(features, labels, test[:100], truth[:100])
  second = linear(features, labels, test[100:], truth[100:])
  assert linear(features, labels, test, truth) == pytest.approx((first + second) / 2, abs=1e-9)


WIDE = {"d": 80, "noise": 6.0}
"""More dimensions than a class has examples: the penalty matters."""


def test_the_penalty_is_the_best_on_the_examples_held_out():
  features, labels = clusters(150, **WIDE)
  features, _ = standardized(features, features)
  held = held_out(labels)
  rest = np.setdiff1d(np.arange(150), held)
  losses = []
  for l2 in L2:
    weights = theirs(features[rest], labels[rest], 1 / (120 * l2))
    logits = features[held] @ weights[:-1] + weights[-1]
    losses.append(log_loss(labels[held], scipy.special.softmax(logits, 1)))
  l2, _ = chosen_l2(features, labels)
  assert l2 == L2[int(np.argmin(losses))] != max(L2)
  assert max(losses) > 2 * min(losses)  # else it would be no test


def test_the_probe_is_the_plain_fit_with_the_chosen_penalty_to_all_examples():
  features, labels = clusters(150, **WIDE)
  test, truth = clusters(1000, seed=1, **WIDE)
  scaler = StandardScaler().fit(features)
  l2, _ = chosen_l2(standardized(features, features)[0], labels)
  weights = theirs(scaler.transform(features), labels, 1 / (150 * l2))
  expected = np.mean(predict(weights, scaler.transform(test)) == truth)
  found = linear(features, labels, test, truth)
  assert found == pytest.approx(expected, abs=3 / 1000)
  weak = ours(standardized(features, features)[0], labels, min(L2))
  assert found > np.mean(predict(weak, standardized(features, test)[1]) == truth) + 0.02


def test_a_fifth_is_held_out_evenly_over_the_classes():
  labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 25, 100]))
  held = held_out(labels)
  assert len(set(held)) == len(held) == 35
  np.testing.assert_array_equal(np.bincount(labels[held]), [10, 5, 20])
  np.testing.assert_array_equal(held, held_out(labels.copy()))


def test_labels_may_be_any_numbers_and_some_may_be_new_in_the_test():
  features, labels = clusters(90)
  test, truth = clusters(100, seed=1)
  numbers = np.array([3, 700, 40])
  expected = linear(features, labels, test, truth)
  assert linear(features, numbers[labels], test, numbers[truth]) == pytest.approx(
    expected, abs=0.02
  )
  assert linear(features, labels, test, np.full(100, 5)) == 0


def test_one_example_is_too_few():
  with pytest.raises(ValueError, match="at least two labeled examples, not 1"):
    linear(np.ones((1, 3)), np.array([0]), np.ones((1, 3)), np.array([0]))


def test_two_fits_of_one_size_are_one_program():
  features, labels = clusters(90)
  linear(features, labels, features, labels)
  compiled = softmax_regression._cache_size()
  linear(2 * features, labels, features, labels)
  assert softmax_regression._cache_size() == compiled


# Confidence.


def test_the_interval_is_students(float64):
  values = np.array([0.7, 0.75, 0.8, 0.72, 0.78])
  mean, half = mean_and_interval(values)
  assert mean == pytest.approx(0.75)
  assert half == pytest.approx(2.776445 * np.sqrt(np.var(values, ddof=1) / 5), rel=1e-6)
  assert mean_and_interval(values, confidence=0.5)[1] < half


def test_the_interval_covers_what_it_says():
  draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 4))
  covered = [abs(mean - 3.0) < half for mean, half in map(mean_and_interval, draws)]
  assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_one_value_has_no_interval():
  mean, half = mean_and_interval([0.5])
  assert mean == 0.5 and np.isnan(half)
