"""`contrastax prepare DATA --out=FOLDER` writes the same examples once, decoded."""

import numpy as np
import pytest
from images_on_disk import two_classes

from contrastax import cli, data


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return two_classes(tmp_path / "photos", 20)


def prepare(*arguments):
  return cli.main(["prepare", *arguments])


def test_the_examples_the_splits_and_the_classes_are_the_same(capsys):
  assert prepare("folder:photos", "--out=small", "--size=(8, 12)", "--channels=1") == 0
  assert "16 training and 4 test examples" in capsys.readouterr().out
  shards = data.load("arrayrecord:small")
  files = data.load("folder:photos", size=(8, 12), channels=1)
  assert shards.classes == files.classes
  for part, other in zip(shards[:2], files[:2], strict=True):
    assert part["image"].shape[1:] == (8, 12, 1)
    np.testing.assert_array_equal(part["image"], other["image"])
    np.testing.assert_array_equal(part["label"], other["label"])


def test_data_in_memory_are_written_too():
  assert prepare("made:8x8x3", "--out=new/made") == 0
  np.testing.assert_array_equal(
    data.load("arrayrecord:new/made").train["image"], data.load("made:8x8x3").train["image"]
  )


WRONG = {
  "no folder": (["folder:photos", "--size=8"], "give one data set and a folder"),
  "two sets": (["digits", "folder:photos", "--out=x"], "give one data set and a folder"),
  "no data": (["folder:none", "--out=x"], "there is no folder none"),
  "option": (["folder:photos", "--out=x", "--siz=8"], "it takes no 'siz'; did you mean 'size'?"),
  "value": (["folder:photos", "--out"], "--out needs a value"),
  "size": (["folder:photos", "--out=x", "--size=0"], "size must be"),
  "a file": (["folder:photos", "--out=photos/a/000.png"], "is a file; give a folder"),
  "not empty": (["folder:photos", "--out=photos"], "contains"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_one_line(case, capsys, tmp_path):
  arguments, words = WRONG[case]
  assert prepare(*arguments) == 2
  printed = capsys.readouterr().err
  assert printed.startswith("error: ") and printed.count("\n") == 1 and words in printed
  assert not (tmp_path / "x" / "dataset.json").exists()


def test_a_stopped_command_leaves_no_data_set_and_can_be_repeated(monkeypatch, tmp_path, capsys):
  def stop(*arguments):
    raise KeyboardInterrupt

  with monkeypatch.context() as context:
    context.setattr("contrastax.data.shards.write_json", stop)
    assert prepare("folder:photos", "--out=small", "--size=8") == 130
  assert cli.main(["prepare", "arrayrecord:small", "--out=other"]) == 2
  assert "has no dataset.json" in capsys.readouterr().err
  assert prepare("folder:photos", "--out=small", "--size=8") == 0
  assert len(data.load("arrayrecord:small").train["label"]) == 16


def test_a_full_disk_is_one_line(monkeypatch, capsys):
  def full(*arguments, **options):
    raise OSError(28, "No space left on device", "small/train.npz")

  monkeypatch.setattr("contrastax.data.shards.np.savez", full)
  assert prepare("folder:photos", "--out=small", "--size=8") == 2
  assert "small/train.npz cannot be written: No space left on device" in capsys.readouterr().err
