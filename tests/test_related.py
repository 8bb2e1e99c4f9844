"""Resident: trees of arrays, orders and related examples; on one and on eight devices."""

import contextlib
import json
import pathlib
import sys
import tempfile

import chex
import jax
import numpy as np
import optax
import processes
import pytest

from contrastax import data, training
from contrastax.core import UserError

RNG = np.random.default_rng(0)
N = 48
LABEL = np.arange(N) % 6
ARRAYS = {
  "image": RNG.integers(0, 256, (N, 2, 2, 1), np.uint8),
  "tokens": {"ids": RNG.integers(0, 50, (N, 5)), "mask": (RNG.random((N, 5)) < 0.5,)},
  "label": LABEL,
}
PLACES = RNG.integers(-1, N, (N, 3))
ONE_PLACE = np.where(np.arange(N) % 5 == 0, -1, (np.arange(N) + 7) % N)
EPISODE = np.repeat(np.arange(4), 12)


def sources(sharding=None):
  """A source of each kind, by name."""

  def resident(**options):
    return data.Resident(ARRAYS, sharding=sharding, **options)

  return {
    "shuffled": resident(batch_size=8, seed=2),
    "balanced": resident(order=data.balanced(LABEL, 4, 2)),
    "grouped": resident(order=data.grouped(LABEL, 8)),
    "in order": resident(order=data.in_order(N)),
    "windows": resident(order=data.windows(EPISODE, 4, 8), related={"hard": PLACES}),
    "related": resident(batch_size=8, related={"hard": PLACES, "positive": ONE_PLACE}),
    "named fields": resident(
      order=data.balanced(LABEL, 4, 2), related={"other": data.Related(PLACES, ("tokens",))}
    ),
  }


def rows(tree, at):
  return jax.tree.map(lambda values: values[at], tree)


@pytest.mark.parametrize("name", sources())
def test_a_batch_is_the_rows_of_its_order_and_of_their_related_places(name):
  source, again = sources()[name], sources()[name]
  related = {
    "windows": {"hard": PLACES},
    "related": {"hard": PLACES, "positive": ONE_PLACE},
    "named fields": {"other": PLACES},
  }.get(name, {})
  for step in (0, 3, 17):
    at = source.order(step)
    expected = rows(ARRAYS, at)
    for relation, places in related.items():
      fields = ("tokens",) if name == "named fields" else tuple(ARRAYS)
      found = rows({f: ARRAYS[f] for f in fields}, np.maximum(places[at], 0))
      expected |= {f"{relation}_{field}": values for field, values in found.items()}
      expected[f"{relation}_index"] = places[at]
    expected["index"] = at if at.ndim == 1 else at[:, 0]
    batch = jax.device_get(source.batch(step))
    chex.assert_trees_all_equal(batch, jax.tree.map(np.asarray, expected))
    assert batch["index"].dtype == np.int32
    chex.assert_trees_all_equal(batch, jax.device_get(again.batch(step)))


def test_windows_have_an_axis_of_time_and_related_examples_an_axis_of_places():
  batch = sources()["windows"].batch(0)
  assert batch["tokens"]["ids"].shape == (8, 4, 5) and batch["index"].shape == (8,)
  assert batch["hard_image"].shape == (8, 4, 3, 2, 2, 1) and batch["hard_index"].shape == (8, 4, 3)
  batch = sources()["related"].batch(0)
  assert batch["positive_image"].shape == (8, 2, 2, 1) and batch["positive_index"].shape == (8,)


def test_the_order_and_the_related_places_are_in_the_fingerprint():
  def resident(**options):
    return data.Resident(ARRAYS, **options).fingerprint

  plain = resident(batch_size=8)
  assert resident(batch_size=12, seed=3) == plain
  assert resident(order=data.shuffled(N, 12, 3)) == plain
  moved = np.where(np.arange(N)[:, None] == 3, 0, PLACES)
  prints = [
    plain,
    resident(order=data.in_order(N)),
    resident(order=data.balanced(LABEL, 4, 2)),
    resident(order=data.balanced(LABEL, 4, 2, seed=1)),
    resident(order=data.grouped(LABEL, 8)),
    resident(order=data.windows(EPISODE, 4, 8)),
    resident(batch_size=8, related={"hard": PLACES}),
    resident(batch_size=8, related={"hard": moved}),
    resident(batch_size=8, related={"soft": PLACES}),
    resident(batch_size=8, related={"hard": PLACES[:, :2]}),
    resident(batch_size=8, related={"hard": data.Related(PLACES, ("image",))}),
    data.Resident({**ARRAYS, "tokens": ARRAYS["tokens"]["ids"]}, batch_size=8).fingerprint,
  ]
  assert len(set(prints)) == len(prints)
  named = data.Related(PLACES.astype(np.int8), ("tokens", "label", "image"))
  assert resident(batch_size=8, related={"hard": named}) == prints[6]


def test_the_fingerprint_of_shuffled_arrays_is_what_it_was():
  """A run that an earlier version began on plain arrays goes on."""
  arrays = {"image": np.arange(12, dtype=np.uint8).reshape(4, 3), "label": np.arange(4)}
  assert data.Resident(arrays, batch_size=2).fingerprint == OLD


OLD = 3054037729

WRONG = {
  "strings in a tree": (
    {"arrays": {"tokens": {"ids": np.array(["a", "b"])}}},
    "array 'tokens/ids' must be real numbers or booleans; found <U1; number its values",
  ),
  "a list in a tree": ({"arrays": {"t": {"x": [1, 2]}}}, "array 't/x' is list; pass np.asarray"),
  "none in a tree": ({"arrays": {"t": (ROW := np.arange(4), None)}}, "array 't/1' is NoneType"),
  "an empty field": ({"arrays": {"x": ROW, "t": {}}}, "the field 't' has no array; leave it out"),
  "lengths in a tree": (
    {"arrays": {"t": {"a": ROW, "b": ROW[:3]}}},
    "equal lengths, not {'t/a': 4, 't/b': 3}",
  ),
  "large numbers in a tree": (
    {"arrays": {"t": {"a": ROW + 10**12}}},
    "'t/a' contains 1000000000000, .* not fit into JAX's int32",
  ),
  "an order of other data": (
    {"batch_size": None, "order": data.in_order(7)},
    "the order is for 7 examples, but the data have 48",
  ),
  "both": ({"order": data.in_order(N)}, "the order has its own batch_size and seed"),
  "a seed besides": (
    {"batch_size": None, "seed": 1, "order": data.in_order(N)},
    "the order has its own batch_size and seed",
  ),
  "no order": ({"batch_size": None, "order": lambda step: ROW}, "order must be an order, .*, not <func"),
  "related without names": ({"related": PLACES}, "related must be a dict of indices by name, not ndarray"),
  "float places": (
    {"related": {"hard": PLACES / 1}},
    r"related 'hard' must be integers \[48\] or \[48, k\], .*, not float64 \[48, 3\]",
  ),
  "too few places": ({"related": {"hard": PLACES[:9]}}, r"must be integers .*, not int64 \[9, 3\]"),
  "a place too large": (
    {"related": {"hard": PLACES * 0 + 48}},
    "related 'hard' contains 48; an index must be 0 to 47, or -1 for none",
  ),
  "a place below -1": ({"related": {"hard": PLACES * 0 - 2}}, "related 'hard' contains -2; an index"),
  "an unknown field": (
    {"related": {"hard": data.Related(PLACES, ("text",))}},
    "related 'hard': the data have no field 'text'; they have image, tokens, label",
  ),
  "a name twice": (
    {"arrays": {"x": ROW, "hard_x": ROW}, "batch_size": 2, "related": {"hard": ROW}},
    "related 'hard': the batch already has a field 'hard_x'; rename one",
  ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_argument_is_refused_in_one_line(mistake):
  given, words = WRONG[mistake]
  options = {"arrays": ARRAYS, "batch_size": 4, **given}
  with pytest.raises(UserError, match=words) as error:
    data.Resident(options.pop("arrays"), **options)
  assert "\n" not in str(error.value)


# Training.


class Line:
  """A method on tokens and related tokens; small, and with an array of state."""

  def init(self, key, batch):
    return jax.random.normal(key, (5,)), jax.numpy.zeros(())

  def objective(self, params, state, batch, key):
    ids = batch["tokens"]["ids"] / 50 - batch["hard_tokens"]["ids"].mean(1) / 50
    value = ((ids @ params - batch["label"]) ** 2).mean() + jax.random.uniform(key)
    return value, (state + value, {"loss": value})

  def advance(self, params, state, step):
    return state


LINE = Line()


def of_pairs(seed=0, places=PLACES, sharding=None):
  return data.Resident(
    ARRAYS, order=data.balanced(LABEL, 4, 2, seed), related={"hard": places}, sharding=sharding
  )


def test_a_run_resumes_bit_for_bit_and_not_with_another_order(tmp_path):
  def run(folder, steps, source):
    optimizer = optax.adam(1e-2)
    return training.train(LINE, optimizer, source, steps=steps, workdir=tmp_path / folder)

  whole = run("whole", 7, of_pairs())
  run("parts", 3, of_pairs())
  for other in (of_pairs(seed=1), of_pairs(places=PLACES[::-1])):
    with pytest.raises(UserError, match="the data are not those that checkpoint 3 was trained on"):
      run("parts", 7, other)
  chex.assert_trees_all_equal(run("parts", 7, of_pairs()), whole)


def test_a_tree_with_what_is_no_number_is_refused_by_its_path():
  batch = {"index": np.arange(2), "tokens": {"ids": np.array(["a", "b"])}}
  with pytest.raises(
    UserError, match="the batch's 'tokens/ids' must contain real numbers, not <U1"
  ):
    training.init(LINE, optax.sgd(0.1), batch)


# Eight devices.


def measure():
  mesh = training.make_mesh()
  found = {"same": {}, "rows": {}}
  alone, divided = sources(), sources(training.sharded(mesh))
  for name, source in alone.items():
    one, eight = ([s.batch(t) for t in (0, 5, 11)] for s in (source, divided[name]))
    same = jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), one, eight)
    found["same"][name] = all(jax.tree.leaves(same))
    shards = jax.tree.leaves(divided[name].batch(0))
    found["rows"][name] = sorted({len(s.data) for leaf in shards for s in leaf.addressable_shards})

  def run(source, mesh):
    with tempfile.TemporaryDirectory() as folder:
      return training.train(LINE, optax.sgd(0.1), source, steps=4, workdir=folder, mesh=mesh)

  one = run(of_pairs(), training.make_mesh(jax.devices()[:1]))
  eight = [run(of_pairs(sharding=s), None) for s in (training.sharded(mesh), None)]
  found["apart"] = [float(abs(np.asarray(one.params) - np.asarray(e.params)).max()) for e in eight]
  return found


@pytest.fixture(scope="module")
def on_eight_devices():
  return processes.measured(pathlib.Path(__file__))


def test_a_batch_on_eight_devices_is_the_same_and_divided(on_eight_devices):
  for name, same in on_eight_devices["same"].items():
    assert same, name
    assert on_eight_devices["rows"][name] == [6 if name == "in order" else 1], name


def test_a_run_without_a_mesh_takes_all_devices_and_ends_as_on_one(on_eight_devices):
  assert len(on_eight_devices["apart"]) == 2 and max(on_eight_devices["apart"]) < 1e-10


if __name__ == "__main__":
  with contextlib.redirect_stdout(sys.stderr):
    found = measure()
  print(json.dumps(found))
