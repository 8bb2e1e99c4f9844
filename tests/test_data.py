"""Data: what each name loads, what is refused, and batches as a function of (seed, step)."""

import io
import json
import os
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest

from contrastax.core import UserError
from contrastax.data import Dataset, Resident, hold_out, load


def python(script, *arguments, **environment):
  """What a fresh Python prints as JSON on its last line."""
  run = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
    env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  return json.loads(run.stdout.splitlines()[-1])


def rows(images):
  return {image.tobytes() for image in images}


# By name.


@pytest.fixture(scope="module")
def digits():
  return load("digits")


def test_digits_are_1297_and_500_grey_images_of_bytes(digits):
  for split, size in ((digits.train, 1297), (digits.test, 500)):
    assert set(split) == {"image", "label"}
    assert split["image"].shape == (size, 8, 8, 1) and split["image"].dtype == np.uint8
    assert split["label"].shape == (size,) and split["label"].dtype == np.int32
    assert set(split["label"]) == set(range(10))
    assert split["image"].min() == 0 and split["image"].max() == 255
  assert digits.classes == tuple("0123456789")


def test_digits_are_those_of_scikit_learn_each_in_one_split(digits):
  from sklearn.datasets import load_digits

  known = load_digits()
  images = known.images.astype(np.uint8)
  given = {i.tobytes(): label for i, label in zip(images, known.target, strict=True)}
  assert len(given) == 1797  # no image twice
  found = set()
  for split in (digits.train, digits.test):
    sixteenths = np.round(split["image"][..., 0] / 255 * 16).astype(np.uint8)
    for image, label in zip(sixteenths, split["label"], strict=True):
      assert given[image.tobytes()] == label
      found.add(image.tobytes())
  assert found == set(given)


def test_digits_are_split_in_the_same_way_each_time(digits):
  again = load("digits")
  for split in ("train", "test"):
    for name in ("image", "label"):
      np.testing.assert_array_equal(getattr(again, split)[name], getattr(digits, split)[name])


def test_hold_out_takes_test_images_from_the_training_images_alone(digits):
  held = hold_out(digits, 200)
  assert len(held.train["image"]) == 1097 and len(held.test["image"]) == 200
  train, test = rows(held.train["image"]), rows(held.test["image"])
  assert not train & test
  assert train | test == rows(digits.train["image"])
  assert not (train | test) & rows(digits.test["image"])
  assert held.classes == digits.classes
  labels = {
    i.tobytes(): x for i, x in zip(digits.train["image"], digits.train["label"], strict=True)
  }
  for split in (held.train, held.test):
    assert [labels[i.tobytes()] for i in split["image"]] == list(split["label"])
  np.testing.assert_array_equal(hold_out(digits, 200).test["image"], held.test["image"])


@pytest.mark.parametrize("count", [0, -1, 1297, 2000])
def test_hold_out_leaves_something_on_both_sides(digits, count):
  with pytest.raises(UserError, match=f"cannot hold out {count} of 1297 training examples"):
    hold_out(digits, count)


@pytest.mark.parametrize("name", ["digit", "", "npz", "npz:", "tfds:", "digits:8", "csv:x"])
def test_an_unknown_name_is_answered_with_the_known_ones(name):
  with pytest.raises(UserError) as error:
    load(name)
  assert (
    str(error.value) == f"no data set {name!r}; there are: digits, npz:PATH, tfds:NAME, made:HxWxC"
  )


# npz.

BYTES = np.random.default_rng(0).integers(0, 256, (11, 4, 3, 2), np.uint8)
LABELS = np.arange(11) % 3


@pytest.fixture
def npz(tmp_path):
  """Saves arrays, and loads them by name."""

  def saved(**arrays):
    path = tmp_path / "images.npz"
    np.savez(path, **arrays)
    return load(f"npz:{path}")

  return saved


def test_npz_with_test_images_and_labels(npz):
  found = npz(image=BYTES[:7], label=LABELS[:7], test_image=BYTES[7:], test_label=LABELS[7:])
  np.testing.assert_array_equal(found.train["image"], BYTES[:7])
  np.testing.assert_array_equal(found.train["label"], LABELS[:7])
  np.testing.assert_array_equal(found.test["image"], BYTES[7:])
  np.testing.assert_array_equal(found.test["label"], LABELS[7:])
  for split in (found.train, found.test):
    assert split["image"].dtype == np.uint8 and split["label"].dtype == np.int32
  assert found.classes == ("0", "1", "2")


def test_npz_without_labels(npz):
  found = npz(image=BYTES[:7], test_image=BYTES[7:])
  assert set(found.train) == set(found.test) == {"image"}
  assert found.classes == ()


@pytest.mark.parametrize("labeled", [True, False])
def test_npz_without_test_images_holds_out_a_fixed_fifth(npz, labeled):
  arrays = {"image": BYTES, "label": LABELS} if labeled else {"image": BYTES}
  found, again = npz(**arrays), npz(**arrays)
  assert len(found.train["image"]) == 9 and len(found.test["image"]) == 2
  assert not rows(found.train["image"]) & rows(found.test["image"])
  assert rows(found.train["image"]) | rows(found.test["image"]) == rows(BYTES)
  np.testing.assert_array_equal(again.test["image"], found.test["image"])
  for split in (found.train, found.test):
    assert set(split) == set(arrays)
    if labeled:
      places = [(image == BYTES).all((1, 2, 3)).argmax() for image in split["image"]]
      np.testing.assert_array_equal(split["label"], LABELS[places])


def test_npz_of_grey_images_without_a_channel_axis(npz):
  found = npz(image=BYTES[..., 0], test_image=BYTES[:2, :, :, :1])
  np.testing.assert_array_equal(found.train["image"], BYTES[..., :1])
  np.testing.assert_array_equal(found.test["image"], BYTES[:2, :, :, :1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_npz_of_floats_from_0_to_1(npz, dtype):
  images = (BYTES / 255).astype(dtype)
  found = npz(image=images, test_image=images[:2])
  assert found.train["image"].dtype == np.float32
  np.testing.assert_array_equal(found.train["image"], images.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_npz_takes_labels_of_any_integer_type(npz, dtype):
  found = npz(image=BYTES, label=LABELS.astype(dtype), test_image=BYTES, test_label=LABELS)
  np.testing.assert_array_equal(found.train["label"], LABELS)
  assert found.train["label"].dtype == np.int32


SHAPES = "must be [n, h, w] or [n, h, w, c], not"
PIXELS = "must be uint8, or float in [0, 1]; found"
ONE_EACH = "label must be one integer for each of 11 images, [11], not"
REFUSED = {
  "no image": (
    {"pictures": BYTES, "label": LABELS},
    "has no array 'image'; it has: label, pictures",
  ),
  "nothing": ({}, "has no array 'image'; it has: none"),
  "one image": ({"image": BYTES[0, ..., 0]}, f"image {SHAPES} [4, 3]"),
  "five axes": ({"image": BYTES[None]}, f"image {SHAPES} [1, 11, 4, 3, 2]"),
  "no images": ({"image": BYTES[:0]}, f"image {SHAPES} [0, 4, 3, 2]"),
  "no test images": (
    {"image": BYTES, "test_image": BYTES[:0]},
    f"test_image {SHAPES} [0, 4, 3, 2]",
  ),
  "integers": ({"image": BYTES.astype(int)}, f"image {PIXELS} int64"),
  "above 1": ({"image": BYTES.astype(np.float32)}, f"image {PIXELS} float32"),
  "below 0": ({"image": BYTES / 255 - 0.1}, f"image {PIXELS} float64"),
  "NaN": ({"image": np.full((11, 4, 3), np.nan)}, f"image {PIXELS} float64"),
  "test above 1": ({"image": BYTES, "test_image": BYTES / 2.0}, f"test_image {PIXELS} float64"),
  "too few": ({"image": BYTES[:4]}, "4 images are too few to hold out a fifth"),
  "other size": (
    {"image": BYTES, "test_image": BYTES[:, :3]},
    "images are (4, 3, 2), but test images are (3, 3, 2)",
  ),
  "only training labels": (
    {"image": BYTES, "label": LABELS, "test_image": BYTES},
    "give both 'label' and 'test_label', or neither",
  ),
  "only test labels": (
    {"image": BYTES, "test_image": BYTES, "test_label": LABELS},
    "give both 'label' and 'test_label', or neither",
  ),
  "too few labels": ({"image": BYTES, "label": LABELS[:10]}, f"{ONE_EACH} [10]"),
  "labels in columns": ({"image": BYTES, "label": LABELS[:, None]}, f"{ONE_EACH} [11, 1]"),
  "float labels": (
    {"image": BYTES, "label": LABELS / 1},
    "label must be integers, not float64; np.unique",
  ),
  "text labels": ({"image": BYTES, "label": LABELS.astype(str)}, "label must be integers, not <U"),
  "negative labels": (
    {"image": BYTES, "label": LABELS - 1},
    "label must be 0 or more and below 2^63, not -1",
  ),
  "objects": (
    {"image": np.array([None, "x"], object)},
    "is not an npz file of plain arrays; write one with np.savez",
  ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_npz_says_what_is_wrong_and_where(npz, tmp_path, mistake):
  arrays, words = REFUSED[mistake]
  with pytest.raises(UserError) as error:
    npz(**arrays)
  assert words in str(error.value)
  assert str(error.value).startswith(str(tmp_path / "images.npz"))
  assert "\n" not in str(error.value)


def test_npz_says_that_there_is_no_such_file(tmp_path):
  with pytest.raises(UserError) as error:
    load(f"npz:{tmp_path}/none.npz")
  expected = f"there is no file {tmp_path}/none.npz; a relative path starts in the current folder"
  assert str(error.value) == expected


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04 cut short"], ids=["text", "broken zip"])
def test_npz_says_that_a_file_is_something_else(tmp_path, content):
  path = tmp_path / "images.npz"
  path.write_bytes(content)
  with pytest.raises(
    UserError, match="images.npz is not an npz file of plain arrays; write one with np.savez"
  ):
    load(f"npz:{path}")


def test_npz_paths_may_start_at_home(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  np.savez(tmp_path / "mine.npz", image=BYTES)
  assert len(load("npz:~/mine.npz").train["image"]) == 9


# Resident.

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
  return python(
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


# TFDS, read without TensorFlow. All in processes of their own: TFDS registers what it sees.


def load_each(names, data_dir):
  """For each name the data set or the error's text, and whether TensorFlow was imported."""
  return python(
    """
    import json, sys
    from contrastax.core import UserError
    from contrastax.data import load

    found = {}
    for name in sys.argv[1:]:
      try:
        train, test, classes = load(name)
        splits = {"train": train, "test": test}
        found[name] = {
          "classes": classes,
          "types": {s: {k: str(v.dtype) for k, v in a.items()} for s, a in splits.items()},
          "arrays": {s: {k: v.tolist() for k, v in a.items()} for s, a in splits.items()},
        }
      except UserError as error:
        found[name] = str(error)
    print(json.dumps({"found": found, "tensorflow": "tensorflow" in sys.modules}))
    """,
    *names,
    TFDS_DATA_DIR=str(data_dir),
  )


def tfds_images(split):
  seed = {"train": 1, "test": 2}[split]
  rng = np.random.default_rng(seed)
  return {
    "gray": rng.integers(0, 256, (7, 6, 5, 1), np.uint8),
    "color": rng.integers(0, 256, (4, 3, 5, 3), np.uint8),
  }


def png(image):
  from PIL import Image

  out = io.BytesIO()
  Image.fromarray(image.squeeze()).save(out, "PNG")
  return out.getvalue()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """Small sets prepared by TFDS in a folder, then read from it."""
  data_dir = tmp_path_factory.mktemp("tfds")
  examples = {
    name: {
      split: [(png(image).hex(), i % 3) for i, image in enumerate(tfds_images(split)[name])]
      for split in ("train", "test")
    }
    for name in ("gray", "color")
  }
  examples["no_test"] = {"train": examples["gray"]["train"]}
  shapes = {"gray": [6, 5, 1], "color": [3, 5, 3], "no_test": [6, 5, 1]}
  shapes["sizes"], examples["sizes"] = [None, None, 1], examples["gray"]
  (data_dir / "examples.json").write_text(json.dumps([examples, shapes]))
  python(
    """
    import json, pathlib, sys
    import tensorflow_datasets as tfds

    examples, shapes = json.loads(pathlib.Path(sys.argv[1], "examples.json").read_text())
    for set_name, splits in examples.items():

      class Builder(tfds.core.GeneratorBasedBuilder):
        name = set_name
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
          image = tfds.features.Image(shape=shapes[self.name], encoding_format="png")
          label = tfds.features.ClassLabel(names=["ant", "bee", "cat"])
          features = tfds.features.FeaturesDict({"image": image, "label": label})
          return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
          return {s: self._generate_examples(e) for s, e in splits.items()}

        def _generate_examples(self, examples):
          for i, (image, label) in enumerate(examples):
            yield i, {"image": bytes.fromhex(image), "label": label}

      Builder(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
    print(json.dumps("tensorflow" in sys.modules))
    """,
    data_dir,
  )
  records = data_dir / "tfrecords" / "1.0.0"
  records.mkdir(parents=True)
  for file in (data_dir / "gray" / "1.0.0").iterdir():
    (records / file.name.replace("gray", "tfrecords")).write_bytes(file.read_bytes())
  info = json.loads((records / "dataset_info.json").read_text())
  info = {**info, "name": "tfrecords", "fileFormat": "tfrecord"}
  (records / "dataset_info.json").write_text(json.dumps(info))
  names = ["gray", "color", "no_test", "sizes", "tfrecords"]
  return load_each([f"tfds:{name}" for name in names], data_dir)


@pytest.mark.parametrize("name", ["gray", "color"])
def test_tfds_is_read_to_the_pixel_without_tensorflow(prepared, name):
  found = prepared["found"][f"tfds:{name}"]
  assert found["classes"] == ["ant", "bee", "cat"]
  for split in ("train", "test"):
    assert found["types"][split] == {"image": "uint8", "label": "int32"}
    images = np.array(found["arrays"][split]["image"], np.uint8)
    expected = tfds_images(split)[name]
    assert images.shape == expected.shape
    assert rows(images) == rows(expected)  # TFDS shuffles what it prepares
    places = [(expected == image).all((1, 2, 3)).argmax() for image in images]
    assert found["arrays"][split]["label"] == [place % 3 for place in places]
  assert prepared["tensorflow"] is False


def test_tfds_names_what_a_set_lacks(prepared):
  assert prepared["found"]["tfds:no_test"] == (
    "tfds:no_test must have the features image and label, and the splits train and test"
  )
  assert prepared["found"]["tfds:sizes"] == (
    "tfds:sizes: images must be uint8 and of one size, not Image(shape=(None, None, 1), dtype=uint8)"
  )
  assert prepared["found"]["tfds:tfrecords"] == (
    "tfds:tfrecords is prepared as tfrecord, "
    "which needs TensorFlow; prepare it with --file_format=array_record"
  )


@pytest.fixture(scope="module")
def unprepared(tmp_path_factory):
  names = ["fashion_mnist", "cifar10", "mnist", "fashion_mnits", "qqqqqqqq"]
  return load_each([f"tfds:{name}" for name in names], tmp_path_factory.mktemp("empty"))


def test_tfds_answers_an_unknown_name_with_the_nearest(unprepared):
  assert unprepared["found"]["tfds:fashion_mnits"] == (
    "TFDS has no data set 'fashion_mnits'; did you mean 'fashion_mnist'?"
  )
  assert unprepared["found"]["tfds:qqqqqqqq"] == (
    "TFDS has no data set 'qqqqqqqq'; `tfds.list_builders()` lists the data sets of TFDS"
  )


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_tfds_says_how_to_prepare_the_sets_of_the_benchmarks(unprepared, name):
  text = unprepared["found"][f"tfds:{name}"]
  assert text.startswith(f"the data set tfds:{name} is not prepared in ")
  assert text.endswith(f"run: contrastax prepare {name}")


def test_tfds_says_how_to_prepare_any_other_set(unprepared):
  text = unprepared["found"]["tfds:mnist"]
  assert text.startswith("the data set tfds:mnist is not prepared in ")
  assert text.endswith("run: tfds build mnist --file_format=array_record (this needs TensorFlow)")
  assert unprepared["tensorflow"] is False
