"""What a loaded encoder takes: paths, PIL images, arrays and texts; and runs that a stranger sent."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import pickle
import re
import shutil
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from made_run import HEAD, IMAGE_ENCODER, TEXT_ENCODER, made_run, write_photos
from ml_collections import ConfigDict
from PIL import Image

import contrastax
from contrastax import data, encoders
from contrastax.core import Evaluated, UserError
from contrastax.data.decode import decode
from contrastax.experiments.build import network_specs
from contrastax.training.inputs import convert, with_length

SPEC = jax.ShapeDtypeStruct((8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return made_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def encode(run):
  return contrastax.load(run)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
  photos = write_photos(tmp_path_factory.mktemp("photos"))
  return sorted(path for path in photos.rglob("*.*") if path.stem.startswith("é"))


def message(function, *arguments, **options):
  with pytest.raises(UserError) as error:
    function(*arguments, **options)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_paths_and_pictures_are_the_decoded_arrays(encode, paths):
  arrays = np.stack([decode(path, (8, 8, 3)) for path in paths])
  expected = encode(arrays)
  pictures = [Image.open(path) for path in paths]
  mixed = [paths[0], *pictures[1:]]
  for inputs in (paths, [*map(str, paths)], tuple(paths), pictures, mixed):
    np.testing.assert_allclose(encode(inputs, batch_size=4), expected, rtol=1e-5, atol=1e-6)


def test_one_input_gives_one_vector(encode, paths):
  expected = encode([paths[2]])[0]
  for one in (paths[2], str(paths[2]), Image.open(paths[2])):
    assert encode(one).shape == (32,)
    np.testing.assert_allclose(encode(one), expected, rtol=1e-5, atol=1e-6)
  array = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
  for one in (array, array / np.float32(255)):
    np.testing.assert_allclose(encode(one), encode(array[None])[0], rtol=1e-5, atol=1e-6)


def test_texts_are_their_bytes(run):
  encode = contrastax.load(run, network="other_encoder")
  texts = ["a cat", "né", "", "a text that is longer than the run's"]
  table = np.zeros((4, 16), np.uint8)
  for row, text in zip(table, texts, strict=True):
    row[: len(text.encode()[:16])] = list(text.encode()[:16])
  np.testing.assert_allclose(encode(texts), encode(table), rtol=1e-5, atol=1e-6)
  assert encode("a cat").shape == (8,)


def test_a_text_is_cut_between_characters():
  texts = np.array([[*("é" * 4).encode()], [*b"abcd", 0, 0, 0, 0]], np.uint8)
  cut = with_length(texts, 5)
  assert [bytes(row).rstrip(b"\0").decode() for row in cut] == ["éé", "abcd"]
  np.testing.assert_array_equal(with_length(texts, 9)[:, :8], texts)


def test_a_tree_takes_lists(paths):
  spec = {"image": SPEC, "text": jax.ShapeDtypeStruct((4,), np.uint8)}
  found, single = convert(spec, {"image": paths[:2], "text": ["ab", "cd"]})
  assert not single and found["image"].shape == (2, 8, 8, 3)
  assert found["text"].tolist() == [[97, 98, 0, 0], [99, 100, 0, 0]]
  assert convert(spec, {"image": paths[0], "text": "ab"})[1]
  assert "one example" in message(convert, spec, {"image": paths[0], "text": ["ab"]})


def test_columns_are_not_read_at_once(encode, paths):
  column = data.read(f"folder:{paths[0].parents[1]}", size=8).train["image"]
  np.testing.assert_allclose(encode(column), encode(np.asarray(column)), rtol=1e-5, atol=1e-6)


WRONG = {
  "no file": (["nowhere.png"], "nowhere.png cannot be decoded: no such file"),
  "a folder": (".", "contrastax.data.read('folder:…') opens a folder"),
  "nothing": ([], "must not be empty"),
  "mixed": (["a.png", np.zeros((8, 8, 3))], "takes paths and PIL images for inputs, not ndarray"),
  "another size": (np.zeros((2, 9, 9, 3), np.uint8), "Image.fromarray(x) for x in images"),
  "channels first": (np.zeros((2, 3, 8, 8)), "pass images.transpose(0, 2, 3, 1)"),
  "one with channels first": (np.zeros((3, 8, 8)), "pass image.transpose(1, 2, 0)"),
  "ragged": ([np.zeros((8, 8, 3)), np.zeros((9, 8, 3))], "different shapes"),
  "a number": (3, "takes images [n, 8, 8, 3], not int"),
  "none": (None, "takes images [n, 8, 8, 3], not NoneType"),
  "bytes": (b"x", "takes images [n, 8, 8, 3], not bytes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_an_encoder_of_images_refuses(encode, case):
  inputs, expected = WRONG[case]
  assert expected in message(encode, inputs)


def test_what_other_encoders_refuse(run):
  head = contrastax.load(run, network="projection")
  assert "takes inputs [n, 32], not str; pass an array" in message(head, "a.png")
  text = contrastax.load(run, network="other_encoder")
  assert "takes texts for inputs, not" in message(text, ["a", pathlib.Path("b")])
  assert "[n, 8, 8, 4]" in message(convert, jax.ShapeDtypeStruct((8, 8, 4), np.uint8), ["a.png"])


# The networks of a run.


def test_the_networks_that_the_run_describes(run, encode):
  x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
  head = contrastax.load(run, network="projection")
  assert head.inputs == jax.ShapeDtypeStruct((32,), np.float32)
  both = contrastax.load(run, projected=True)
  np.testing.assert_allclose(both(x), head(encode(x)), rtol=1e-4, atol=1e-6)
  other = contrastax.load(run, network="other_encoder", projected=True)
  assert other("a cat").shape == (6,)
  found = message(contrastax.load, run, network="third")
  assert "describes encoder, projection, other_encoder, other_projection, not" in found


def test_the_networks_of_towers_and_pairs():
  def names(method, evaluated):
    config = ConfigDict({"method": method})
    found = network_specs(config, SimpleNamespace(evaluated=evaluated))
    return {name: entry.get("of", entry.get("fields")) for name, entry in found.items()}

  towers = [
    {"tag": "a", "input": "x", "encoder": IMAGE_ENCODER, "projection": HEAD},
    {"tag": "b", "input": "y", "encoder": TEXT_ENCODER, "projection": None},
  ]
  evaluated = Evaluated("a_encoder", "x", None)
  expected = {"a_encoder": "x", "a_projection": "a_encoder", "b_encoder": "y"}
  assert names({"name": "Towers", "towers": towers}, evaluated) == expected
  pairs = {"name": "Pairs", "encoder": IMAGE_ENCODER, "projection": HEAD, "inputs": ("x", "y")}
  others = {"other_encoder": TEXT_ENCODER, "other_projection": HEAD}
  evaluated = Evaluated("encoder", "x", None)
  alone = {"encoder": "x", "projection": "encoder"}
  both = {**alone, "other_encoder": "y", "other_projection": "other_encoder"}
  assert names({**pairs, **others, "positives": 0}, evaluated) == both
  assert names({**pairs, **others, "positives": 2}, evaluated) == alone
  assert names({**pairs, "other_encoder": None, "other_projection": None}, evaluated) == alone


def test_a_projection_needs_one_that_the_run_describes(run):
  assert "no projection of 'projection'" in message(
    contrastax.load, run, network="projection", projected=True
  )
  mlp = encoders.mlp((32,))
  assert "leave out encoder" in message(contrastax.load, run, encoder=mlp, projected=True)


# A run that a stranger sent.


class Evil:
  def __reduce__(self):
    return (pathlib.Path("executed").touch, ())


def strange(tmp_path, run, **changes):
  """Returns a copy of the run's encoder.json with changes."""
  content = json.loads((run / "encoder.json").read_text())
  (tmp_path / "encoder.json").write_text(json.dumps({**content, **changes}))
  return tmp_path


IMPORTED = {
  "the encoder": {"encoder": {"name": "evil:network"}},
  "inside a part": {"encoder": {"name": "frozen", "encoder": "evil:network"}},
  "an argument": {"encoder": {"name": "mlp", "widths": "evil:widths"}},
  "os": {"encoder": {"name": "os:system", "command": "touch executed"}},
  "a dotted name": {"encoder": {"name": "contrastax.files:remove", "path": "x"}},
  "a projection": {"networks": {"projection": {"encoder": {"name": "evil:f"}, "of": "encoder"}}},
}


@pytest.mark.parametrize("case", IMPORTED)
def test_no_module_of_a_stranger_is_imported(tmp_path, run, monkeypatch, case):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path('executed').touch()\n")
  monkeypatch.syspath_prepend(tmp_path)
  folder = strange(tmp_path, run, **IMPORTED[case])
  projected = case == "a projection"
  text = message(contrastax.load, folder, projected=projected)
  assert "not allowed" in text or "describe" in text
  assert not (tmp_path / "executed").exists() and "evil" not in sys.modules


HUGE = {
  "an input": {"inputs": {"shape": [10**6, 10**6, 3], "dtype": "uint8"}},
  "beyond int64": {"inputs": {"shape": [10**30, 1, 3], "dtype": "uint8"}},
  "a width": {"encoder": {"name": "mlp", "widths": [10**12]}},
  "a depth": {"encoder": {"name": "vit", "width": 8, "heads": 2, "patch": 4, "depth": 10**9}},
  "a negative depth": {
    "encoder": {
      "name": "chunked",
      "depth": -(10**9),
      "encoder": {"name": "vit", "width": 8, "heads": 2, "patch": 4, "depth": 10**9},
    }
  },
  "a size": {"padding": "x" * 2**21},
  "layers": {"encoder": {"name": "chunked", "encoder": {"name": "mlp", "widths": [1] * 10**5}}},
  "object": {"inputs": {"shape": [8, 8, 3], "dtype": "O"}},
  "a step": {"layout": "contrastax", "step": "../../x"},
  "a layout": {"layout": "../x", "step": 1},
  "a cycle": {"network": "x", "networks": {"a": {"encoder": HEAD, "of": "a"}}},
}


@pytest.mark.parametrize("case", HUGE)
def test_a_strange_description_is_one_line(tmp_path, run, case):
  folder = strange(tmp_path, run, **HUGE[case])
  (folder / "checkpoints").symlink_to(run / "checkpoints")
  assert message(contrastax.load, folder, network="a" if case == "a cycle" else None)


@pytest.mark.parametrize(
  "content", [b"", b"x", b"\xff" * 8, b"\x00" * 7 + b"\x10{}", "pickle", "npz"]
)
def test_strange_parameters_are_one_line(tmp_path, run, monkeypatch, content):
  """A pickle in the place of the safetensors file is not executed."""
  monkeypatch.chdir(tmp_path)
  if content == "pickle":
    content = pickle.dumps(Evil())
  elif content == "npz":
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([Evil()], object))
    content = buffer.getvalue()
  folder = strange(tmp_path, run, layout="contrastax", step=1)
  assert "it has no model.safetensors" in message(contrastax.load, folder)
  (folder / "model.safetensors").write_bytes(content)
  assert "not an intact safetensors file" in message(contrastax.load, folder)
  assert not (tmp_path / "executed").exists()


HOSTILE = {
  "_CHECKPOINT_METADATA": [(r'"item_handlers": "[^"]*"', '"item_handlers": "evil.Handler"')],
  "_METADATA": [
    (r'"value_type": "jax.Array"', '"value_type": "evil.Array"'),
    (r'"use_ocdbt": true', '"use_ocdbt": false'),
  ],
  "_sharding": [(r"SingleDeviceSharding", "evil.Sharding"), (r"cpu:0", "evil:0")],
}


@pytest.mark.parametrize(
  "name, place", [(n, i) for n, each in HOSTILE.items() for i in range(len(each))]
)
def test_a_checkpoint_of_a_stranger_imports_nothing(tmp_path, run, monkeypatch, name, place):
  """The checksums are those of the changed files, as a stranger would write them."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path('executed').touch()\n")
  shutil.copytree(run, tmp_path / "run")
  checkpoint = tmp_path / "run" / "checkpoints" / "3"
  pattern, replacement = HOSTILE[name][place]
  text = (checkpoint / name).read_text()
  changed = re.sub(pattern, replacement, text)
  assert changed != text
  (checkpoint / name).write_text(changed)
  sums = json.loads((checkpoint / "checksums.json").read_text())
  sums[name] = sums[name] and hashlib.sha256(changed.encode()).hexdigest()
  (checkpoint / "checksums.json").write_text(json.dumps(sums))
  with contextlib.suppress(UserError):
    assert contrastax.load(tmp_path / "run").step == 3
  assert not (tmp_path / "executed").exists() and "evil" not in sys.modules


def test_a_file_that_the_description_names_is_not_read(tmp_path, run, encode):
  os.mkfifo(tmp_path / "weights.safetensors")
  part = {"name": "pretrained", "encoder": IMAGE_ENCODER, "path": f"{tmp_path}/weights.safetensors"}
  folder = strange(tmp_path, run, encoder={**part, "normalization": "none"})
  (folder / "checkpoints").symlink_to(run / "checkpoints")
  x = np.ones((2, 8, 8, 3), np.uint8)
  np.testing.assert_array_equal(contrastax.load(folder)(x), encode(x))
