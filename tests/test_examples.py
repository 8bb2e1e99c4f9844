"""Every example of docs/examples learns, begins as its state says, and resumes bit for bit."""

import functools

import chex
import examples
import jax
import numpy as np
import optax
import pytest

from contrastax import training

LONG = [
  name if name in examples.QUICK else pytest.param(name, marks=pytest.mark.full)
  for name in examples.NAMES
]


@pytest.mark.parametrize("name", examples.NAMES)
def test_its_loss_falls(name):
  example = examples.module(name)
  source, optimizer = example.source(), optax.adam(3e-3)
  state = training.init(example.method, optimizer, source.batch(0))
  # A state that had taken in a batch at initialization would differ between two batches.
  other = training.init(example.method, optimizer, source.batch(1))
  chex.assert_trees_all_equal(other.state, state.state)
  step = training.make_train_step(example.method, optimizer)
  total = "objective" if example.method.terms else "loss"
  found = []
  for t in range(25):
    state, metrics = step(state, source.batch(t))
    assert all(np.isfinite(value) for value in metrics.values()), (t, metrics)
    found.append(float(metrics[total]))
  assert step._cache_size() == 1
  begin = examples.LATE.get(name, 0)
  early, late = np.mean(found[begin : begin + 5]), np.mean(found[-5:])
  assert late < early - 0.02 * abs(early), (early, late)


@pytest.mark.parametrize("name", LONG)
def test_a_stopped_run_ends_where_an_uninterrupted_one_does(name, tmp_path):
  example = examples.module(name)
  go = functools.partial(
    training.train, example.method, optax.adam(1e-3), example.source(), checkpoint_every=100
  )
  whole = go(steps=4, workdir=tmp_path / "whole")
  go(steps=2, workdir=tmp_path / "parts")
  resumed = go(steps=4, workdir=tmp_path / "parts")
  jax.tree.map(np.testing.assert_array_equal, whole, resumed)
