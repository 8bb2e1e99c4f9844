"""Checkpoints are believed only while their files are what was written."""

import json
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import contrastax
from contrastax import data, encoders, methods, training, views
from contrastax.core import UserError
from contrastax.training import Checkpoints
from contrastax.training.checkpoints import SUMS, TIMES
from contrastax.training.description import save_encoder_spec


def tree(step):
  return {"params": {"w": jnp.arange(5000.0) + step}, "step": jnp.int32(step), "empty": ()}


@pytest.fixture
def said():
  return []


@pytest.fixture
def folder(tmp_path, said):
  """Checkpoints 1, 2 and 3."""
  checkpoints = Checkpoints(tmp_path, print_line=said.append)
  for step in (1, 2, 3):
    checkpoints.save(step, tree(step))
  checkpoints.wait()
  checkpoints.close()
  return tmp_path


def largest(path):
  return max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def resumed(folder, said):
  """The step that a run would go on from, its arrays checked."""
  checkpoints = Checkpoints(folder, print_line=said.append)
  step = checkpoints.newest_intact(tidy=True)
  found = checkpoints.restore(step, tree(0))
  np.testing.assert_array_equal(found["params"]["w"], tree(step)["params"]["w"])
  assert found["step"].dtype == jnp.int32 and int(found["step"]) == step
  checkpoints.close()
  return step


def test_intact(folder, said):
  assert resumed(folder, said) == 3
  assert said == []


@pytest.mark.parametrize("place", range(20))
def test_a_flipped_bit(folder, said, place):
  rng = random.Random(place)
  file = largest(folder / "3")
  content = bytearray(file.read_bytes())
  content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  file.write_bytes(content)
  assert resumed(folder, said) == 2
  assert len(said) == 1 and "checkpoint 3" in said[0] and "checksum" in said[0]
  assert (folder / "3.damaged").is_dir() and not (folder / "3").exists()


def test_truncated(folder, said):
  file = largest(folder / "3")
  file.write_bytes(file.read_bytes()[:100])
  assert resumed(folder, said) == 2
  assert "checksum" in said[0]


def test_a_missing_file(folder, said):
  largest(folder / "3").unlink()
  assert resumed(folder, said) == 2
  assert "incomplete" in said[0]


def test_half_written(folder, said):
  """What a kill leaves: the folder under its unfinished name, without sums."""
  (folder / "3" / "checksums.json").unlink()
  (folder / "3").rename(folder / "3.orbax-checkpoint-tmp")
  assert resumed(folder, said) == 2
  assert "incomplete" in said[0]


def test_damaged_sums(folder, said):
  (folder / "3" / "checksums.json").write_text("{")
  assert resumed(folder, said) == 2
  assert "checksum" in said[0]


SUMS_OF_NONE = {
  "array": b"[]",
  "empty": b"",
  "no sums": b"{}",
  "not UTF-8": b'{"\xff": "0"}',
  "numbers": b'{"manifest.ocdbt": 3}',
  "a foreign path": b'{"../2/manifest.ocdbt": "0"}',
}


@pytest.mark.parametrize("sums", SUMS_OF_NONE)
def test_sums_that_are_none(folder, said, sums):
  (folder / "3" / "checksums.json").write_bytes(SUMS_OF_NONE[sums])
  assert resumed(folder, said) == 2
  assert len(said) == 1 and "checkpoint 3 is not used" in said[0]


def replaced(path):
  """Puts a folder where a file was."""
  path.unlink()
  path.mkdir()


DAMAGES = {
  "empty": lambda path: path.write_bytes(b""),
  "text": lambda path: path.write_bytes(b"[]\xff"),
  "missing": lambda path: path.unlink(),
  "folder": replaced,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_of_a_checkpoint_is_checked(folder, tmp_path_factory, damage):
  """But for what Orbax writes after the sums, the times: it does no harm if damaged."""
  names = [p.relative_to(folder / "3") for p in (folder / "3").rglob("*") if p.is_file()]
  sums = json.loads((folder / "3" / SUMS).read_text()).keys() | {SUMS}
  unchecked = {TIMES, "commit_success.txt"}  # written by Orbax after the sums
  assert len(names) > 5
  for name in names:
    copy, said = tmp_path_factory.mktemp("copy"), []
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    DAMAGES[damage](copy / "3" / name)
    harmless = name.name in unchecked if damage in ("empty", "text") else str(name) not in sums
    assert resumed(copy, said) == (3 if harmless else 2), name
    assert len(said) == (0 if harmless else 1)


FOREIGN = {
  "a file of a step's name": lambda folder: (folder / "999").write_text(""),
  "a digit that is no decimal": lambda folder: (folder / "²").mkdir(),
  "other digits": lambda folder: (folder / "٣٣").mkdir(),
  "zeros before": lambda folder: (folder / "0007").mkdir(),
  "a file of an unfinished name": lambda folder: (folder / "4.orbax-checkpoint-tmp").write_text(""),
  "a file of a damaged name": lambda folder: (folder / "3.damaged").write_text(""),
  "a long number": lambda folder: (folder / ("9" * 200)).mkdir(),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_name_does_no_harm(folder, said, name):
  FOREIGN[name](folder)
  assert resumed(folder, said) == 3
  (folder / "3" / "checksums.json").unlink()
  assert resumed(folder, said) == 2
  assert (folder / "3.damaged").is_dir()


def test_a_file_in_the_place_of_a_checkpoint_is_one_line(folder):
  (folder / "4").write_text("")
  for place, step in ((folder, 4), (folder / "4", 0)):
    checkpoints = Checkpoints(place)
    with pytest.raises(UserError, match="4 is a file, but must be a folder of checkpoints"):
      checkpoints.save(step, tree(step))
    checkpoints.close()


def test_a_damaged_step_can_be_saved_again(folder, said):
  largest(folder / "3").unlink()
  resumed(folder, said)
  checkpoints = Checkpoints(folder, print_line=said.append)
  checkpoints.save(3, tree(3))
  checkpoints.wait()
  assert checkpoints.newest_intact() == 3


def test_nothing_intact_is_an_error_and_nothing_is_lost(folder, said):
  for step in (1, 2, 3):
    largest(folder / str(step)).write_bytes(b"")
  with pytest.raises(UserError, match="none of the checkpoints in .* is intact"):
    Checkpoints(folder, print_line=said.append).newest_intact(tidy=True)
  assert sorted(p.name for p in folder.iterdir()) == ["1", "2", "3"]


def test_the_newest_three_stay(folder):
  checkpoints = Checkpoints(folder)
  checkpoints.save(4, tree(4))
  checkpoints.wait()
  assert checkpoints.steps() == [4, 3, 2]


def test_a_part_can_be_restored(folder):
  checkpoints = Checkpoints(folder)
  found = checkpoints.restore(3, {"params": {"w": jnp.zeros(5000)}}, partial=True)
  np.testing.assert_array_equal(found["params"]["w"], tree(3)["params"]["w"])
  assert list(found) == ["params"]


def test_saving_does_not_see_later_changes(tmp_path):
  """The saved arrays may be donated as soon as `save` returns."""
  checkpoints = Checkpoints(tmp_path)
  double = jax.jit(lambda t: jax.tree.map(lambda v: 2 * v, t), donate_argnums=0)
  state = tree(1)
  checkpoints.save(1, state)
  state = double(state)
  checkpoints.wait()
  np.testing.assert_array_equal(
    checkpoints.restore(1, tree(0))["params"]["w"], tree(1)["params"]["w"]
  )
  shutil.rmtree(tmp_path / "1")
  assert checkpoints.newest_intact() is None


OTHERS = {
  "another shape": ({"w": jnp.zeros(4000)}, r"params/w is \(5000,\) in the checkpoint, but \(4000,\) in this run"),
  "another name": ({"v": jnp.zeros(5000)}, r"params/w is \(5000,\) in the checkpoint, but nothing in this run"),
  "one more": (
    {"w": jnp.zeros(5000), "v": jnp.zeros(2)}, r"params/v is nothing in the checkpoint, but \(2,\) in this run"
  ),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_what_another_method_saved_is_refused_in_one_line(folder, other):
  params, message = OTHERS[other]
  checkpoints = Checkpoints(folder)
  with pytest.raises(UserError, match=message):
    checkpoints.restore(3, {**tree(0), "params": params})
  checkpoints.close()


FOREIGN_TREES = {
  "a renamed entry": {"weights": {"w": jnp.zeros(5000)}, "step": jnp.int32(0), "empty": ()},
  "an array in a tree": {**tree(0), "params": {"w": {"kernel": jnp.zeros(5000)}}},
  "a tree that was an array": {**tree(0), "params": jnp.zeros(5000)},
  "an empty entry more": {**tree(0), "more": ()},
  "an empty entry less": {key: value for key, value in tree(0).items() if key != "empty"},
  "an array in an empty entry": {**tree(0), "empty": jnp.zeros(2)},
}


@pytest.mark.parametrize("other", FOREIGN_TREES)
def test_a_checkpoint_of_another_structure_is_refused_in_one_line(folder, other):
  checkpoints = Checkpoints(folder)
  with pytest.raises(UserError) as error:
    checkpoints.restore(3, FOREIGN_TREES[other])
  assert str(error.value).startswith(
    f"checkpoint 3 in {folder} was written by another version of contrastax or for another method: "
  )
  assert str(error.value).endswith("in this run; start the run again in another workdir")
  assert "\n" not in str(error.value)
  checkpoints.close()


def test_a_dict_in_place_of_a_tuple_is_another_structure(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, {"layers": (jnp.zeros(2), jnp.zeros(2))})
  checkpoints.wait()
  for partial in (False, True):
    with pytest.raises(UserError, match="another version of contrastax .* start the run again"):
      checkpoints.restore(1, {"layers": {"0": jnp.zeros(2), "1": jnp.zeros(2)}}, partial=partial)
  checkpoints.close()


def test_a_run_and_load_refuse_a_checkpoint_of_another_version(tmp_path):
  """One whose parameters lie elsewhere, though all its files are intact."""
  images = np.zeros((8, 4, 4, 1), np.uint8)
  source = data.Resident({"image": images}, batch_size=4)
  method = methods.SimCLR(
    encoder=encoders.mlp((8,)),
    projection=encoders.projection((8,), out=4),
    views=views.affine_jitter(),
  )
  state = training.init(method, optax.sgd(0.1), source.batch(0))
  old = {**state._asdict(), "data": np.uint32(source.fingerprint)}
  old["params"] = {f"old_{name}": values for name, values in state.params.items()}
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  checkpoints.save(2, old)
  checkpoints.wait()
  checkpoints.close()
  spec = {"name": "mlp", "widths": [8]}
  save_encoder_spec(tmp_path, spec, "encoder", images)
  words = (
    r"checkpoint 2 in .* was written by another version of contrastax .* start the run again in"
  )
  with pytest.raises(UserError, match=words):
    training.train(method, optax.sgd(0.1), source, steps=4, workdir=tmp_path)
  with pytest.raises(UserError, match=words):
    contrastax.load(tmp_path)
  assert not (tmp_path / "metrics.jsonl").exists()
