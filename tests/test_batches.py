"""Batches as a function of (seed, step), and the arrays that they are taken from."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest

from contrastax.core import UserError
from contrastax.data import Dataset, Resident, hold_out

ARRAYS = {
  "image": np.random.default_rng(1).integers(0, 256, (23, 4, 4, 1), np.uint8),
  "label": np.arange(23, dtype=np.int32) * 3,
}


def fetched(source, step):
  return {name: np.asarray(values) for name, values in source.batch(step).items()}


def same(a, b):
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name])


def test_a_batch_is_a_function_of_the_seed_and_the_step():
  steps = range(12)  # four epochs of three batches
  in_order = {step: fetched(Resident(ARRAYS, batch_size=7, seed=3), step) for step in steps}
  source = Resident(ARRAYS, batch_size=7, seed=3)
  for step in (11, 0, 5, 4, 11, 1, 8, 2, 10, 3, 9, 6, 7):
    same(fetched(source, step), in_order[step])


def test_seeds_differ():
  index = [fetched(Resident(ARRAYS, batch_size=20, seed=s), 0)["index"] for s in range(4)]
  assert len({tuple(i) for i in index}) == 4


def test_an_epoch_visits_each_example_once():
  source = Resident({k: v[:21] for k, v in ARRAYS.items()}, batch_size=7)
  orders = []
  for epoch in range(5):
    index = np.concatenate([fetched(source, 3 * epoch + t)["index"] for t in range(3)])
    np.testing.assert_array_equal(np.sort(index), np.arange(21))
    orders.append(tuple(index))
  assert len(set(orders)) == 5
  assert tuple(range(21)) not in orders


def test_what_does_not_fill_a_batch_is_left_out_and_another_time_another_one():
  source = Resident(ARRAYS, batch_size=7)
  left_out = []
  for epoch in range(8):
    index = np.concatenate([fetched(source, 3 * epoch + t)["index"] for t in range(3)])
    assert len(set(index)) == 21
    left_out.append(frozenset(range(23)) - set(index))
  assert len(set(left_out)) > 4


def test_the_index_says_which_example_a_row_is():
  source = Resident(ARRAYS, batch_size=7)
  for step in (0, 2, 4):
    batch = fetched(source, step)
    assert batch.keys() == {"image", "label", "index"}
    assert batch["index"].dtype == np.int32 and batch["index"].shape == (7,)
    assert batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32
    np.testing.assert_array_equal(batch["image"], ARRAYS["image"][batch["index"]])
    np.testing.assert_array_equal(batch["label"], ARRAYS["label"][batch["index"]])


def test_a_batch_of_everything_and_its_sizes():
  source = Resident(ARRAYS, batch_size=23, seed=1)
  assert (source.size, source.batch_size) == (23, 23)
  assert set(fetched(source, 0)["index"]) == set(range(23))
  assert fetched(source, 0)["index"].tolist() != fetched(source, 1)["index"].tolist()


@pytest.mark.parametrize("batch_size", [0, -4, 24])
def test_a_batch_has_between_one_and_all_examples(batch_size):
  expected = f"batch_size must be between 1 and the data's 23, not {batch_size}"
  with pytest.raises(UserError, match=expected):
    Resident(ARRAYS, batch_size=batch_size)


def test_arrays_of_different_lengths_are_refused():
  with pytest.raises(UserError) as error:
    Resident({"image": ARRAYS["image"], "label": ARRAYS["label"][:20]}, batch_size=4)
  assert str(error.value) == (
    "the arrays of a data set must have equal lengths, not {'image': 23, 'label': 20}"
  )


ROWS = np.arange(8)
WRONG_ARRAYS = {
  "none": ({}, "the data must be a dict of arrays by name, .*; found none"),
  "no mapping": ([ROWS], "the data must be a dict of arrays by name, .*; found list"),
  "a list": ({"label": [0] * 8}, "array 'label' is list; pass np.asarray"),
  "strings": ({"label": ROWS.astype(str)}, "array 'label' must be real .*; found <U21; number its"),
  "objects": (
    {"label": ROWS.astype(object)},
    "array 'label' must be real .*; found object; number",
  ),
  "complex": ({"kspace": ROWS * 1j}, "array 'kspace' must be real numbers .*; found complex128"),
  "a scalar": (
    {"image": ROWS, "label": np.array(3)},
    "array 'label' must have an axis of examples",
  ),
  "no examples": ({"image": ROWS[:0]}, "1 example or more; found 0 in image"),
  "own index": ({"image": ROWS, "index": ROWS}, "rename the array 'index'"),
  "beyond int32": (
    {"label": ROWS + 10**12},
    "'label' contains 1000000000000, .* not fit into JAX's int32; renumber",
  ),
  "below int32": (
    {"label": ROWS - 2**31 - 1},
    "'label' contains -2147483649, .* not fit into JAX's int32",
  ),
  "beyond uint32": (
    {"label": (ROWS + 2**40).astype(np.uint64)},
    "'label' contains .* not fit into JAX's uint32",
  ),
}


@pytest.mark.parametrize("mistake", WRONG_ARRAYS)
def test_what_is_no_data_set_is_refused_in_one_line(mistake):
  arrays, words = WRONG_ARRAYS[mistake]
  with pytest.raises(UserError, match=words) as error:
    Resident(arrays, batch_size=4)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "dtype", [bool, np.int8, np.uint16, np.int64, np.uint64, np.float16, np.float64, jnp.bfloat16]
)
def test_real_numbers_and_booleans_of_any_type_keep_their_values(dtype):
  values = (ROWS % 2 if dtype is bool else ROWS * 15).astype(dtype)
  batch = fetched(Resident({"side": values}, batch_size=8), 0)
  chex.assert_trees_all_equal(batch["side"].astype(float), values[batch["index"]].astype(float))


def test_64_bits_are_kept_where_they_are_enabled(float64):
  batch = fetched(Resident({"label": ROWS + 10**12}, batch_size=8), 0)
  np.testing.assert_array_equal(batch["label"], ROWS[batch["index"]] + 10**12)


@pytest.mark.parametrize("step", [np.int64(4), np.uint8(4), jnp.int32(4), np.array(4)])
def test_a_step_may_be_an_array_of_one_integer(step):
  source = Resident(ARRAYS, batch_size=7)
  same(fetched(source, step), fetched(source, 4))


@pytest.mark.parametrize("step", [-1, 1.0, None, "1", jnp.float32(1), np.arange(2)], ids=str)
def test_another_step_is_refused(step):
  with pytest.raises(UserError, match="the step of a batch must be an integer of 0 or more, not"):
    Resident(ARRAYS, batch_size=7).batch(step)


@pytest.mark.parametrize("batch_size", [4.0, "4", None])
def test_a_batch_size_is_an_integer(batch_size):
  with pytest.raises(UserError, match=f"batch_size must be between 1 and .*, not {batch_size!r}"):
    Resident(ARRAYS, batch_size=batch_size)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, None, "1", True])
def test_a_seed_is_an_integer_of_32_bits(seed):
  with pytest.raises(UserError, match=f"seed must be .*, not {seed!r}"):
    Resident(ARRAYS, batch_size=4, seed=seed)
  Resident(ARRAYS, batch_size=4, seed=2**32 - 1).batch(0)


def test_a_layout_is_a_named_sharding():
  with pytest.raises(UserError, match="sharding must be training.sharded.mesh., not str"):
    Resident(ARRAYS, batch_size=4, sharding="data")


@pytest.mark.parametrize("count", [0, 23, 2.5, None])
def test_a_number_of_images_is_held_out(count):
  with pytest.raises(UserError, match=f"cannot hold out {count} of 23 training examples"):
    hold_out(Dataset(ARRAYS, ARRAYS, ()), count)


@pytest.fixture(scope="module")
def on_eight_devices():
  return processes.printed(
    """
    import json, sys
    import jax, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec
    from contrastax.core import UserError
    from contrastax.data import Resident

    arrays = {"image": np.arange(3 * 50, dtype=np.uint8).reshape(50, 3)}
    rows = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data"))
    found = {"devices": jax.device_count(), "errors": {}, "same": [], "rows": []}
    for size in (4, 12, 30):
      try:
        Resident(arrays, batch_size=size, sharding=rows)
      except UserError as error:
        found["errors"][size] = str(error)
    one, eight = (Resident(arrays, batch_size=16, seed=2, sharding=s) for s in (None, rows))
    for step in (0, 2, 3, 7):
      a, b = one.batch(step), eight.batch(step)
      found["same"].append(all(bool((np.asarray(a[k]) == np.asarray(b[k])).all()) for k in a))
      found["rows"].append([len(shard.data) for shard in b["image"].addressable_shards])
    print(json.dumps(found))
    """,
    XLA_FLAGS=processes.environment()["XLA_FLAGS"],
  )


@pytest.mark.parametrize("size, nearest", [(4, 8), (12, 8), (30, 24)])
def test_a_batch_has_as_many_examples_on_each_device(on_eight_devices, size, nearest):
  assert on_eight_devices["devices"] == 8
  assert on_eight_devices["errors"][str(size)] == (
    f"batch_size {size} is not divisible by the 8 devices; {nearest} is"
  )


def test_a_sharded_batch_is_the_same_batch(on_eight_devices):
  assert on_eight_devices["same"] == [True] * 4
  assert on_eight_devices["rows"] == [[2] * 8] * 4


def test_batches_are_on_the_device_and_enter_a_jitted_step():
  batch = Resident(ARRAYS, batch_size=4).batch(0)
  assert all(isinstance(values, jax.Array) for values in batch.values())
  assert jax.jit(lambda b: b["image"].sum())(batch).shape == ()
