"""Mistakes of the first day: each raises one line with its fix."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import contrastax
from contrastax import criteria, data, encoders, losses, methods, training, views
from contrastax.cli import main
from contrastax.core import UserError
from contrastax.terms import Apply
from contrastax.training.description import save_encoder_spec

IMAGES = np.zeros((6, 4, 4, 1), np.uint8)
KEY = jax.random.key(0)
INDEX = np.arange(6)


class Tiny(nnx.Module):
  def __init__(self, width, out, rngs):
    self.layer = nnx.Linear(width, out, rngs=rngs)

  def __call__(self, x):
    return self.layer(x.reshape(len(x), -1))


def message(function, *args, **kwargs):
  with pytest.raises(UserError) as error:
    function(*args, **kwargs)
  text = str(error.value)
  assert "\n" not in text
  return text


def sim_clr(**parts):
  return methods.SimCLR(
    **{
      "encoder": encoders.mlp((8,)),
      "projection": encoders.projection((8,), out=4),
      "views": views.unchanged(),
      **parts,
    }
  )


# Encoders.


def test_from_nnx_takes_no_module():
  text = message(encoders.from_nnx, Tiny(16, 8, nnx.Rngs(0)))
  assert "a function of x and rngs" in text and "lambda x, rngs: Tiny(…)" in text


@pytest.mark.parametrize("build", [Tiny, lambda x: Tiny(16, 8, nnx.Rngs(0))])
def test_from_nnx_takes_no_class_with_other_arguments(build):
  text = message(encoders.from_nnx(build).init, KEY, jnp.zeros((2, 16)))
  assert "calls " in text and "with x and rngs" in text and "from_nnx(lambda x, rngs: " in text
  assert build is not Tiny or "Tiny(…, rngs=rngs))" in text


def test_a_type_error_within_a_module_is_not_renamed():
  def build(x, rngs):
    return len(3)

  with pytest.raises(TypeError, match="has no len"):
    encoders.from_nnx(build).init(KEY, jnp.zeros((2, 16)))


@pytest.mark.parametrize("encoder", [Tiny(16, 8, nnx.Rngs(0)), Tiny])
def test_a_module_in_place_of_an_encoder_names_from_nnx(encoder):
  text = message(sim_clr, encoder=encoder)
  assert "encoders.from_nnx(lambda x, rngs: …)" in text
  assert text.endswith(("not an object of type Tiny", "not the class Tiny"))


# Losses.


def my_pair(z1, z2):
  return ((z1 - z2) ** 2).sum(1)


def test_a_function_as_criterion_names_apply():
  text = message(sim_clr, loss=my_pair)
  assert "criteria.info_nce(), not the function my_pair" in text
  assert 'Apply(loss=my_pair, of=("projection",)) in terms=' in text
  # A function of the library with a criterion of the same name has a shorter fix.
  assert "Apply" not in message(sim_clr, loss=losses.dcl)
  assert "Apply" not in message(sim_clr, loss=criteria.dcl)


@pytest.mark.parametrize("how", ["each", "stacked", "joined"])
def test_a_loss_of_two_views_names_together(how):
  z = jnp.eye(4)
  term = Apply(loss=my_pair, of=("z",), how=how)
  text = message(term, (), (), {"z": {0: z, 1: z}}, KEY)
  assert f"with 1 array (how='{how}')" in text and "'z2'" in text and "how='together'" in text


def test_a_type_error_within_a_loss_is_not_renamed():
  term = Apply(loss=lambda z1, z2: len(3), of=("z",))
  with pytest.raises(TypeError, match="has no len"):
    term((), (), {"z": {0: jnp.eye(4), 1: jnp.eye(4)}}, KEY)


# Views.


@pytest.mark.parametrize("recipe", [lambda x: x, views.flip])
def test_a_recipe_of_other_arguments(recipe):
  text = message(views.draw_views, recipe, KEY, IMAGES, INDEX)
  assert "a recipe takes (key, x, index)" in text and "lambda key, x, index: " in text


def test_a_class_is_no_recipe():
  for recipes in (views.affine_jitter, (views.gray(4), views.affine_jitter)):
    text = message(views.draw_views, recipes, KEY, IMAGES, INDEX)
    assert text == "affine_jitter is a class; give an instance, affine_jitter()"


def test_a_recipe_that_drops_examples():
  text = message(views.draw_views, lambda key, x, index: x[:5], KEY, IMAGES, INDEX)
  assert "an array of shape (5, 4, 4, 1) for 6 examples" in text


def test_a_type_error_within_a_recipe_is_not_renamed():
  with pytest.raises(TypeError, match="has no len"):
    views.draw_views(lambda key, x, index: len(3), KEY, IMAGES, INDEX)


# Data.


@pytest.mark.parametrize(
  "source, words",
  [
    ({"image": IMAGES}, "data.Resident(arrays, batch_size=…), not dict"),
    (
      data.Dataset({"image": IMAGES}, {}),
      "data.Resident(dataset.train, batch_size=…), not Dataset",
    ),
  ],
)
def test_training_takes_no_arrays(source, words, tmp_path):
  text = message(
    training.train, sim_clr(), optax.sgd(0.1), source, steps=1, workdir=tmp_path / "run"
  )
  assert words in text
  assert not (tmp_path / "run").exists()


def test_a_source_takes_no_data_set():
  text = message(data.Resident, data.Dataset({"image": IMAGES}, {}), batch_size=2)
  assert text.endswith("found Dataset: pass its train or test")


def test_a_path_is_not_the_name_of_a_data_set(tmp_path):
  assert message(data.load, "mine.npz").endswith("did you mean 'npz:mine.npz'?")
  assert message(data.load, str(tmp_path)).endswith(f"did you mean {f'folder:{tmp_path}'!r}?")
  assert message(data.load, "json:qa.jsonl").endswith("did you mean 'jsonl:qa.jsonl'?")
  text = message(data.load, tmp_path)
  assert "must be a str, not PosixPath" in text and text.endswith(f"give 'folder:{tmp_path}'")
  assert "must be a str, not NoneType" in message(data.load, None)
  text = message(data.load, f"webdataset:{tmp_path}")
  assert text.endswith(f"give its tar files: webdataset:{tmp_path}/*.tar")


def test_an_npz_file_with_another_name_of_the_images(tmp_path, capsys):
  np.savez(tmp_path / "mine.npz", images=np.zeros((20, 8, 8, 1), np.uint8))
  options = ["--config.batch_size=8", f"--config.data=npz:{tmp_path}/mine.npz", "--dry_run"]
  assert main(["run", "digits_simclr:runlocal", *options]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "no field 'image'; did you mean 'images'?" in error


def test_strings_are_labels_or_texts():
  captions = np.array(["a cat", "a dog"])
  text = message(data.Resident, {"image": IMAGES[:2], "text": captions}, batch_size=2)
  assert "np.unique" in text and "texts as bytes [n, length], uint8" in text


def test_devices_that_do_not_divide_the_batch(tmp_path):
  # The same device twice: the error is raised before anything is placed on the mesh.
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1] * 2), ("data",))
  method, optimizer = sim_clr(), optax.sgd(0.1)
  expected = "batch_size 5 is not divisible by the 2 devices; 4 is"
  source = data.Resident({"image": IMAGES}, batch_size=5)
  assert message(training.init, method, optimizer, source.batch(0), mesh=mesh) == expected
  arguments = {"steps": 1, "workdir": tmp_path, "mesh": mesh}
  assert message(training.train, method, optimizer, source, **arguments) == expected


# Runs.


def code_run(folder, image=IMAGES):
  save_encoder_spec(folder, None, "encoder", image)
  return pathlib.Path(folder)


def test_an_encoder_that_refuses_the_inputs_of_the_run(tmp_path):
  workdir = code_run(tmp_path)
  text = message(contrastax.load, workdir, encoder=encoders.text(8, depth=1, heads=1))
  assert "text takes bytes" in text and "pass the encoder that the run had as 'encoder'" in text
  assert "encoder.json" not in text


def test_an_encoder_of_another_width(tmp_path):
  workdir = code_run(tmp_path)
  params, state = encoders.mlp((4,)).init(KEY, jnp.zeros((1, 4, 4, 1)))
  checkpoints = training.Checkpoints(workdir / "checkpoints")
  checkpoints.save(1, {"params": {"encoder": params}, "state": {"encoder": state}})
  checkpoints.wait()
  checkpoints.close()
  for encoder in (encoders.mlp((5,)), encoders.mlp((4, 4))):
    text = message(contrastax.load, workdir, encoder=encoder)
    assert "that the run had" in text and "use another workdir" not in text
  assert contrastax.load(workdir, encoder=encoders.mlp((4,)))(IMAGES).shape == (6, 4)


def test_every_network_of_a_run_can_be_loaded(tmp_path):
  text, projection = encoders.text(8, depth=1, heads=1), encoders.projection((), out=3)
  captions = np.arange(12, dtype=np.uint8).reshape(2, 6)
  vectors = np.ones((2, 8), np.float32)
  networks = {"other_encoder": (text, captions), "other_projection": (projection, vectors)}
  parts = {name: network.init(KEY, x) for name, (network, x) in networks.items()}
  workdir = code_run(tmp_path)
  checkpoints = training.Checkpoints(workdir / "checkpoints")
  params = {name: params for name, (params, _) in parts.items()}
  checkpoints.save(1, {"params": params, "state": {name: s for name, (_, s) in parts.items()}})
  checkpoints.wait()
  checkpoints.close()
  for name, (network, x) in networks.items():
    loaded = contrastax.load(workdir, network=name, encoder=network, inputs=x[:1])
    expected, _ = network.apply(*parts[name], x, key=None, train=False)
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-5, atol=1e-6)
    for missing in ({"encoder": network}, {"inputs": x}, {}):
      found = message(contrastax.load, workdir, network=name, **missing)
      assert f"load(workdir, network={name!r}, encoder=…, inputs=…)" in found
  found = message(contrastax.load, workdir, network="txt", encoder=text, inputs=captions)
  assert "pass the encoder and the network that the run had" in found


def test_evaluate_needs_a_run_from_a_config(tmp_path, capsys):
  workdir = code_run(tmp_path)
  assert main(["evaluate", f"--workdir={workdir}"]) == 2
  error = capsys.readouterr().err
  assert "is a run that was started from code: it has no config.json" in error
  assert "contrastax.evaluation.probes" in error
