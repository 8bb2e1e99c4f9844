"""`train` with nothing but what it cannot know: method, optimizer, source, steps and workdir."""

import dataclasses
import json
import os
import signal
import threading

import chex
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastax import data, training
from contrastax.core import TrainingDiverged

X = np.random.default_rng(0).normal(size=(20, 3))
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Line:
  """A user-defined method: linear regression."""

  def init(self, key, batch):
    return jnp.zeros(3), ()

  def objective(self, params, state, batch, key):
    loss = ((batch["x"] @ params - batch["x"].sum(1)) ** 2).mean()
    return loss, (state, {"loss": loss})

  def advance(self, params, state, step):
    return state


LINE = Line()


def run(workdir, steps=12, **options):
  source = data.Resident({"x": X}, batch_size=5)
  return training.train(LINE, optax.adam(0.1), source, steps=steps, workdir=workdir, **options)


def test_a_method_of_ones_own_trains_and_goes_on_where_it_ended(tmp_path):
  whole = run(tmp_path / "whole", steps=300)
  np.testing.assert_allclose(whole.params, np.ones(3), atol=0.02)
  run(tmp_path / "parts", steps=100)
  chex.assert_trees_all_equal(run(tmp_path / "parts", steps=300), whole)


@pytest.mark.parametrize("steps, recorded", [(4, [3, 4]), (6, [3, 6]), (2, [2])])
def test_every_third_step_and_the_last_are_recorded(tmp_path, steps, recorded):
  run(tmp_path, steps=steps, log_every=3)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in lines] == recorded


@dataclasses.dataclass(frozen=True)
class NotANumberAt(Line):
  """Linear regression whose loss is NaN in one step."""

  at: int

  def objective(self, params, state, batch, key):
    loss, _ = super().objective(params, state, batch, key)
    loss = jnp.where(state + 1 == self.at, jnp.nan, loss)
    return loss, (state + 1, {"loss": loss})

  def init(self, key, batch):
    return jnp.zeros(3), jnp.int32(0)


@pytest.mark.parametrize("step, advice", [(1, "a division by 0"), (3, "Lower learning_rate")])
def test_a_loss_that_is_not_a_number_stops_with_its_step_and_advice(tmp_path, step, advice):
  source = data.Resident({"x": X}, batch_size=5)
  with pytest.raises(TrainingDiverged, match=f"^step {step}: loss is nan.*{advice}"):
    training.train(NotANumberAt(step), optax.adam(0.1), source, steps=5, workdir=tmp_path)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_saves_and_the_same_call_goes_on(tmp_path, signum):
  def interrupting(state):
    if int(state.step) == 4:
      os.kill(os.getpid(), signum)
    return {}

  before = [signal.getsignal(s) for s in SIGNALS]
  with pytest.raises(training.Interrupted) as stopped:
    run(tmp_path / "parts", evaluate=interrupting, eval_every=2)
  assert stopped.value.code == 128 + signum
  assert [signal.getsignal(s) for s in SIGNALS] == before
  checkpoints = training.Checkpoints(tmp_path / "parts" / "checkpoints")
  assert checkpoints.newest_intact() in (4, 5)
  checkpoints.close()
  chex.assert_trees_all_equal(run(tmp_path / "parts"), run(tmp_path / "whole"))


def test_another_thread_trains_without_catching_signals(tmp_path):
  found, handlers = [], []

  def watched(state):
    handlers.append([signal.getsignal(s) for s in SIGNALS])
    return {}

  def work():
    found.append(run(tmp_path / "thread", evaluate=watched))

  before = [signal.getsignal(s) for s in SIGNALS]
  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  chex.assert_trees_all_equal(found, [run(tmp_path / "main")])
  assert handlers and all(each == before for each in handlers)


def test_a_stop_that_is_given_is_the_one_that_is_used(tmp_path):
  with training.Stop() as stop:
    handler = signal.getsignal(signal.SIGTERM)

    def watched(state):
      assert signal.getsignal(signal.SIGTERM) == handler
      return {}

    run(tmp_path, evaluate=watched, stop=stop)
