"""A method that replaces the step: SAM, and a min–max whose adversary ascends."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastax import data, encoders, methods, training, views
from contrastax.core import Method, TrainState, UserError, key_for

DIGITS = {name: values[:256] for name, values in data.load("digits").train.items()}
SIMCLR = methods.SimCLR(
  encoder=encoders.mlp((8,)),
  projection=encoders.projection((8,), out=8),
  views=views.affine_jitter(),
)


class Vector(tuple):
  """A hashable vector, for the fields of a method."""

  def __array__(self, dtype=None, copy=None):
    return np.array([*self], dtype)


@dataclasses.dataclass(frozen=True)
class SAM:
  """Sharpness-aware minimization of a method (Foret et al. 2021, arXiv 2010.01412, Algorithm 1).

  w ← w − rate · g(w + ρ g(w) / ‖g(w)‖), where g is the gradient of the batch's loss.
  """

  method: Method
  radius: float = 0.05

  def init(self, key, batch):
    return self.method.init(key, batch)

  def objective(self, params, state, batch, key):
    return self.method.objective(params, state, batch, key)

  def advance(self, params, state, step):
    return self.method.advance(params, state, step)

  def step(self, optimizer, plain):
    gradient = jax.grad(self.objective, has_aux=True)

    def step(ts, batch):
      key = key_for(ts.seed, "step", ts.step)
      grads, _ = gradient(ts.params, ts.state, batch, key)
      scale = self.radius / optax.tree.norm(grads)
      sharp = jax.tree.map(lambda w, g: w + scale * g, ts.params, grads)
      grads, (state, metrics) = gradient(sharp, ts.state, batch, key)
      updates, opt_state = optimizer.update(grads, ts.opt_state, ts.params)
      params = optax.apply_updates(ts.params, updates)
      state = self.advance(params, state, ts.step)
      return TrainState(ts.step + 1, ts.seed, params, state, opt_state), metrics

    return step


@dataclasses.dataclass(frozen=True)
class Toy:
  """A method without networks: a value of the parameters and of the batch's `x`."""

  value: Any
  begun: Any

  def init(self, key, batch):
    return jax.tree.map(jnp.asarray, dict(self.begun)), ()

  def objective(self, params, state, batch, key):
    value = self.value(params, batch["x"])
    return value, (state, {"loss": value})

  def advance(self, params, state, step):
    return state


@dataclasses.dataclass(frozen=True)
class MinMax(Toy):
  """min over `x`, max over `y`: the adversary ascends, then everything else takes the plain step."""

  rate: float = 0.3
  rises: int = 1

  def objective(self, params, state, batch, key):
    fixed = {**params, "y": jax.lax.stop_gradient(params["y"])}
    return super().objective(fixed, state, batch, key)

  def step(self, optimizer, plain):
    def step(ts, batch):
      params = dict(ts.params)
      for _ in range(self.rises):
        rise = jax.grad(lambda y: self.value({**params, "y": y}, batch["x"]))(params["y"])
        params["y"] = params["y"] + self.rate * rise
      return plain(ts._replace(params=params), batch)

    return step


SCALES = np.array([1.0, 4.0, 0.25])


def convex(params, x):
  return 0.5 * (SCALES * (params["w"] - x.mean(0)) ** 2).sum()


def saddle(params, x):
  """x²/2 + 3 x y − y²/2 + 2 x − y: its only saddle is where x + 3 y = −2 and 3 x − y = 1."""
  x, y = params["x"], params["y"]
  return 0.5 * x**2 + 3 * x * y - 0.5 * y**2 + 2 * x - y


def source(sharding=None):
  x = np.random.default_rng(0).normal(size=(24, 3))
  return data.Resident({"x": x}, batch_size=8, sharding=sharding)


def trained(method, optimizer, steps):
  """The states after 0, 1, … steps, on the host, and the metrics of each step."""
  batches = source()
  state = training.init(method, optimizer, batches.batch(0))
  step = training.make_train_step(method, optimizer)
  states, metrics = [jax.device_get(state)], []
  for t in range(steps):
    state, found = step(state, batches.batch(t))
    states.append(jax.device_get(state))
    metrics.append(jax.device_get(found))
  return states, metrics


def test_sam_is_the_formula_of_its_paper(float64):
  rate, radius, w = 0.1, 0.3, np.array([1.0, -2.0, 3.0])
  toy = Toy(convex, (("w", Vector(w)),))
  states, metrics = trained(SAM(toy, radius), optax.sgd(rate), 12)
  for t, state in enumerate(states[1:]):
    mean = np.asarray(source().batch(t)["x"]).mean(0)
    g = SCALES * (w - mean)
    sharp = w + radius * g / np.linalg.norm(g)
    np.testing.assert_allclose(metrics[t]["loss"], 0.5 * (SCALES * (sharp - mean) ** 2).sum())
    w = w - rate * SCALES * (sharp - mean)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-12)
    assert state.step == t + 1


@pytest.mark.parametrize("rises", [1, 3])
def test_a_min_max_converges_to_the_saddle(float64, rises):
  method = MinMax(saddle, (("x", 2.0), ("y", -1.0)), rate=0.1, rises=rises)
  states, _ = trained(method, optax.sgd(0.05), 400)
  expected = np.linalg.solve([[1.0, 3.0], [3.0, -1.0]], [-2.0, 1.0])
  found = [states[-1].params["x"], states[-1].params["y"]]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sam_of_simclr_trains_resumes_and_differs_from_simclr(tmp_path):
  batches = data.Resident(DIGITS, batch_size=64)

  def run(folder, steps, method=SAM(SIMCLR)):
    workdir = tmp_path / folder
    return training.train(method, optax.adamw(1e-3), batches, steps=steps, workdir=workdir)

  whole = run("whole", 6)
  run("parts", 3)
  chex.assert_trees_all_equal(run("parts", 6), whole)
  assert int(whole.step) == 6
  ordinary = run("ordinary", 6, SIMCLR)
  apart = optax.tree.norm(optax.tree.sub(whole.params, ordinary.params))
  assert 0 < float(apart) < 1


def test_an_own_step_that_is_plain_changes_nothing():
  @dataclasses.dataclass(frozen=True)
  class Same(SAM):
    def step(self, optimizer, plain):
      return plain

  toy = Toy(convex, (("w", Vector([1.0, -2.0, 3.0])),))
  ours, theirs = (trained(method, optax.adam(0.1), 3) for method in (Same(toy), toy))
  chex.assert_trees_all_equal(ours, theirs)


def test_a_step_that_calls_plain_twice_counts_as_one_and_compiles_once():
  @dataclasses.dataclass(frozen=True)
  class Twice(Toy):
    def step(self, optimizer, plain):
      return lambda ts, batch: plain(plain(ts, batch)[0], batch)

  method, batches = Twice(convex, (("w", Vector([1.0, -2.0, 3.0])),)), source()
  state = training.init(method, optax.sgd(0.1), batches.batch(0))
  step = training.make_train_step(method, optax.sgd(0.1))
  for t in range(4):
    state, _ = step(state, batches.batch(t))
    assert int(state.step) == t + 1
  assert step._cache_size() == 1


def stepping(function):
  """A method whose own step is `function(ts, batch, plain)`."""

  @dataclasses.dataclass(frozen=True)
  class Stepping(Toy):
    def step(self, optimizer, plain):
      return function and (lambda ts, batch: function(ts, batch, plain))

  return Stepping(convex, (("w", Vector([1.0, -2.0, 3.0])),))


@dataclasses.dataclass(frozen=True)
class Counted(Toy):
  step: int = 3


WRONG = {
  "a number": (
    lambda: Counted(convex, (("w", Vector([1.0])),)),
    r"method.step must be a function \(optimizer, plain\) -> step, not int; leave it out",
  ),
  "no function": (lambda: stepping(None), "method.step.* must return a function .*, not NoneType"),
  "a state alone": (
    lambda: stepping(lambda ts, batch, plain: ts),
    r"must return \(TrainState, metrics\), with 'loss' in the metrics",
  ),
  "no loss": (
    lambda: stepping(lambda ts, batch, plain: (ts, {"value": 0.0})),
    "with 'loss' in the metrics",
  ),
  "another structure": (
    lambda: stepping(lambda ts, batch, plain: (ts._replace(state={}), {"loss": 0.0})),
    "must return a TrainState of the same structure",
  ),
  "another shape": (
    lambda: stepping(
      lambda ts, batch, plain: (
        ts._replace(params=jax.tree.map(lambda x: x[..., None], ts.params)),
        {"loss": 0.0},
      )
    ),
    r"method.step must keep shapes and types, but turned params/w, float32 \[3\], into float32 \[3, 1\]",
  ),
  "a metric that is no scalar": (
    lambda: stepping(lambda ts, batch, plain: (ts, {"loss": jnp.zeros(3)})),
    "the metric 'loss' of method.step must be a scalar, not float32",
  ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_step_is_refused_in_one_line(mistake):
  make, words = WRONG[mistake]
  with pytest.raises(UserError, match=words) as error:
    trained(make(), optax.sgd(0.1), 1)
  assert "\n" not in str(error.value)
