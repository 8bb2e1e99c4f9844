"""A folder of images is a data set."""

import os

import numpy as np
import pytest
from images_on_disk import content, picture, two_classes, write
from PIL import Image

from contrastax import data
from contrastax.core import UserError
from contrastax.data import index
from contrastax.data.columns import Column, Kept
from contrastax.data.dataset import split
from contrastax.data.decode import decode


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path / "cache"


def names(part):
  return list(part["image"].names)


def test_subfolders_are_classes_and_images_are_decoded_on_demand(tmp_path):
  root = two_classes(tmp_path / "photos")
  dataset = data.read(f"folder:{root}", size=(16, 12))
  assert dataset.classes == ("a", "b") and dataset.test == {}
  images = dataset.train["image"]
  assert isinstance(images, data.Column) and images.shape == (12, 16, 12, 3)
  expected = [decode(root / name, (16, 12, 3)) for name in names(dataset.train)]
  np.testing.assert_array_equal(np.asarray(images), expected)
  assert [dataset.classes[label] for label in dataset.train["label"]] == [
    name[0] for name in names(dataset.train)
  ]


def test_a_fifth_is_held_out_and_every_image_is_in_one_split(tmp_path):
  root = two_classes(tmp_path / "photos")
  train, test, _ = data.load(f"folder:{root}")
  assert (len(train["label"]), len(test["label"])) == (10, 2)
  assert sorted(names(train) + names(test)) == names(data.read(f"folder:{root}").train)


def test_copies_of_a_file_are_not_divided_between_the_splits(tmp_path):
  one = content(picture(0), "PNG")
  files = {f"{i}.png": content(picture(i, 30 + i), "PNG") for i in range(10)}
  root = write(tmp_path / "photos", files | {f"copy{i}.png": one for i in range(10)})
  train, test, _ = data.load(f"folder:{root}")
  assert not {*train["image"].codes} & {*test["image"].codes}
  assert len(train["image"]) + len(test["image"]) == 20


def test_subfolders_train_and_val_are_the_splits(tmp_path):
  files = {
    f"{split}/{'ab'[i % 2]}/{i}.png": content(picture(i), "PNG")
    for split, count in (("train", 6), ("val", 4))
    for i in range(count)
  }
  dataset = data.load(f"folder:{write(tmp_path / 'photos', files)}")
  assert dataset.classes == ("a", "b")
  assert [len(part["label"]) for part in dataset[:2]] == [6, 4]
  assert all(name.startswith("val/") for name in names(dataset.test))


def test_of_train_val_and_test_the_splits_are_never_classes(tmp_path, capsys):
  splits = ("Train", "val", "Test")
  files = {f"{s}/{c}/0{s}{c}.png": content(picture(1), "PNG") for s in splits for c in "ab"}
  root = write(tmp_path / "photos", files)
  train, test, classes = data.read(f"folder:{root}")
  assert classes == ("a", "b")
  assert names(train) == ["Train/a/0Traina.png", "Train/b/0Trainb.png"]
  assert names(test) == ["Test/a/0Testa.png", "Test/b/0Testb.png"]
  assert "Train and Test are the splits; left out: val" in capsys.readouterr().err
  write(root, {"loose.png": content(picture(1), "PNG")})
  with pytest.raises(UserError, match=r"beside the subfolders Train and Test, such as loose.png"):
    data.read(f"folder:{root}")


def test_pipes_and_devices_are_not_read(tmp_path, capsys):
  root = two_classes(tmp_path / "photos", 4)
  os.mkfifo(root / "a" / "pipe.png")
  (root / "a" / "zero.png").symlink_to("/dev/zero")
  assert len(data.read(f"folder:{root}").train["image"]) == 4
  assert capsys.readouterr().err.count("it is not a regular file") == 2


def test_copies_in_two_columns_are_not_divided_between_the_splits():
  """An example that moves because of one column may have a copy in another column."""
  held_out = np.flatnonzero(np.isin(np.arange(5), split({"x": np.arange(5)}, 2, ()).test["x"]))
  one, two = np.arange(5), np.arange(5)
  one[held_out] = held_out[0]  # The two test examples have one image,
  two[held_out[0]] = two[~np.isin(two, held_out)][
    0
  ]  # and the first has that of a training example.
  kept = Kept(np.arange(5))
  train, test, _ = split({"one": Column(kept, one), "two": Column(kept, two)}, 2, ())
  for name in ("one", "two"):
    assert not {*train[name].codes} & {*test[name].codes}


def test_images_beside_the_subfolders_have_no_label(tmp_path):
  root = two_classes(tmp_path / "photos", 4)
  write(root, {"loose.png": content(picture(9), "PNG")})
  train = data.read(f"folder:{root}").train
  assert dict(zip(names(train), train["label"], strict=True))["loose.png"] == -1


@pytest.mark.parametrize("files", [("0.png", "1.png"), ("only/0.png", "only/1.png")])
def test_fewer_than_two_classes_are_no_labels(tmp_path, files):
  root = write(tmp_path / "photos", {name: content(picture(1), "PNG") for name in files})
  dataset = data.read(f"folder:{root}")
  assert "label" not in dataset.train and dataset.classes == ()


ODD = ("with space.png", "é.JPG", "new\nline.png", "quote'\".png", "percent%20.png", "-dash.png")


def test_odd_names_are_read_and_printed_in_one_line(tmp_path):
  files = {f"{i % 2}é/{name}": content(picture(i), "PNG") for i, name in enumerate(ODD)}
  root = write(tmp_path / "photos", files)
  with open(os.fsencode(root) + b"/\xff.png", "wb") as file:
    file.write(content(picture(7), "PNG"))
  dataset = data.read(f"folder:{root}")
  assert len(dataset.train["image"]) == 7
  assert sorted(names(dataset.train)) == sorted([*files, "\udcff.png"])
  assert dataset.classes == ("0é", "1é")
  again = data.read(f"folder:{root}")  # from the index
  assert names(again.train) == names(dataset.train)


def broken_folder(tmp_path):
  good = content(picture(1, 300, 200), "PNG")
  damaged = bytearray(good)
  damaged[len(good) // 2 : len(good) // 2 + 40] = bytes(40)
  root = two_classes(tmp_path / "photos", 6)
  write(
    root,
    {"a/empty.png": b"", "a/half.jpg": content(picture(1, 300, 200), "JPEG")[:3000],
     "a/text.png": b"hello", "b/damaged.png": bytes(damaged)},
  )  # fmt: skip
  (root / "b" / "dead.png").symlink_to("nowhere.png")
  (root / "b" / "loop.png").symlink_to("loop.png")
  return root


def test_broken_files_are_listed_with_their_reasons_and_left_out(tmp_path, capsys):
  root = broken_folder(tmp_path)
  dataset = data.read(f"folder:{root}")
  assert len(dataset.train["image"]) == 6
  lines = (
    "a/empty.png: the file is empty",
    "a/half.jpg: the file is truncated",
    "a/text.png: the file is not an image of a known format",
    "b/damaged.png: the file is damaged: ",
    "b/dead.png: no such file or directory",
    "b/loop.png: too many levels of symbolic links",
  )
  listed = index.faults(str(root))
  assert len(listed) == 6
  for found, expected in zip(listed, lines, strict=True):
    assert found.startswith(expected)
  printed = capsys.readouterr().err.splitlines()
  assert printed[0] == f"{root}: 6 files left out"
  assert [line.strip() for line in printed[1:6]] == listed[:5]
  place = index.faults_file(str(root))
  assert printed[6:] == [f"  1 more; all are listed in {place}"] and place.is_file()
  with pytest.raises(UserError) as error:
    data.read(f"folder:{root}", broken="fail")
  assert "6 files cannot be decoded (a/empty.png: the file is empty;" in str(error.value)


def test_the_list_of_left_out_files_is_that_of_the_last_reading(tmp_path, monkeypatch, capsys):
  root = two_classes(tmp_path / "photos", 4)
  write(root, {"a/new\nline\u2028.png": b"", "a/b.png": b""})
  for place in (str(root), "photos", "./photos"):
    monkeypatch.chdir(tmp_path)
    data.read(f"folder:{place}")
    fault = "the file is empty"
    assert index.faults(place) == [f"a/b.png: {fault}", rf"a/new\nline\u2028.png: {fault}"]
    assert "more" not in capsys.readouterr().err
  for name in ("a/new\nline\u2028.png", "a/b.png"):
    (root / name).unlink()
  data.read(f"folder:{root}")
  assert index.faults("photos") == [] and index.faults("elsewhere") == []


def test_a_list_that_cannot_be_written_is_not_named(tmp_path, monkeypatch, capsys):
  root = broken_folder(tmp_path)
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  data.read(f"folder:{root}")
  assert capsys.readouterr().err.endswith("\n  1 more\n") and index.faults(str(root)) == []


def test_a_loop_of_folders_is_listed_once(tmp_path):
  root = two_classes(tmp_path / "photos", 4)
  (root / "a" / "up").symlink_to(root)
  assert len(data.read(f"folder:{root}").train["image"]) == 4


def test_hidden_and_other_files_are_ignored(tmp_path):
  root = two_classes(tmp_path / "photos", 4)
  write(root, {".hidden.png": b"x", ".git/a.png": b"x", "a/notes.txt": b"x"})
  assert len(data.read(f"folder:{root}").train["image"]) == 4


@pytest.fixture
def opened(monkeypatch):
  """The names of the files whose content is examined."""
  calls = []
  examined = index._examined
  monkeypatch.setattr(
    index, "_examined", lambda file, *rest: calls.append(file.name) or examined(file, *rest)
  )
  return calls


def test_the_index_is_reused_and_only_changed_files_are_read_again(tmp_path, opened):
  root = two_classes(tmp_path / "photos", 6)
  first = data.read(f"folder:{root}").train["image"]
  assert len(opened) == 6
  opened.clear()
  assert data.read(f"folder:{root}").train["image"].checksum == first.checksum
  assert opened == []
  write(root, {"a/000.png": content(picture(77), "PNG"), "b/new.png": content(picture(8), "PNG")})
  (root / "b/001.png").unlink()
  changed = data.read(f"folder:{root}").train["image"]
  assert sorted(opened) == ["a/000.png", "b/new.png"]
  assert len(changed) == 6 and changed.checksum != first.checksum


def test_files_that_were_not_decoded_are_decoded_when_verified(tmp_path, opened, capsys):
  root = broken_folder(tmp_path)
  # The damage in the middle of a file is found only when the file is decoded.
  assert len(data.read(f"folder:{root}", verify=False).train["image"]) == 7
  opened.clear()
  assert len(data.read(f"folder:{root}").train["image"]) == 6
  assert "a/empty.png" not in opened  # known to be broken


def test_a_damaged_index_is_written_again(tmp_path, cache, opened):
  root = two_classes(tmp_path / "photos", 4)
  data.read(f"folder:{root}")
  (file,) = (cache / "contrastax" / "folders").iterdir()
  file.write_bytes(file.read_bytes()[:100])
  opened.clear()
  assert len(data.read(f"folder:{root}").train["image"]) == 4
  assert len(opened) == 4
  opened.clear()
  data.read(f"folder:{root}")
  assert opened == []


def test_without_a_place_for_the_index_the_folder_is_read_each_time(tmp_path, monkeypatch, opened):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  root = two_classes(tmp_path / "photos", 4)
  for _ in range(2):
    assert len(data.read(f"folder:{root}").train["image"]) == 4
  assert len(opened) == 8


WRONG = {
  "no folder": ({"place": "nowhere"}, "there is no folder nowhere"),
  "a file": ({"place": "photos/a/000.png"}, "is a file; give a folder of images"),
  "no image": ({"place": "empty"}, "contains no image files that can be decoded"),
  "size": ({"size": 0}, "size must be the side of the images in pixels"),
  "sizes": ({"size": (3, 4, 5)}, "size must be"),
  "channels": ({"channels": 2}, "channels must be"),
  "broken": ({"broken": "ignore"}, "broken must be"),
  "option": ({"siz": 3}, "takes no 'siz'; did you mean 'size'?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_one_line(tmp_path, monkeypatch, case):
  options, words = WRONG[case]
  two_classes(tmp_path / "photos", 4)
  (tmp_path / "empty").mkdir()
  monkeypatch.chdir(tmp_path)
  options = dict(options)
  with pytest.raises(UserError) as error:
    data.load(f"folder:{options.pop('place', 'photos')}", **options)
  assert words in str(error.value) and "\n" not in str(error.value)


def test_an_image_that_is_removed_later_is_named(tmp_path):
  root = two_classes(tmp_path / "photos", 4)
  images = data.read(f"folder:{root}").train["image"]
  (root / "a/000.png").unlink()
  with pytest.raises(UserError, match=r"'a/000.png' cannot be decoded: no such file or directory;"):
    np.asarray(images)


def test_the_size_and_the_channels_change_the_checksum(tmp_path):
  root = two_classes(tmp_path / "photos", 4)
  options = ({"size": 8}, {"size": 9}, {"size": 8, "channels": 1})
  sums = {data.read(f"folder:{root}", **each).train["image"].checksum for each in options}
  assert len(sums) == 3


def test_16_bits_and_gray_beside_color(tmp_path):
  gray = np.full((20, 20), 51 * 257, np.uint16)
  root = write(tmp_path / "photos", {"16.png": content(Image.fromarray(gray), "PNG")})
  image = np.asarray(data.read(f"folder:{root}", size=4).train["image"])
  np.testing.assert_array_equal(image, np.full((1, 4, 4, 3), 51))
