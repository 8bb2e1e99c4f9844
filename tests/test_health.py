"""Health: each warning comes with its condition, once, and not too early."""

import numpy as np
import pytest

from contrastax.core import TrainingDiverged, UserError
from contrastax.evaluation import effective_rank, embedding_std
from contrastax.training.health import Health, check_collapse

HEALTHY = {
  "loss": 3.0,
  "temperature": 0.5,
  "margin": 1.2,
  "embedding_std": 0.9,
  "negatives": 510.0,
  "effective_negatives": 120.0,
}
ILLNESSES = {
  "no better than chance": ({"margin": 0.02}, ["margin 0.020", "higher learning rate"]),
  "worse than chance": ({"margin": -0.5}, ["margin -0.500", "higher learning rate"]),
  "collapse": ({"embedding_std": 0.004}, ["collapse", "0.004", "lower learning rate"]),
  "narrow softmax": (
    {"effective_negatives": 1.3, "temperature": 0.01},
    ["temperature 0.01 is too small", "1.3 of its 510 negatives"],
  ),
  "temperatures at a bound": (
    {"at_bound": 0.8},
    ["80% of the temperatures are at a bound", "change rho"],
  ),
}


@pytest.mark.parametrize("illness", ILLNESSES)
def test_an_illness_is_named_with_its_step_its_value_and_a_cure(illness):
  sick, words = ILLNESSES[illness]
  warnings = Health(1000).warnings(500, {**HEALTHY, **sick})
  assert len(warnings) == 1
  assert warnings[0].startswith("step 500: ")
  for word in words:
    assert word in warnings[0]


def test_ten_steps_in_which_no_anchor_has_a_negative_stop_the_run():
  health, none = Health(1000), {**HEALTHY, "negatives": 0.0}
  for step in range(1, 10):
    health.check(step, none)
  with pytest.raises(UserError, match="step 10: no anchor has had a negative for 10 steps"):
    health.check(10, none)


def test_a_step_without_negatives_now_and_then_does_not():
  health, none = Health(1000), {**HEALTHY, "negatives": 0.0}
  for step in range(1, 100):
    health.check(step, HEALTHY if step % 10 == 0 else none)
  for step in range(100, 200):
    health.check(step, {"loss": 1.0})  # a method that has none


def test_a_healthy_run_has_no_warnings():
  health = Health(100)
  assert [health.warnings(step, HEALTHY) for step in range(1, 101)] == [[]] * 100


@pytest.mark.parametrize("illness", ILLNESSES)
def test_a_warning_is_given_once(illness):
  sick = {**HEALTHY, **ILLNESSES[illness][0]}
  health = Health(1000)
  assert len(health.warnings(500, sick)) == 1
  assert health.warnings(600, HEALTHY) == []
  assert [health.warnings(step, sick) for step in (700, 800, 1000)] == [[], [], []]


@pytest.mark.parametrize("illness", ILLNESSES)
def test_the_first_fifth_of_a_run_is_not_judged(illness):
  sick = {**HEALTHY, **ILLNESSES[illness][0]}
  health = Health(1000)
  assert [health.warnings(step, sick) for step in (1, 10, 199)] == [[], [], []]
  assert len(health.warnings(201, sick)) == 1  # and what was seen early is not lost


def test_the_margin_is_not_checked_before_step_200():
  """An untrained encoder scores all pairs alike."""
  untrained = {**HEALTHY, "margin": 0.0}
  short = Health(150)
  assert [short.warnings(step, untrained) for step in range(1, 151)] == [[]] * 150
  health = Health(300)
  assert [health.warnings(step, untrained) for step in (100, 199)] == [[], []]
  assert len(health.warnings(200, untrained)) == 1


@pytest.mark.parametrize(
  "margin, words", [(-0.5, "no better"), (0.0, "no better"), (0.068, "hardly")]
)
def test_a_positive_margin_is_not_called_no_better(margin, words):
  (warning,) = Health(1000).warnings(500, {**HEALTHY, "margin": margin})
  assert f"positives score {words}" in warning


def test_a_margin_of_a_tenth_or_more_is_no_warning():
  assert Health(1000).warnings(500, {**HEALTHY, "margin": 0.1}) == []


def test_each_illness_has_its_own_warning():
  sick = {**HEALTHY, "margin": 0.0, "embedding_std": 0.0, "effective_negatives": 1.0}
  health = Health(1000)
  assert len(health.warnings(500, {**HEALTHY, "margin": 0.0})) == 1
  later = health.warnings(600, sick)
  assert len(later) == 2
  assert not any("margin" in text for text in later)


def test_few_negatives_are_not_called_a_narrow_softmax():
  few = {**HEALTHY, "negatives": 6.0, "effective_negatives": 1.5}
  assert Health(100).warnings(50, few) == []


def test_a_method_without_these_metrics_is_not_judged():
  assert Health(100).warnings(50, {"loss": 9.0, "temperature": 0.001}) == []


# The alarm.


@pytest.mark.parametrize("prefix", ["", "eval/"])
@pytest.mark.parametrize(
  "collapsed, words",
  [
    ({"embedding_std": 0.0021}, ["their spread is 0.0021 of a uniform sphere's, below 0.01"]),
    ({"effective_rank": 1.04}, ["their effective rank is 1.04, below 1.5"]),
    (
      {"embedding_std": 1e-9, "effective_rank": 1.0},
      ["1e-09 of a uniform sphere", " and their eff"],
    ),
  ],
)
def test_a_collapse_stops_the_run_in_one_line_that_says_what_was_seen(prefix, collapsed, words):
  healthy = {"embedding_std": 0.9, "effective_rank": 40.0, "loss": 1.0}
  metrics = {prefix + name: value for name, value in {**healthy, **collapsed}.items()}
  with pytest.raises(TrainingDiverged, match="^step 300: the embeddings have collapsed") as error:
    check_collapse(300, 1000, metrics)
  text = str(error.value)
  assert "Lower learning_rate" in text and "\n" not in text
  for word in words:
    assert word in text


def test_a_run_that_spreads_or_has_only_begun_or_says_nothing_of_it_goes_on():
  check_collapse(300, 1000, {"embedding_std": 0.02, "effective_rank": 1.6})
  check_collapse(199, 1000, {"embedding_std": 0.0, "effective_rank": 1.0})
  check_collapse(300, 1000, {"loss": 3.0, "eval/knn": 0.1})


def test_the_alarm_hears_what_the_measures_say_of_collapsed_embeddings():
  rng = np.random.default_rng(0)
  spread = rng.normal(size=(200, 16)).astype(np.float32)
  point = np.float32(1) + np.float32(1e-3) * spread
  line = np.outer(rng.normal(size=200), rng.normal(size=16)).astype(np.float32)

  def measured(x):
    return {"embedding_std": float(embedding_std(x)), "effective_rank": float(effective_rank(x))}

  check_collapse(9, 10, measured(spread))
  check_collapse(9, 10, measured(np.abs(spread)))  # as after a ReLU: one direction is strong
  for collapsed in (point, line, 0 * spread):
    with pytest.raises(TrainingDiverged, match="have collapsed"):
      check_collapse(9, 10, measured(collapsed))
