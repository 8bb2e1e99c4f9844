"""The command `contrastax export`: every file gives the embeddings of the run, or nothing is written."""

import json
import os
import pathlib
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export as jax_export
from made_run import made_run, write_photos
from safetensors.numpy import load_file

import contrastax
from contrastax import data, encoders
from contrastax.core import UserError
from contrastax.data.licenses import license_of
from contrastax.data.prepared.files import save
from contrastax.data.shards import write_shards
from contrastax.experiments import artifacts, evaluate, run
from contrastax.experiments.export import main
from contrastax.experiments.model_card import _in_timm, model_card
from contrastax.experiments.onnx_operations import rewritten
from contrastax.training.load import FrozenEncoder

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "digits_simclr.py"
MODEL, HLO, ONNX = "model.safetensors", "model.stablehlo", "model.onnx"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A finished run on 8×8 images with labels."""
  workdir = tmp_path_factory.mktemp("runs") / "trained"
  options = (
    "data=made:8x8x1", "steps=4", "batch_size=16", "eval_every=4", "checkpoint_every=2",
    "method.encoder.name=mlp", "method.encoder.widths=(12,)",
  )  # fmt: skip
  arguments = [f"--config.{option}" for option in options]
  assert run.main(["run", f"--config={CONFIG}:runlocal", *arguments, f"--workdir={workdir}"]) == 0
  return workdir


@pytest.fixture(scope="module")
def exported(tmp_path_factory, trained):
  folder = tmp_path_factory.mktemp("exports") / "encoder"
  assert main(["contrastax export", str(trained), f"--out={folder}"]) == 0
  return folder


def frozen(encoder, inputs, spec=(None, None)):
  """A loaded encoder with random parameters and running statistics that are not 0 and 1."""
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((1, *x.shape), jnp.float32 if x.ndim == 3 else x.dtype), inputs
  )
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch)
  params, state = encoder.init(jax.random.key(0), zeros)
  rng = np.random.default_rng(0)
  params, state = jax.tree.map(
    lambda x: x + 0.1 * np.abs(rng.normal(size=x.shape)).astype(x.dtype), (params, state)
  )
  return FrozenEncoder(encoder, params, state, inputs, 7, spec=spec)


IMAGE = jax.ShapeDtypeStruct((16, 16, 3), np.uint8)
FAMILY = {
  "mlp": ({"name": "mlp", "widths": (6,)}, encoders.mlp((6,)), IMAGE),
  "convnet": ({"name": "convnet", "widths": (4, 6)}, encoders.convnet((4, 6)), IMAGE),
  "resnet": (
    {"name": "resnet", "depth": 8, "width": 4},
    encoders.resnet(8, width=4),
    IMAGE,
  ),
  "vit": (
    {"name": "vit", "width": 8, "depth": 1, "heads": 2, "patch": 4, "positions": "learned"},
    encoders.vit(8, depth=1, heads=2, patch=4, positions="learned"),
    IMAGE,
  ),
  "frozen": (
    {
      "name": "pretrained",
      "path": None,
      "normalization": "imagenet",
      "frozen": True,
      "encoder": {"name": "resnet", "depth": 8, "width": 4, "stem": "cifar"},
    },
    encoders.pretrained(
      encoders.resnet(8, width=4, stem="cifar"), None, normalization="imagenet", frozen=True
    ),
    IMAGE,
  ),
  "text": (
    {"name": "text", "width": 8, "depth": 1, "heads": 2},
    encoders.text(8, depth=1, heads=2),
    jax.ShapeDtypeStruct((6,), np.uint8),
  ),
  "vectors": (
    {"name": "mlp", "widths": (6,)},
    encoders.mlp((6,)),
    jax.ShapeDtypeStruct((5,), np.float32),
  ),
  "bfloat16": (
    {"name": "resnet", "depth": 8, "width": 4, "stem": "cifar", "dtype": "bfloat16"},
    encoders.resnet(8, width=4, stem="cifar", dtype="bfloat16"),
    IMAGE,
  ),
}


@pytest.fixture(scope="module", params=FAMILY)
def family(request, tmp_path_factory):
  """(name, encoder, folder, what was written)."""
  spec, encoder, inputs = FAMILY[request.param]
  loaded = frozen(encoder, inputs, (spec, None))
  folder = tmp_path_factory.mktemp("family") / request.param
  return request.param, loaded, folder, contrastax.export(loaded, folder)


def test_every_file_gives_the_same_embeddings(family):
  name, encode, folder, written = family
  refused = {ONNX} if name == "bfloat16" else set()  # onnxruntime has no convolution of 16 bits
  assert written.missing.keys() == refused and written.errors.keys() == {MODEL, HLO, ONNX} - refused
  inputs = artifacts.examples_of(encode.inputs)
  shuffled = jax.tree.map(lambda x: x[::-1][:5].copy(), inputs)
  expected = encode(shuffled)
  assert np.ptp(expected, 0).max() > 1e-3  # the examples differ
  tolerance = 2e-2 if name == "bfloat16" else 1e-4
  assert written.tolerance == tolerance
  results = {MODEL: contrastax.load(folder)(shuffled)}
  program = jax_export.deserialize(bytearray((folder / HLO).read_bytes()))
  assert program.platforms == ("cpu", "cuda", "tpu")
  results[HLO] = program.call(shuffled)
  if ONNX not in refused:
    results[ONNX] = artifacts.call_onnx(folder, encode.inputs)(shuffled)
  for found in results.values():
    assert found.dtype == np.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def test_the_layout_of_the_parameters(family):
  name, encode, folder, _ = family
  arrays = load_file(folder / MODEL)
  if name in ("resnet", "vit", "frozen", "bfloat16"):
    first = "patch_embed.proj.weight" if name == "vit" else "conv1.weight"
    assert arrays[first].shape[1:] == (3, *[{"vit": 4, "resnet": 7}.get(name, 3)] * 2)
    assert arrays.keys() == encoders.to_torch(encode.params, encode.state).keys()
  else:
    leaves = len(jax.tree.leaves((encode.params, encode.state)))
    assert len(arrays) == leaves and all(key.startswith(("params/", "state/")) for key in arrays)


def test_the_model_card_has_the_normalization_and_the_positions():
  resnet, vit = FAMILY["frozen"][0], {"name": "vit", "positions": "sincos"}
  assert 'must first be normalized: "imagenet".' in _in_timm(resnet)
  assert "without a normalization." in _in_timm(resnet["encoder"])
  assert "fixed positions are not among them" in _in_timm({"name": "chunked", "encoder": vit})


def test_a_run_by_its_command(trained, exported):
  names = {"README.md", "encoder.json", MODEL, HLO, ONNX}
  assert {file.name for file in exported.iterdir()} == names
  x = data.load("made:8x8x1").test["image"]
  ours, theirs = contrastax.load(trained), contrastax.load(exported)
  np.testing.assert_allclose(theirs(x), ours(x), rtol=1e-5, atol=1e-6)
  assert (theirs.step, theirs.inputs, theirs.fields) == (ours.step, ours.inputs, ours.fields)


def test_an_export_needs_nothing_else(tmp_path, exported, monkeypatch):
  """A copy elsewhere embeds a folder of files."""
  shutil.copytree(exported, tmp_path / "copy")
  monkeypatch.chdir(tmp_path)
  photos = write_photos(tmp_path / "photos", 3)
  contrastax.embed_data("copy", f"folder:{photos}", "x.npz")
  contrastax.export("copy", "again")
  paths = sorted(photos.rglob("é*"))
  np.testing.assert_allclose(
    contrastax.load("again")(paths), contrastax.load("copy")(paths), rtol=1e-5, atol=1e-6
  )


def test_an_export_is_not_evaluated(exported, capsys):
  assert evaluate.main(["contrastax evaluate", str(exported)]) == 2
  assert "is an export, which has no data and no config" in capsys.readouterr().err


def test_the_model_card_has_the_facts_of_the_run(trained, exported):
  card = (exported / "README.md").read_text()
  summary = json.loads((trained / "summary.json").read_text())
  (process,) = json.loads((trained / "run.json").read_text())
  row = next(line for line in card.splitlines() if line.startswith("| trained |"))
  numbers = [float(number) for number in re.findall(r"\d\.\d{3}", row)]
  table, half = summary["table"]["trained"], summary["half_intervals"]["trained"]
  expected = [x for name, value in table.items() for x in (value, half.get(name)) if x is not None]
  np.testing.assert_allclose(numbers, expected, atol=5e-4)
  source = data.Resident(data.load("made:8x8x1").train, batch_size=16)
  facts = [f"{source.fingerprint:08x}", process["command"], "Step: 4 of 4", "`made:8x8x1`"]
  facts += [str(process["commit"] or "of a release"), f"jax {jax.__version__}", "[n, 8, 8, 1]"]
  assert [fact for fact in facts if fact not in card] == []
  config = json.loads(re.search(r"````json\n(.*?)\n````", card, re.DOTALL)[1])
  assert config == json.loads((trained / "config.json").read_text())


HOSTILE = "<script>\n# x\n````\n[a](b) |`*"
STRANGE = {
  "the process": ("run.json", [dict.fromkeys(("command", "time", "machine", "commit"), HOSTILE)]),
  "its types": ("run.json", [{"versions": [1], "devices": 5}]),
  "the table": ("summary.json", {"table": {HOSTILE: {HOSTILE: 0.5}}, "judged_on": HOSTILE}),
  "a value": ("summary.json", {"table": {"trained": {"knn": HOSTILE}}, "steps": HOSTILE}),
  "a list": ("summary.json", {"table": [1], "half_intervals": [1]}),
  "the data": ("config.json", {"data": {"name": HOSTILE}, "method": {"name": HOSTILE}}),
  "no data": ("config.json", {"data": {"x": 1}, "method": [HOSTILE]}),
}


@pytest.mark.parametrize("case", STRANGE)
def test_the_model_card_of_a_stranger_has_no_markup(tmp_path, trained, case):
  shutil.copytree(trained, tmp_path / "run")
  name, content = STRANGE[case]
  (tmp_path / "run" / name).write_text(json.dumps(content))
  card = model_card(contrastax.load(tmp_path / "run"), tmp_path / "run", {}, 1e-4)
  assert card.count("\n# ") == 1
  outside = re.sub(r"````(json)?\n.*?\n````|`[^`\n]*`", "", card, flags=re.DOTALL)
  assert not re.search(r"(?<!\\)(<|\[a\]|\*)", outside) and "````" not in outside


def test_the_license_of_the_data(tmp_path, monkeypatch):
  shards = tmp_path / "shards"
  write_shards(data.load("made:4x4x1"), shards, license="CC0")
  monkeypatch.setenv("CONTRASTAX_DATA_DIR", str(tmp_path))
  save(tmp_path / "emoji.npz", data.load("made:4x4x1"), {"license": "OFL"})
  names = {"digits": "CC BY 4.0", "words:made:4x4x1": "none is needed", "emoji": "OFL"}
  names |= {f"arrayrecord:{shards}": "CC0"}
  for name, expected in names.items():
    assert license_of(name).startswith(expected)
  (shards / "dataset.json").write_text("{")
  for name in ("folder:x", "arrayrecord:none", f"arrayrecord:{shards}", "npz:digits"):
    assert license_of(name) is None


def test_the_code_of_the_model_card_runs(exported, monkeypatch):
  monkeypatch.chdir(exported)
  blocks = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
  assert len(blocks) == 5
  names, embeddings = {}, []
  for block in blocks:
    exec(block, names)
    embeddings += [names.pop("embeddings")] if "embeddings" in names else []
  assert len(embeddings) == 3 and names["parameters"].keys() == load_file(MODEL).keys()
  for found in embeddings[1:]:
    np.testing.assert_allclose(found, embeddings[0], rtol=1e-4, atol=1e-6)


def test_a_loaded_encoder_is_exported_as_it_is(tmp_path, trained):
  for options in ({"projected": True}, {"network": "projection"}):
    with pytest.raises(UserError, match="pass them to contrastax.load"):
      contrastax.export(contrastax.load(trained), tmp_path / "x", **options)


def test_towers_of_texts_after_the_projection(tmp_path):
  workdir = made_run(tmp_path / "run")
  options = [f"--out={tmp_path}/texts", "--network=other_encoder", "--projected"]
  assert main(["contrastax export", str(workdir), *options]) == 0
  encode = contrastax.load(workdir, network="other_encoder", projected=True)
  copied = contrastax.load(tmp_path / "texts")
  np.testing.assert_allclose(copied(["a", "é"]), encode(["a", "é"]), rtol=1e-5, atol=1e-6)
  card = (tmp_path / "texts" / "README.md").read_text()
  assert "texts to embeddings of 6 numbers, after the projection" in card
  with pytest.raises(UserError, match="is an export of one network"):
    contrastax.load(tmp_path / "texts", projected=True)


class Joined(nnx.Module):
  def __init__(self, x, rngs):
    self.linear = nnx.Linear(12 + 3, 4, rngs=rngs)

  def __call__(self, x):
    flat = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(x)]
    return {"embedding": self.linear(jnp.concatenate(flat, -1))}


TREE = {
  "image": jax.ShapeDtypeStruct((2, 2, 3), np.uint8),
  "more": {"vector": jax.ShapeDtypeStruct((3,), np.float32)},
}


def test_an_encoder_from_code_of_several_inputs(tmp_path, monkeypatch):
  encode = frozen(encoders.from_nnx(Joined), TREE)
  written = contrastax.export(encode, tmp_path / "x")
  assert not written.missing
  with pytest.raises(UserError, match="was trained from code; pass the encoder"):
    contrastax.load(tmp_path / "x")
  inputs = artifacts.examples_of(TREE)
  again = contrastax.load(tmp_path / "x", encoder=encode.encoder)
  np.testing.assert_allclose(again(inputs), encode(inputs), rtol=1e-5, atol=1e-6)
  monkeypatch.chdir(tmp_path / "x")
  blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "x/README.md").read_text(), re.DOTALL)
  names = {}
  for block in (each for each in blocks if "encoder=…" not in each):
    exec(block, names)
  assert names["embeddings"].shape == (2, 4)


def wrong_program(original):
  def program(encode):
    return lambda inputs: original(encode)(inputs) * 1.001

  return program


def test_another_embedding_is_an_error_that_leaves_nothing(tmp_path, monkeypatch, exported, capsys):
  monkeypatch.setattr(artifacts, "program", wrong_program(artifacts.program))
  assert main(["contrastax export", str(exported), f"--out={tmp_path}/x"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "model.stablehlo was written and loaded again" in error
  assert "by 1.0e-03 of their norm, more than 1e-04; nothing is exported" in error
  assert not list(tmp_path.iterdir())


def test_a_changed_file_of_parameters_is_found(tmp_path, monkeypatch, exported):
  original = artifacts.write_parameters

  def changed(encode, folder):
    params = jax.tree.map(lambda x: x * 1.001, encode.params)
    original(FrozenEncoder(**{**vars(encode), "params": params}), folder)

  monkeypatch.setattr(artifacts, "write_parameters", changed)
  with pytest.raises(UserError, match=r"model.safetensors was written .* nothing is exported"):
    contrastax.export(exported, tmp_path / "x")
  assert not list(tmp_path.iterdir())


def test_without_jax2onnx_the_other_files_are_written(tmp_path, monkeypatch, exported, capsys):
  monkeypatch.setitem(sys.modules, "jax2onnx", None)
  assert main(["contrastax export", str(exported), f"--out={tmp_path}/x"]) == 0
  error = capsys.readouterr().err
  assert error == (
    "model.onnx was not written: jax2onnx is missing; install it with pip install 'contrastax[onnx]'\n"
  )
  assert "onnx" not in (tmp_path / "x" / "README.md").read_text()


def test_an_encoder_of_a_fixed_number_of_examples(tmp_path):
  def build(x, rngs):
    class Net(nnx.Module):
      def __init__(self):
        self.linear = nnx.Linear(12, 4, rngs=rngs)

      def __call__(self, x):
        return self.linear(x.reshape(len(x), -1))

    return Net()

  written = contrastax.export(frozen(encoders.from_nnx(build), TREE["image"]), tmp_path / "x")
  assert written.missing.keys() == {HLO, ONNX} and written.errors.keys() == {MODEL}
  assert "use x.shape[0] in place of len(x)" in written.missing[HLO]


def test_a_diverged_encoder_is_refused(tmp_path):
  encode = frozen(encoders.mlp((6,)), IMAGE)
  broken = FrozenEncoder(
    **{**vars(encode), "params": jax.tree.map(lambda x: x * jnp.nan, encode.params)}
  )
  with pytest.raises(UserError, match="not finite"):
    contrastax.export(broken, tmp_path / "x")


WRONG = {
  "no out": ([], "--out is required"),
  "a full folder": (["--out=."], "the output . already exists"),
  "a file": (["--out=file"], "the output file already exists"),
  "a network": (["--out=x", "--network=third"], "not the network 'third'"),
  "a projection": (["--out=x", "--projected"], "is an export of one network"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_is_one_line(tmp_path, exported, monkeypatch, capsys, case):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "file").write_text("")
  arguments, expected = WRONG[case]
  assert main(["contrastax export", str(exported), *arguments]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and expected in error
  assert os.listdir(tmp_path) == ["file"]


DAMAGE = {
  "missing": lambda arrays: arrays.pop("params/hidden/0/bias", arrays.popitem()),
  "shape": lambda arrays: arrays.update({key: x[:1] for key, x in arrays.items()}),
  "more": lambda arrays: arrays.update(other=np.zeros(2, np.float32)),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_other_parameters_are_one_line(tmp_path, exported, case):
  from safetensors.numpy import save_file

  shutil.copytree(exported, tmp_path / "x")
  arrays = load_file(tmp_path / "x" / MODEL)
  DAMAGE[case](arrays)
  save_file(arrays, tmp_path / "x" / MODEL)
  with pytest.raises(
    UserError, match=r"model.safetensors: .* (is missing|is float32|not a weight)"
  ):
    contrastax.load(tmp_path / "x")


@pytest.mark.parametrize(
  "window", [((1, 3, 3, 1), (1, 2, 2, 1), 1), ((1, 2, 2, 1), (1, 1, 1, 1), 0)]
)
def test_a_maximum_over_windows_by_slices(window):
  size, strides, pad = window
  padding = ((0, 0), (pad, pad), (pad, pad), (0, 0))

  def pooled(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, size, strides, padding)

  x = np.random.default_rng(0).normal(size=(2, 7, 8, 3)).astype(np.float32)
  found = rewritten(jax.make_jaxpr(pooled)(x))(x)
  np.testing.assert_array_equal(found, pooled(x))
