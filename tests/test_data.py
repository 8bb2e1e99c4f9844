"""Data by name: what each name loads, and what is refused."""

import numpy as np
import pytest

from contrastax.core import UserError
from contrastax.data import Dataset, hold_out, load
from contrastax.data.dataset import labeled_only


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


@pytest.mark.parametrize("name", ["qqq", "", "npz", "npz:", "tfds:", "9:8", "cvs:x"])
def test_an_unknown_name_is_answered_with_the_known_ones(name):
  with pytest.raises(UserError) as error:
    load(name)
  text = str(error.value)
  assert text.startswith(f"no data set {name!r}; there are: digits, "), text
  assert all(f", {form}" in text for form in ("folder:PATH", "npz:PATH", "tfds:NAME", "words:NAME"))
  with pytest.raises(UserError, match="no data set 'digit'; did you mean 'digits'?"):
    load("digit")


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


NAMES = np.array(["owl", "cat", "dög"])


@pytest.mark.parametrize(
  "labels, classes",
  [
    (NAMES[LABELS], ("cat", "dög", "owl")),
    (np.char.encode(NAMES, "utf-8")[LABELS], ("cat", "dög", "owl")),
    (LABELS > 0, ("False", "True")),
    (LABELS * 2.0, ("0", "2", "4")),
  ],
  ids=["texts", "bytes", "booleans", "whole floats"],
)
def test_npz_labels_are_classes_with_names(npz, labels, classes):
  found = npz(image=BYTES, label=labels, test_image=BYTES, test_label=labels)
  assert found.classes == classes and found.test["label"].dtype == np.int32
  _, expected = np.unique(labels, return_inverse=True)
  np.testing.assert_array_equal(found.test["label"], expected)


def test_npz_examples_may_have_no_label(npz):
  labels = np.where(np.arange(11) < 4, -1, 5 * LABELS)
  found = npz(image=BYTES, label=labels, test_image=BYTES, test_label=labels)
  np.testing.assert_array_equal(found.train["label"], np.where(labels < 0, -1, LABELS))
  assert found.classes == ("0", "5", "10")


def test_npz_keeps_every_array(npz):
  arrays = {
    "image": BYTES,
    "right": BYTES[..., 0],
    "x": np.arange(11.0),
    "sequence": np.arange(66).reshape(11, 2, 3),
    "known": LABELS > 1,
  }
  found = npz(**arrays)
  places = [(image == BYTES).all((1, 2, 3)).argmax() for image in found.train["image"]]
  assert set(found.train) == set(found.test) == set(arrays)
  for name, values in arrays.items():
    np.testing.assert_array_equal(found.train[name], values[places])


def test_npz_texts_are_bytes(npz):
  texts = np.array(["a cat", "ein Löwe", "", *["x"] * 8])
  found = npz(text=texts, test_text=np.array([b"a much longer text"]))
  assert found.train["text"].shape == (11, 18) and found.train["text"].dtype == np.uint8
  decoded = [bytes(row).rstrip(b"\0").decode() for row in found.train["text"]]
  assert decoded == list(texts)
  assert bytes(found.test["text"][0]) == b"a much longer text"


def test_npz_without_images(npz):
  found = npz(x=np.arange(22.0).reshape(11, 2), label=LABELS)
  assert found.train["x"].shape == (9, 2) and found.classes == ("0", "1", "2")


SHAPES = "must be [n, h, w] or [n, h, w, c], not"
PIXELS = "must be uint8, or float in [0, 1]; found"
ONE_EACH = "label must be one class for each of 11 images, [11], not"
REFUSED = {
  "nothing": ({}, "has no array of training examples"),
  "only test examples": ({"test_image": BYTES}, "has no array of training examples"),
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
  "targets as labels": (
    {"image": BYTES, "label": LABELS / 2},
    "label must be classes: integers, booleans or texts, not float64; give regression targets",
  ),
  "two types of labels": (
    {"image": BYTES, "label": LABELS, "test_image": BYTES, "test_label": LABELS.astype(str)},
    "label and test_label are int64 and <U21; give them one type",
  ),
  "other rows": (
    {"image": BYTES, "text": LABELS[:10].astype(str)},
    "text has 10 rows, but image has 11; give one row per example",
  ),
  "other test rows": (
    {"x": BYTES, "y": LABELS, "test_x": BYTES, "test_y": LABELS[:3]},
    "test_y has 3 rows, but test_x has 11; give one row per example",
  ),
  "no rows": ({"x": BYTES[:0], "label": LABELS[:0]}, "x has no rows; give 1 example or more"),
  "too few vectors": (
    {"x": LABELS[:4]},
    "4 examples are too few to hold out a fifth; give 5 or more, or test examples",
  ),
  "a single value first by name": ({"x": LABELS, "a": np.array(3)}, "a is a single value"),
  "a single value": ({"image": BYTES, "size": np.array(3)}, "size is a single value"),
  "complex numbers": ({"x": BYTES + 1j}, "x must be numbers, booleans or texts, not complex128"),
  "test rows of another shape": (
    {"x": BYTES, "test_x": BYTES[:, :3]},
    "the rows of x and test_x are [4, 3, 2] and [3, 3, 2]; give one shape",
  ),
  "two texts per example": (
    {"image": BYTES, "text": np.stack([LABELS.astype(str)] * 2, 1)},
    "text must be one text per example, [n], not [11, 2]",
  ),
  "another encoding": (
    {"image": BYTES, "text": np.array([b"\xff"] * 11)},
    "text is not UTF-8 (invalid start byte); save it as strings",
  ),
  "negative labels": (
    {"image": BYTES, "label": LABELS - 2},
    "label must be 0 or more and below 2^63, or -1 for no label, not -2",
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


def test_examples_without_a_label_are_left_out_where_labels_judge():
  labels = np.where(LABELS == 2, -1, LABELS)
  arrays = {"image": BYTES, "label": labels, "tree": {"x": np.arange(11)}}
  kept = labeled_only(Dataset(arrays, {"image": BYTES, "label": LABELS}, ("a", "b", "c")))
  np.testing.assert_array_equal(kept.train["tree"]["x"], np.flatnonzero(labels >= 0))
  np.testing.assert_array_equal(kept.train["image"], BYTES[labels >= 0])
  assert len(kept.test["image"]) == 11
  whole = Dataset({"image": BYTES}, {"image": BYTES})
  assert labeled_only(whole) is whole
