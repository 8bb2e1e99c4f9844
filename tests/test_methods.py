"""Every method learns on digits, keeps its state well, and ends as an uninterrupted run does."""

import functools

import all_methods
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastax import data, evaluation, training
from contrastax.core import UserError
from contrastax.training import Stop, make_mesh, train

METHODS = all_methods.parts()


def embedded(method, state, images):
  return evaluation.embed(method.encoder, state.params["encoder"], state.state["encoder"], images)


@pytest.mark.parametrize(
  "name",
  [pytest.param(n, marks=pytest.mark.full) if n in all_methods.LONG else n for n in METHODS],
)
def test_it_learns(name):
  """Five labels per class are worth more than before training, by three standard errors."""
  method, found = METHODS[name], data.load("digits")
  train, test = (all_methods.seen_by(name, part) for part in (found.train, found.test))
  source, optimizer = data.Resident(train, batch_size=128), optax.adamw(3e-3)
  state = training.init(method, optimizer, source.batch(0))

  def judged(state):
    ours, theirs = (embedded(method, state, part["image"]) for part in (train, test))
    values = evaluation.few_label(ours, train["label"], theirs, test["label"], per_class=5)
    return values, float(evaluation.effective_rank(jnp.asarray(theirs)))

  before, rank = judged(state)
  step = training.make_train_step(method, optimizer)
  for t in range(100):
    state, metrics = step(state, source.batch(t))
  after, rank_after = judged(state)
  lead = after - before
  assert lead.mean() > 3 * lead.std(ddof=1) / len(lead) ** 0.5, (before.mean(), after.mean())
  assert rank_after > rank / 2
  assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
  "name",
  [n if n == "MoCo" else pytest.param(n, marks=pytest.mark.full) for n in METHODS],
)
def test_a_run_that_stopped_ends_where_an_uninterrupted_one_does(name, tmp_path):
  digits = {key: values[:256] for key, values in data.load("digits").train.items()}
  source = data.Resident(all_methods.seen_by(name, digits), batch_size=128)
  go = functools.partial(
    train, METHODS[name], optax.adamw(1e-3), source, mesh=make_mesh(), checkpoint_every=100
  )
  with Stop() as stop:
    whole = go(steps=6, workdir=tmp_path / "whole", stop=stop)
    go(steps=3, workdir=tmp_path / "parts", stop=stop)
    resumed = go(steps=6, workdir=tmp_path / "parts", stop=stop)
  jax.tree.map(np.testing.assert_array_equal, whole, resumed)


def test_a_run_does_not_go_on_with_other_data(tmp_path):
  """Nor with the same in another order: what is kept of each example would be another's."""
  digits = {key: values[:256] for key, values in data.load("digits").train.items()}
  method, optimizer = METHODS["SimCLR, iSogCLR"], optax.adamw(1e-3)
  go = functools.partial(train, method, optimizer, mesh=make_mesh(), workdir=tmp_path)
  reverse = {key: values[::-1] for key, values in digits.items()}
  fewer = {key: values[:255] for key, values in digits.items()}
  with Stop() as stop:
    go(data.Resident(digits, batch_size=128), steps=2, stop=stop)
    for other in (reverse, fewer):
      with pytest.raises(
        UserError, match="the data are not those that checkpoint 2 was trained on"
      ):
        go(data.Resident(other, batch_size=128), steps=4, stop=stop)
    go(data.Resident(digits, batch_size=128, seed=0), steps=4, stop=stop)


def test_a_fingerprint_is_of_names_types_values_and_their_order():
  arrays = {"image": np.arange(12, dtype=np.uint8).reshape(4, 3), "label": np.arange(4)}
  others = [
    {**arrays, "label": np.arange(4)[::-1]},
    {**arrays, "label": np.arange(4, dtype=np.int32)},
    {"image": arrays["image"], "target": arrays["label"]},
    {**arrays, "image": arrays["image"].reshape(4, 3, 1)},
    {name: values[:3] for name, values in arrays.items()},
  ]
  prints = [data.Resident(x, batch_size=2).fingerprint for x in (arrays, *others)]
  assert len(set(prints)) == len(prints)
  again = {name: np.array(values) for name, values in reversed(arrays.items())}
  assert data.Resident(again, batch_size=2).fingerprint == prints[0]
