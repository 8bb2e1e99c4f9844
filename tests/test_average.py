"""The average of an encoder's weights: its formula, what it leaves as it was, and where it is used."""

import json
import shutil

import chex
import jax
import numpy as np
import optax
import pytest
import tiny

import contrastax
from contrastax import data, encoders, evaluation, methods, training, views
from contrastax.core import UserError
from contrastax.experiments import run
from contrastax.training.average import ENTRY

METHOD = methods.BYOL(
  encoder=encoders.convnet((4,)),
  projection=encoders.projection((4,), out=3),
  predictor=encoders.projection((4,), out=3),
  views=views.affine_jitter(),
  momentum=0.9,
)
OPTIMIZER = optax.sgd(0.5)


def trained(method, steps):
  """The states before and after each step, in NumPy."""
  images = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 1), np.uint8)
  batch = {"image": images, "index": np.arange(8), "label": np.arange(8) % 2}
  state = training.init(method, OPTIMIZER, batch)
  step, states = training.make_train_step(method, OPTIMIZER), [jax.device_get(state)]
  for _ in range(steps):
    state, _ = step(state, batch)
    states.append(jax.device_get(state))
  return states


@pytest.mark.parametrize("decay", [0.05, 0.2, 0.999])
def test_it_is_its_formula(decay):
  states = trained(training.with_average(METHOD, decay), 12)

  def weights(state):
    return {"params": state.params["encoder"], "state": state.state["encoder"]}

  average = jax.tree.map(np.float64, weights(states[0]))
  for t, after in enumerate(states[1:]):
    m = min(decay, (1 + t) / (10 + t))
    average = jax.tree.map(lambda a, w, m=m: m * a + (1 - m) * w, average, weights(after))
    found = dict(zip(("params", "state"), training.evaluated_weights(METHOD, after), strict=True))
    chex.assert_trees_all_close(found, average, rtol=1e-4, atol=1e-6)
  far = jax.tree.map(lambda a, w: np.abs(a - w).max(), average, weights(states[-1]))
  assert max(jax.tree.leaves(far)) > 1e-3


def test_the_training_is_that_without_it():
  plain, averaged = trained(METHOD, 3), trained(training.with_average(METHOD, 0.9), 3)
  for one, other in zip(plain, averaged, strict=True):
    del other.state[ENTRY]
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_it_goes_with_an_online_probe():
  both = evaluation.with_online_probe(
    training.with_average(METHOD, 0.9), evaluation.online_probe(2)
  )
  found = trained(both, 2)[-1]
  expected = trained(training.with_average(METHOD, 0.9), 2)[-1]
  jax.tree.map(np.testing.assert_array_equal, found.state[ENTRY], expected.state[ENTRY])


@pytest.mark.parametrize("decay", [0, 1.0, -0.5, float("nan")])
def test_a_decay_out_of_range_is_refused(decay, tmp_path, capsys):
  with pytest.raises(UserError, match="the decay of the average must be above 0 and below 1, not"):
    training.with_average(METHOD, decay)
  assert run.main([*tiny.written(tmp_path), f"--config.average={decay}"]) == 2
  assert "config.average" in capsys.readouterr().err


ENCODER = {"name": "convnet", "widths": (4,)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Runs of the same config: with the average, without it, and with it from a killed process."""
  whole, without, resumed = (tmp_path_factory.mktemp(name) for name in ("a", "b", "c"))
  changes = {"data": "made:8x8x1", "method": {**tiny.METHOD, "encoder": ENCODER}}
  assert run.main(tiny.written(whole, **changes, average=0.9)) == 0
  assert run.main(tiny.written(without, **changes)) == 0
  shutil.copytree(whole / "run", resumed / "run")
  shutil.rmtree(resumed / "run" / "checkpoints" / "4")
  (resumed / "run" / "summary.json").unlink()
  assert run.main(tiny.written(resumed, **changes, average=0.9)) == 0
  return [each / "run" for each in (whole, without, resumed)]


def test_it_is_loaded_and_evaluated(runs):
  whole, without, _ = runs
  averaged, plain = contrastax.load(whole), contrastax.load(without)
  difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), averaged.params, plain.params)
  assert min(jax.tree.leaves(difference)) > 0
  dataset = data.load("made:8x8x1")
  table = json.loads((whole / "summary.json").read_text())["table"]
  features = [averaged(split["image"]) for split in dataset[:2]]
  expected = evaluation.knn(features[0], dataset.train["label"], features[1], dataset.test["label"])
  assert abs(table["trained"]["knn"] - expected) < 1e-9
  kept = contrastax.load(without, encoder=plain.encoder)
  own = contrastax.load(
    whole, network="encoder", encoder=plain.encoder, inputs=dataset.test["image"][:1]
  )
  jax.tree.map(np.testing.assert_array_equal, own.params, averaged.params)
  jax.tree.map(np.testing.assert_array_equal, kept.params, plain.params)


def test_other_networks_are_loaded_as_they_are(runs):
  projection = encoders.projection((8,), out=8)
  x = np.zeros((1, 4), np.float32)
  found, expected = (
    contrastax.load(each, network="projection", encoder=projection, inputs=x) for each in runs[:2]
  )
  jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)


def test_a_resumed_run_has_the_same_average(runs):
  whole, _, resumed = (contrastax.load(each) for each in runs)
  jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
  jax.tree.map(np.testing.assert_array_equal, resumed.state, whole.state)
