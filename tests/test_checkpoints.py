"""Checkpoints are believed only while their files are what was written."""

import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax.core import UserError
from contrastax.training import Checkpoints


def tree(step):
  return {"params": {"w": jnp.arange(5000.0) + step}, "step": jnp.int32(step), "empty": ()}


@pytest.fixture
def said():
  return []


@pytest.fixture
def folder(tmp_path, said):
  """Checkpoints 1, 2 and 3."""
  checkpoints = Checkpoints(tmp_path, say=said.append)
  for step in (1, 2, 3):
    checkpoints.save(step, tree(step))
  checkpoints.wait()
  checkpoints.close()
  return tmp_path


def largest(path):
  return max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def resumed(folder, said):
  """The step that a run would go on from, its arrays checked."""
  checkpoints = Checkpoints(folder, say=said.append)
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


def test_a_damaged_step_can_be_saved_again(folder, said):
  largest(folder / "3").unlink()
  resumed(folder, said)
  checkpoints = Checkpoints(folder, say=said.append)
  checkpoints.save(3, tree(3))
  checkpoints.wait()
  assert checkpoints.newest_intact() == 3


def test_nothing_intact_is_an_error_and_nothing_is_lost(folder, said):
  for step in (1, 2, 3):
    largest(folder / str(step)).write_bytes(b"")
  with pytest.raises(UserError, match="none of the checkpoints in .* is intact"):
    Checkpoints(folder, say=said.append).newest_intact(tidy=True)
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
  "another shape": ({"w": jnp.zeros(4000)}, r"params/w is \(5000,\) there and \(4000,\) here"),
  "another name": ({"v": jnp.zeros(5000)}, r"params/w is \(5000,\) there and nothing here"),
  "one more": (
    {"w": jnp.zeros(5000), "v": jnp.zeros(2)}, r"params/v is nothing there and \(2,\) here"
  ),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_what_another_method_saved_is_refused_in_one_line(folder, other):
  params, message = OTHERS[other]
  checkpoints = Checkpoints(folder)
  with pytest.raises(UserError, match=message):
    checkpoints.restore(3, {**tree(0), "params": params})
  checkpoints.close()
