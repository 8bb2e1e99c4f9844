"""The command `contrastax embed`: what its files contain, and what an interruption leaves."""

import csv
import dataclasses
import fcntl
import json
import subprocess
import sys

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from made_run import CLASSES, made_run, write_photos
from PIL import Image

import contrastax
from contrastax import data
from contrastax.core import UserError
from contrastax.data.decode import decode
from contrastax.experiments import embed, rows
from contrastax.experiments.embed import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return made_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def expected(run, photos):
  """(names, class names, vectors) of the intact files, in the order of their names."""
  paths = sorted((path for path in photos.rglob("é*")), key=lambda p: str(p.relative_to(photos)))
  encode = contrastax.load(run)
  vectors = np.stack([encode(decode(path, (8, 8, 3))[None])[0] for path in paths])
  return [str(p.relative_to(photos)) for p in paths], [p.parent.name for p in paths], vectors


@pytest.fixture
def small(monkeypatch):
  """Parts of four examples."""
  monkeypatch.setattr(rows, "PART_ROWS", 4)


def command(run, photos, out, *more):
  return main(["contrastax embed", str(run), f"--data=folder:{photos}", f"--out={out}", *more])


def read(path):
  """Returns (names, classes, vectors, labels) of a file."""
  if path.suffix == ".parquet":
    table = pq.read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
  elif path.suffix == ".npz":
    with np.load(path, allow_pickle=False) as arrays:
      columns = {name: arrays[name].tolist() for name in arrays}
  else:
    with open(path, newline="", encoding="utf-8") as file:
      lines = list(csv.DictReader(file))
    columns = {name: [line[name] for line in lines] for name in ("name", "class", "label")}
    width = sum(name.startswith("v") for name in lines[0])
    columns["vector"] = [[float(line[f"v{i}"]) for i in range(width)] for line in lines]
  labels = [*map(int, columns["label"])]
  return columns["name"], columns["class"], np.array(columns["vector"]), labels


@pytest.mark.parametrize("suffix", ["parquet", "npz", "csv"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_file_has_the_vectors_in_the_order_of_the_data(
  tmp_path, run, photos, expected, small, suffix, dtype, capsys
):
  out = tmp_path / "new" / f"x.{suffix}"
  assert command(run, photos, out, f"--dtype={dtype}", "--batch_size=2") == 0
  names, classes, vectors, labels = read(out)
  assert (names, classes) == expected[:2]
  assert [CLASSES[label] for label in labels] == classes
  tolerance = 1e-5 if dtype == "float32" else 2e-3
  np.testing.assert_allclose(vectors, expected[2], rtol=tolerance, atol=tolerance)
  assert [file.name for file in out.parent.iterdir()] == [out.name]
  printed = capsys.readouterr()
  assert "examples/s" in printed.out and "broken.png" in printed.err and "empty.jpg" in printed.err


def test_the_types_of_the_files(tmp_path, run, photos):
  for name in ("x.parquet", "x.npz"):
    assert command(run, photos, tmp_path / name, "--dtype=float16") == 0
  field = pq.read_schema(tmp_path / "x.parquet").field("vector")
  assert str(field.type) == "fixed_size_list<element: halffloat>[32]"
  with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
    assert arrays["vector"].dtype == np.float16 and arrays["name"].dtype.kind == "U"
    assert json.loads(str(arrays["contrastax"]))["step"] == 3


def test_splits_and_arrays_of_another_size(tmp_path, run):
  contrastax.embed_data(run, "made:6x10x1", tmp_path / "x.npz")
  with np.load(tmp_path / "x.npz") as found:
    assert found["split"].tolist() == ["train"] * 200 + ["test"] * 40
    assert found["name"].tolist() == [*map(str, range(240))]
    np.testing.assert_array_equal(found["label"][200:], data.read("made:6x10x1").test["label"])


def test_options_of_images_in_files_only():
  shape = (8, 10, 1)
  files = {"size": (8, 10), "channels": 1}
  assert rows.image_options("folder:x", shape) == rows.image_options("csv:x", shape) == files
  assert rows.image_options("tfds:x", shape) == {"size": (8, 10)}
  assert rows.image_options("glyphs", shape) == rows.image_options("digits", shape) == {}


def test_code_has_the_length_of_the_encoder(run):
  """The functions of docstrings are cut at 256 bytes by default."""
  encode = dataclasses.replace(
    contrastax.load(run, network="other_encoder"), inputs=jax.ShapeDtypeStruct((400,), np.uint8)
  )
  opened = rows.open_rows(encode, "docstrings", "code")
  assert {inputs.shape[1] for inputs in opened.splits.values()} == {400}


def test_texts_of_another_length(tmp_path, run):
  texts = ["a cat", "a text that is longer than the run's", "é"]
  np.savez(tmp_path / "texts.npz", caption=np.array(texts))
  encode = contrastax.load(run, network="other_encoder", projected=True)
  contrastax.embed_data(encode, f"npz:{tmp_path}/texts.npz", tmp_path / "x.npz")
  with np.load(tmp_path / "x.npz") as found:
    assert set(found) == {"name", "vector", "contrastax"}  # there are no labels and no splits
    np.testing.assert_allclose(found["vector"], encode(texts), rtol=1e-5, atol=1e-6)


class Stopped(Exception):
  pass


def count_embedded(monkeypatch, stop_after=None):
  """Counts the examples that are embedded, and may end the command after some parts."""
  counted, original = [], rows.embedded

  def embedded(*arguments):
    for part, vectors in original(*arguments):
      if len(counted) == stop_after:
        raise Stopped
      counted.append(len(vectors))
      yield part, vectors

  monkeypatch.setattr(embed, "embedded", embedded)
  return counted


def test_an_interrupted_command_continues(tmp_path, run, photos, small, monkeypatch):
  out, whole = tmp_path / "x.npz", tmp_path / "whole.npz"
  assert command(run, photos, whole, "--batch_size=2") == 0
  out.write_bytes(b"old")
  count_embedded(monkeypatch, stop_after=2)
  with pytest.raises(Stopped):
    command(run, photos, out, "--batch_size=2")
  assert out.read_bytes() == b"old"
  counted = count_embedded(monkeypatch)
  assert command(run, photos, out, "--batch_size=2") == 0
  assert counted == [2]  # two parts of four were finished
  assert out.read_bytes() == whole.read_bytes()
  assert not list(tmp_path.glob(".*"))


CHANGES = ["nothing", "data", "checkpoint", "dtype", "batch_size"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_part_is_used_only_if_nothing_has_changed(tmp_path, run, small, monkeypatch, change):
  photos = write_photos(tmp_path / "photos")
  count_embedded(monkeypatch, stop_after=2)
  with pytest.raises(Stopped):
    command(run, photos, tmp_path / "x.npz", "--batch_size=2")
  options = {"dtype": ["--dtype=float16"], "batch_size": ["--batch_size=4"]}.get(change, [])
  if change == "data":  # the last of the first four files
    path = sorted((photos / CLASSES[0]).iterdir())[3]
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(path)
  if change == "checkpoint":
    run = made_run(tmp_path / "other", seed=9)
  counted = count_embedded(monkeypatch)
  assert command(run, photos, tmp_path / "x.npz", "--batch_size=2", *options) == 0
  assert sum(counted) == {"nothing": 2, "data": 6}.get(change, 10)


def test_two_commands_do_not_write_one_file(tmp_path, run, photos, capsys):
  folder = tmp_path / ".x.npz.parts"
  folder.mkdir()
  with open(folder / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert command(run, photos, tmp_path / "x.npz") == 2
  assert "is being written by another process" in capsys.readouterr().err


WRONG = {
  "no out": (["{run}", "--data=digits"], "--out is required"),
  "no run": (["--data=digits", "--out=x.npz"], "a run is required"),
  "a suffix": (["{run}", "--data=digits", "--out=x.txt"], "must end with .parquet, .npz or .csv"),
  "a type": (["{run}", "--data=digits", "--out=x.npz", "--dtype=int8"], "'float32' or 'float16'"),
  "a size": (["{run}", "--data=digits", "--out=x.npz", "--batch_size=0"], "at least 1, not 0"),
  "no data": (["{run}", "--data=folder:none", "--out=x.npz"], "there is no folder none"),
  "a field": (["{run}", "--data=digits", "--out=x.npz", "--field=text"], "no field 'text'"),
  "a label": (["{run}", "--data=digits", "--out=x.npz", "--field=label"], "'label' is int32"),
  "no texts": (
    ["{run}", "--data=digits", "--out=x.npz", "--network=other_encoder"],
    "digits has no field that the encoder can take (image); the encoder takes uint8 [n, 16], which are",
  ),
  "the data": (["{run}", "--data=npz:data.npz", "--out=./data.npz"], "./data.npz is the data"),
  "a flag": (["{run}", "--data=digits", "--out=x.npz", "--speed=9"], "Unknown command line flag"),
  "two runs": (["{run}", "b", "--data=digits", "--out=x.npz"], "unexpected argument 'b'"),
  "a folder": (["{run}", "--data=digits", "--out=made.npz"], "made.npz is a folder"),
  "no place": (["{run}", "--data=digits", "--out=/proc/none/x.npz"], "/proc/none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_is_one_line(tmp_path, run, monkeypatch, capsys, case):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "made.npz").mkdir()
  arguments, expected = WRONG[case]
  assert main(["contrastax embed", *(each.format(run=run) for each in arguments)]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and expected in error
  assert [file.name for file in tmp_path.iterdir()] == ["made.npz"]


def test_vectors_beyond_half_precision(tmp_path):
  with pytest.raises(UserError, match="1e.05, which float16 cannot contain"):
    embed._npy(np.full((2, 2), 1e5, np.float32), np.dtype(np.float16))


def test_import_is_lazy():
  """The function is imported when it is first used."""
  code = "import contrastax, sys; assert 'jax' not in sys.modules; contrastax.embed_data"
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0
