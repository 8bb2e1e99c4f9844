"""Health: each warning comes with its condition, once, and not too early."""

import pytest

from contrastax.training.health import Health

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
}


@pytest.mark.parametrize("illness", ILLNESSES)
def test_an_illness_is_named_with_its_step_its_value_and_a_cure(illness):
  sick, words = ILLNESSES[illness]
  warnings = Health(1000).warnings(500, {**HEALTHY, **sick})
  assert len(warnings) == 1
  assert warnings[0].startswith("step 500: ")
  for word in words:
    assert word in warnings[0]


def test_a_healthy_run_has_no_warnings():
  health = Health(100)
  assert [health.warnings(step, HEALTHY) for step in range(1, 101)] == [[]] * 100


@pytest.mark.parametrize("illness", ILLNESSES)
def test_a_warning_is_given_once(illness):
  sick = {**HEALTHY, **ILLNESSES[illness][0]}
  health = Health(100)
  assert len(health.warnings(50, sick)) == 1
  assert health.warnings(60, HEALTHY) == []
  assert [health.warnings(step, sick) for step in (70, 80, 100)] == [[], [], []]


@pytest.mark.parametrize("illness", ILLNESSES)
def test_the_first_fifth_of_a_run_is_not_judged(illness):
  sick = {**HEALTHY, **ILLNESSES[illness][0]}
  health = Health(100)
  assert [health.warnings(step, sick) for step in (1, 10, 19)] == [[], [], []]
  assert len(health.warnings(21, sick)) == 1  # and what was seen early is not lost


def test_each_illness_has_its_own_warning():
  sick = {**HEALTHY, "margin": 0.0, "embedding_std": 0.0, "effective_negatives": 1.0}
  health = Health(100)
  assert len(health.warnings(50, {**HEALTHY, "margin": 0.0})) == 1
  later = health.warnings(60, sick)
  assert len(later) == 2
  assert not any("margin" in text for text in later)


def test_few_negatives_are_not_called_a_narrow_softmax():
  few = {**HEALTHY, "negatives": 6.0, "effective_negatives": 1.5}
  assert Health(100).warnings(50, few) == []


def test_a_method_without_these_metrics_is_not_judged():
  assert Health(100).warnings(50, {"loss": 9.0, "temperature": 0.001}) == []
