"""Refresh: arrays that follow the encoder, the same after any stop."""

import dataclasses
import json
import shutil

import all_methods
import jax
import numpy as np
import optax
import pytest

from contrastax import data, encoders, evaluation, methods, temperatures, training
from contrastax.core import UserError

DIGITS = {name: values[:128] for name, values in data.load("digits").train.items()}
METHOD = methods.Pairs(
  encoder=encoders.mlp((16,)),
  projection=encoders.projection((16,), 8),
  inputs=("image", "image"),
  negative="hard_image",
  negative_index="hard_index",
  views=all_methods.noise,
  other_views=all_methods.noise,
  temperature=temperatures.fixed(0.2),
)
MINED = training.mined(every=3, k=2, skip=1)
CLUSTERED = training.clustered(every=3, count=3)


def go(workdir, steps, *, refresh=MINED, method=METHOD, every=4):
  return training.train(
    method,
    optax.adam(1e-2),
    data.Resident(DIGITS, batch_size=32),
    steps=steps,
    workdir=workdir,
    refresh=refresh,
    checkpoint_every=every,
  )


@pytest.mark.parametrize("kind", ["mined", "clustered"])
def test_a_run_that_stops_anywhere_ends_where_an_uninterrupted_one_does(kind, tmp_path):
  """Stops inside a segment, at its start and at a checkpoint."""
  how = {"mined": {}, "clustered": {"refresh": CLUSTERED, "method": all_methods.parts()["SimCLR"]}}
  whole = go(tmp_path / "whole", 10, **how[kind])
  for steps in (2, 3, 5, 9, 10):
    parts = go(tmp_path / "parts", steps, **how[kind])
  jax.tree.map(np.testing.assert_array_equal, whole, parts)
  files = {p.name: p.read_bytes() for p in (tmp_path / "whole" / "refresh").glob("*.npz")}
  assert files and files == {
    p.name: p.read_bytes() for p in (tmp_path / "parts" / "refresh").glob("*.npz")
  }


def test_mined_negatives_are_the_nearest_others_of_the_segment_before(tmp_path):
  state = go(tmp_path, 3)
  go(tmp_path, 4)
  kept = np.load(tmp_path / "refresh" / "3.npz")["hard"]
  z = evaluation.embed(
    METHOD.encoder, state.params["encoder"], state.state["encoder"], DIGITS["image"]
  )
  z = z / np.linalg.norm(z, axis=1, keepdims=True)
  similarity = z @ z.T
  np.fill_diagonal(similarity, -np.inf)
  expected = np.sort(similarity, axis=1)[:, ::-1][:, 1:3]  # after the nearest, which is skipped
  found = np.take_along_axis(similarity, kept, axis=1)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_batch_has_the_mined_examples():
  source = data.Resident(DIGITS, batch_size=32)
  arrays = MINED.begun(source)
  batch = MINED.apply(source, arrays).batch(1)
  index = np.asarray(batch["index"])
  np.testing.assert_array_equal(batch["hard_index"], arrays["hard"][index])
  np.testing.assert_array_equal(batch["hard_image"], DIGITS["image"][arrays["hard"][index]])
  assert (np.asarray(batch["hard_index"]) != index[:, None]).all()
  rows = np.sort(arrays["hard"], axis=1)
  assert (rows[:, 1:] != rows[:, :-1]).all()


def test_batches_are_of_one_cluster_each():
  source = data.Resident(DIGITS, batch_size=16)
  cluster = np.random.default_rng(0).integers(0, 3, 128).astype(np.int32)
  clustered = CLUSTERED.apply(source, {"cluster": cluster})
  for step in range(8):
    assert len({*cluster[np.asarray(clustered.batch(step)["index"])]}) == 1


@pytest.mark.parametrize("damage", ["bytes", "checksum", "gone"])
def test_lost_arrays_are_computed_again_from_their_checkpoint(damage, tmp_path, capsys):
  """The run of 5 steps keeps checkpoint 3, at which the segment of steps 3 to 5 begins."""
  whole = go(tmp_path / "whole", 6, every=3)
  go(tmp_path / "parts", 5, every=3)
  path = tmp_path / "parts" / "refresh" / "3.npz"
  if damage == "bytes":
    path.write_bytes(path.read_bytes()[:-1] + b"x")
  elif damage == "checksum":
    path.with_suffix(".json").write_text(json.dumps({"sha256": "0"}))
  else:
    path.unlink()
  parts = go(tmp_path / "parts", 6, every=3)
  jax.tree.map(np.testing.assert_array_equal, whole, parts)
  assert "it is computed again from checkpoint 3" in capsys.readouterr().out


def test_lost_arrays_without_their_checkpoint_are_one_line(tmp_path):
  go(tmp_path, 5, every=100)
  (tmp_path / "refresh" / "3.npz").unlink()
  with pytest.raises(UserError, match="3.npz is missing or damaged, and checkpoint 3, .* is not"):
    go(tmp_path, 6, every=100)


def test_old_segments_are_removed(tmp_path):
  go(tmp_path, 20, every=2)
  kept = sorted(int(p.stem) for p in (tmp_path / "refresh").glob("*.npz"))
  checkpoints = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
  assert checkpoints == [16, 18, 20]
  # The first is of the segment in which the oldest checkpoint lies.
  assert kept[0] <= 16 < kept[0] + 3 + 3 and kept[-1] == 18


def mined_in(*corpus):
  return training.mined(every=1, k=1, corpus=corpus)


@pytest.mark.parametrize(
  ("refresh", "message"),
  [
    (lambda: training.mined(every=0, k=1), "mined: every must be at least 1, not 0"),
    (lambda: training.mined(every=2, k=0), "mined: k must be at least 1, not 0"),
    (lambda: training.clustered(every=2, count=0), "clustered: count must be at least 1"),
    (lambda: training.mined(every=2, k=128), "mined: 128 negatives of 128 examples are too many"),
    (
      lambda: training.mined(every=2, k=1, corpus="image"),
      "corpus must be .network, field., such as",
    ),
    (lambda: mined_in("encodr", "image"), "no network 'encodr'; did you mean 'encoder'"),
    (lambda: mined_in("encoder", "imag"), "no field 'imag'; did you mean 'image'"),
    (lambda: "mined", "refresh must be a Refresh, such as training.mined"),
  ],
)
def test_a_wrong_refresh_is_one_line(refresh, message, tmp_path):
  with pytest.raises(UserError, match=message):
    go(tmp_path, 2, refresh=refresh())


def test_a_refresh_of_ones_own():
  @dataclasses.dataclass(frozen=True)
  class Nothing(training.Refresh):
    every: int = 2

    def begun(self, source):
      return {}

    def arrays(self, method, state, source):
      return {"step": np.asarray(state.step)}

    def apply(self, source, arrays):
      return source

  import tempfile

  with tempfile.TemporaryDirectory() as folder:
    state = go(folder, 5, refresh=Nothing(), method=all_methods.parts()["SimCLR"])
    assert state.step == 5
    kept = np.load(f"{folder}/refresh/4.npz")
    assert kept["step"] == 4


@pytest.mark.parametrize(
  "other",
  [training.mined(every=3, k=2), training.mined(every=4, k=2, skip=1), CLUSTERED, None],
)
def test_a_run_goes_on_with_its_own_refresh_only(other, tmp_path):
  go(tmp_path, 4)
  given = {} if isinstance(other, training.mined) else {"method": all_methods.parts()["SimCLR"]}
  with pytest.raises(UserError):
    go(tmp_path, 8, refresh=other, **given)
  if not given:
    with pytest.raises(UserError, match="their order, or the refresh have changed"):
      go(tmp_path, 8, refresh=other)


def test_arrays_of_a_run_before_are_not_used(tmp_path):
  """The folder of checkpoints was removed, to begin the run again with another method."""
  expected = go(tmp_path / "new", 5)
  go(tmp_path / "old", 5, method=dataclasses.replace(METHOD, temperature=temperatures.fixed(1.0)))
  shutil.rmtree(tmp_path / "old" / "checkpoints")
  jax.tree.map(np.testing.assert_array_equal, expected, go(tmp_path / "old", 5))


def test_a_refresh_keeps_other_related_examples_and_refuses_another_order():
  source = data.Resident(DIGITS, batch_size=32, related={"own": np.arange(128)})
  batch = MINED.apply(source, MINED.begun(source)).batch(0)
  np.testing.assert_array_equal(batch["own_index"], batch["index"])
  assert "hard_index" in batch
  source = data.Resident(DIGITS, order=data.in_order(128, 32))
  with pytest.raises(UserError, match="replace those of the order in_order; leave the order out"):
    CLUSTERED.begun(source)


@pytest.mark.parametrize(
  ("refresh", "message"),
  [
    (training.clustered(every=2, count=129), "129 clusters of 128 examples are too many"),
    (training.mined(every=2, k=1, corpus=("encoder", "imge")), "no field 'imge'; did you mean"),
    (training.mined(every=2, k=1, corpus=("encodr", "image")), "no network 'encodr'; did you mean"),
    (training.mined(every=2, k=1, prefix="file"), "prefix must not be 'file'"),
  ],
)
def test_a_refresh_that_does_not_fit_is_one_line(refresh, message, tmp_path):
  with pytest.raises(UserError, match=message):
    go(tmp_path, 3, refresh=refresh)


@pytest.mark.parametrize(
  ("made", "message"),
  [
    ([1], "arrays by name, not list"),
    ({"x": np.array([None])}, "must contain numbers, not objects"),
  ],
)
def test_wrong_arrays_of_a_refresh_of_ones_own_are_one_line(made, message, tmp_path):
  @dataclasses.dataclass(frozen=True)
  class Wrong(training.Refresh):
    every: int = 2

    def begun(self, source):
      return {}

    def arrays(self, method, state, source):
      return made

    def apply(self, source, arrays):
      return source

  with pytest.raises(UserError, match=message):
    go(tmp_path, 3, refresh=Wrong(), method=all_methods.parts()["SimCLR"])
