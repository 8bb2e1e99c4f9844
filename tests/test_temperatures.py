"""Temperatures that move: by a schedule, and by their gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastax import schedules
from contrastax.core import Temperature, UserError
from contrastax.temperatures import fixed, individual, learned, scheduled


def test_a_cosine_goes_from_start_to_end_and_stays():
  momentum = schedules.cosine(start=0.996, end=1.0, steps=100)
  expected = [1 - 0.004 * (np.cos(np.pi * k / 100) + 1) / 2 for k in (0, 30, 100)]  # BYOL, §3.2
  np.testing.assert_allclose([momentum(k) for k in (0, 30, 100)], expected, rtol=1e-6)
  assert momentum(250) == 1.0


def test_a_line_goes_from_start_to_end_in_its_share_of_the_steps():
  line = schedules.linear(start=0.04, end=0.08, steps=100, over=0.5)
  np.testing.assert_allclose(
    [line(k) for k in (0, 25, 50, 90)], [0.04, 0.06, 0.08, 0.08], rtol=1e-6
  )


def test_a_cycle_is_high_at_whole_periods_and_low_between():
  cycle = schedules.cycle(high=1.0, low=0.1, period=40)
  expected = [0.1 + 0.9 * (1 + np.cos(2 * np.pi * k / 40)) / 2 for k in (0, 7, 20, 33)]
  np.testing.assert_allclose([cycle(k) for k in (0, 7, 20, 33)], expected, rtol=1e-6)
  for k in (0, 7, 33):
    assert cycle(k + 80) == pytest.approx(float(cycle(k)), rel=1e-6)
  with pytest.raises(UserError, match="at least 1 step"):
    schedules.cycle(high=1.0, low=0.1, period=0)


def test_a_number_stands_for_a_schedule_that_does_not_move():
  assert schedules.at(0.5, 3) == schedules.at(optax.constant_schedule(0.5), 3)


def test_a_scheduled_temperature_counts_its_own_steps():
  temperature = scheduled(schedules.linear(start=0.5, end=0.1, steps=4))
  params, state = temperature.init(0)
  seen = []
  for _ in range(6):
    seen.append(float(temperature.value(params, state, {})))
    state = temperature.advance(state, {}, seen[-1], {})
  np.testing.assert_allclose(seen, [0.5, 0.4, 0.3, 0.2, 0.1, 0.1], rtol=1e-6)


def test_a_learned_temperature_is_the_exponential_of_what_is_learned(float64):
  temperature = learned(0.07)
  params, _ = temperature.init(0)
  assert temperature.value(params, (), {}) == pytest.approx(0.07)

  def value(s):
    return temperature.value({"log_scale": s}, (), {})

  s, h = params["log_scale"], 1e-6
  expected = (value(s + h) - value(s - h)) / (2 * h)
  assert jax.grad(value)(s) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("start, towards", [(0.01, -1.0), (0.5, 1.0)])
def test_at_a_bound_it_stays_and_can_come_back(float64, start, towards):
  """Descent towards lower (higher) temperatures ends at the bound, and one step back leaves it."""
  temperature = learned(start, min_temperature=0.01, max_temperature=0.5)
  params, _ = temperature.init(0)

  def stepped(params, direction):
    gradient = jax.grad(lambda p: -direction * temperature.value(p, (), {}))(params)
    return jax.tree.map(lambda x, g: x - 10.0 * g, params, gradient)

  outwards = params
  for _ in range(5):
    outwards = stepped(outwards, towards)
  assert temperature.value(outwards, (), {}) == pytest.approx(start)
  back = temperature.value(stepped(outwards, -towards), (), {})
  assert (back - start) * towards < 0


def test_its_value_outside_the_bounds_is_the_bound():
  value = learned(0.07).value({"log_scale": jnp.float32(20)}, (), {})
  np.testing.assert_allclose(value, 0.01, rtol=1e-6)


@pytest.mark.parametrize("bounds", [(0.005, 0.01, 1), (2.0, 0.01, 1), (0.1, 0, 1)])
def test_bounds_that_contradict_are_refused(bounds):
  with pytest.raises(UserError, match="0 < min_temperature <= temperature <= max_temperature"):
    learned(bounds[0], min_temperature=bounds[1], max_temperature=bounds[2])


def test_temperatures_declare_what_they_are():
  declared = {
    fixed(0.2): (False, False, None),
    scheduled(schedules.cosine(start=0.5, end=0.1, steps=9)): (False, False, None),
    learned(0.2, min_temperature=0.1, max_temperature=0.5): (False, False, (0.1, 0.5)),
    learned(0.2, bias=-10.0): (True, False, (0.01, np.inf)),
    individual(0.2, min_temperature=0.1, max_temperature=0.5): (False, True, (0.1, 0.5)),
  }
  for temperature, expected in declared.items():
    assert isinstance(temperature, Temperature)
    assert (temperature.learns_bias, temperature.per_anchor, temperature.bounds) == expected
    assert ("bias" in temperature.init(3)[0]) == temperature.learns_bias


@pytest.mark.parametrize(
  "make", [lambda: schedules.cosine(start=1, end=0, steps=0), lambda: schedules.linear(start=1, end=0, steps=9, over=0)]
)  # fmt: skip
def test_schedules_without_steps_are_refused(make):
  with pytest.raises(UserError):
    make()
