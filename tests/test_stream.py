"""A stream has the batches of a resident source, and reads them when they are needed."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time

import chex
import jax
import numpy as np
import pytest
from images_on_disk import content, picture, two_classes
from processes import printed

from contrastax import data
from contrastax.core import UserError
from contrastax.data.columns import Column, Kept, keep
from contrastax.data.shards import read_shards, write_shards


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
  return data.load(f"folder:{two_classes(tmp_path / 'photos', 30)}", size=8)


def same(batch, other):
  batch, other = (jax.tree.map(np.asarray, each) for each in (batch, other))
  chex.assert_trees_all_equal(batch, other)
  chex.assert_trees_all_equal_dtypes(batch, other)


ORDERS = {
  "shuffled": lambda labels: data.shuffled(len(labels), 7, 3),
  "balanced": lambda labels: data.balanced(labels, classes=2, per_class=3),
  "windows": lambda labels: data.windows(np.zeros(len(labels), int), 3, 4),
}


@pytest.mark.parametrize("order", ORDERS)
def test_twenty_batches_are_those_of_the_resident_source(photos, order):
  train = {**photos.train, "tree": {"x": np.arange(len(photos.train["label"]), dtype=np.int64)}}
  order = ORDERS[order](photos.train["label"])
  places = np.arange(order.size)
  related = {"hard": np.where(places % 5 == 0, -1, places[::-1])[:, None]}
  resident = data.Resident(train, order=order, related=related)
  stream = data.Stream(train, order=order, related=related)
  assert stream.fingerprint == resident.fingerprint
  for step in range(20):
    same(stream.batch(step), resident.batch(step))


def test_a_batch_depends_on_the_step_only(photos):
  stream = data.Stream(photos.train, batch_size=6, seed=1)
  resident = data.Resident(photos.train, batch_size=6, seed=1)
  for step in (11, 12, 13, 3, 3, 0, 1, 14, 10**9):
    same(stream.batch(step), resident.batch(step))
  with pytest.raises(UserError, match="must be an integer of 0 or more"):
    stream.batch(-1)


def test_other_related_examples_are_read_from_the_next_batch_on(photos):
  size = len(photos.train["label"])
  stream = data.Stream(photos.train, order=data.in_order(size, 4))
  stream.batch(0), stream.batch(1)
  places = np.arange(size)[::-1]
  other = stream.replace(related={"pair": places})
  batch = other.batch(2)
  np.testing.assert_array_equal(batch["pair_index"], places[batch["index"]])
  assert "pair_index" not in stream.batch(2)


def test_a_replaced_order_holds_from_the_next_batch_on(photos):
  """Neither source takes the batches that the other has read ahead."""
  sources = [kind(photos.train, batch_size=4) for kind in (data.Stream, data.Resident)]
  for source in sources:
    source.batch(0), source.batch(1)
  others = [source.replace(order=data.in_order(source.size, 4)) for source in sources]
  for stream, resident in (others, sources, [source.replace() for source in sources], sources):
    for step in (2, 3, 4):
      same(stream.batch(step), resident.batch(step))


def test_the_threads_of_dropped_streams_end():
  """The threads of a stream end when it is deleted, or when its batches are not successive."""
  arrays = {"x": np.arange(40)}
  data.Stream(arrays, batch_size=4).batch(0)
  before = threading.active_count()
  jumping = data.Stream(arrays, batch_size=4)
  for i in range(10):
    data.Stream(arrays, batch_size=4).batch(0)
    jumping.batch(10 * i), jumping.batch(10 * i + 1)
  del jumping
  for _ in range(100):
    if threading.active_count() <= before:
      break
    time.sleep(0.05)
  assert threading.active_count() <= before


def test_the_exit_and_the_garbage_collector_close_a_stream_silently():
  """The collector may run in a thread of the stream, which cannot wait for itself."""
  script = """
    import numpy as np
    from contrastax import data

    class Holder:
      pass

    for _ in range(100):
      holder = Holder()
      holder.source, holder.itself = data.Stream({"x": np.zeros((40, 3))}, batch_size=4), holder
      for step in range(20):
        holder.source.batch(step)
  """
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(script)],
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stderr) == (0, "")


def test_after_an_error_the_batches_are_those_of_their_steps(photos):
  class Failing(Kept):
    fail = False

    def read(self, rows):
      if self.fail:
        raise UserError("the image 'x' cannot be decoded")
      return super().read(rows)

  reader = Failing(np.arange(40))
  stream = data.Stream({"x": Column(reader, np.arange(40))}, batch_size=4)
  resident = data.Resident({"x": np.arange(40)}, batch_size=4)
  stream.batch(0)
  reader.fail = True
  with pytest.raises(UserError, match="cannot be decoded"):
    for step in range(1, 30):
      stream.batch(step)
  reader.fail = False
  for later in range(step + 1, step + 9):
    same(stream.batch(later), resident.batch(later))


def test_columns_in_memory_are_the_same(photos):
  kept = keep(photos)
  for part, in_memory in zip(photos[:2], kept[:2], strict=True):
    assert part["image"].checksum == in_memory["image"].checksum
    np.testing.assert_array_equal(part["image"], in_memory["image"])
    assert list(part["image"].names) == list(in_memory["image"].names)
  assert isinstance(kept.train["image"].reader, Kept)


def test_a_column_selects_without_reading():
  class Counted(Kept):
    count = 0

    def read(self, rows):
      Counted.count += len(rows)
      return super().read(rows)

  column = Column(Counted(np.arange(40).reshape(20, 2)), np.arange(20))
  part = column[np.arange(20) % 2 == 0][2:5]
  assert Counted.count == 0 and part.shape == (3, 2) and part.ndim == 2
  np.testing.assert_array_equal(part, [[8, 9], [12, 13], [16, 17]])
  np.testing.assert_array_equal(part[-1], [16, 17])
  assert Counted.count == 4


# Shards.


def test_shards_hold_the_same_examples(photos, tmp_path):
  arrays = {"tokens": np.arange(40, dtype=np.int16).reshape(-1, 2), "price": np.arange(20.0)}
  dataset = data.Dataset(arrays, {name: x[:3] for name, x in arrays.items()}, ("a", "b"))
  for number, each in enumerate((photos, dataset)):
    write_shards(each, tmp_path / f"shards{number}")
    again = read_shards(str(tmp_path / f"shards{number}"))
    assert again.classes == each.classes
    for part, other in zip(each[:2], again[:2], strict=True):
      same(part, other)
    assert isinstance(again.train["image" if number == 0 else "tokens"], Column)


def test_a_stream_from_shards_is_that_of_the_files(photos, tmp_path):
  write_shards(photos, tmp_path / "shards")
  shards = data.load(f"arrayrecord:{tmp_path / 'shards'}")
  one, other = (data.Stream(each.train, batch_size=6) for each in (photos, shards))
  for step in range(9):
    same(one.batch(step), other.batch(step))


def test_shards_are_divided_into_files(photos, tmp_path, monkeypatch):
  monkeypatch.setattr("contrastax.data.shards.SHARD", 8 * 8 * 3 * 5)
  monkeypatch.setattr("contrastax.data.shards.BLOCK", 5)
  write_shards(photos, tmp_path / "shards")
  assert len(list((tmp_path / "shards").glob("train-image-*.arrayrecord"))) == 5
  same(read_shards(str(tmp_path / "shards")).train, photos.train)


def test_an_unfinished_or_damaged_folder_of_shards_is_one_line(photos, tmp_path):
  folder = tmp_path / "shards"
  write_shards(photos, folder)
  with pytest.raises(UserError, match="already contains a data set"):
    write_shards(photos, folder)
  file = folder / "train-image-00000.arrayrecord"
  intact = file.read_bytes()
  file.write_bytes(intact[:100] + bytes(200) + intact[300:])
  with pytest.raises(UserError, match=r"is damaged \(.*\); write it again"):
    np.asarray(read_shards(str(folder)).train["image"])
  file.unlink()
  with pytest.raises(UserError, match="is missing"):
    read_shards(str(folder))
  (folder / "dataset.json").unlink()  # as after a kill
  with pytest.raises(UserError, match="has no dataset.json"):
    read_shards(str(folder))
  write_shards(photos, folder)
  same(read_shards(str(folder)).train, photos.train)
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "thesis.tex").write_text("")
  with pytest.raises(UserError, match=r"contains 'thesis.tex'; give an empty folder"):
    write_shards(photos, tmp_path / "mine")


@pytest.mark.parametrize(
  "entry, value, words",
  [
    ("shape", [-1, 8, 3], "the shape"),
    ("shape", [8.0, 8, 3], "the shape"),
    ("shape", [10**9, 10**9, 3], "cannot reshape"),
    ("dtype", "O", "OBJECT"),
    ("files", ["../photos/x.arrayrecord"], "is not in the folder"),
    ("files", [], "is damaged"),
    ("shards", {}, "no training examples"),
  ],
)
def test_false_entries_of_dataset_json_are_one_line(photos, tmp_path, entry, value, words):
  folder = tmp_path / "shards"
  write_shards(photos, folder)
  info = json.loads((folder / "dataset.json").read_text())
  if entry == "files":
    info["shards"]["train"]["image"] = value
  elif entry == "shards":
    info["shards"] = value
  else:
    info["fields"]["image"][entry] = value
  (folder / "dataset.json").write_text(json.dumps(info))
  with pytest.raises(UserError, match=words) as error:
    read_shards(str(folder))
  assert "\n" not in str(error.value)


def test_fields_of_any_name_are_written_or_refused(tmp_path):
  image = np.zeros((5, 2, 2, 3), np.uint8)
  fields = {name: np.arange(5) for name in ("file", "allow_pickle", "codes of image", "a/b")}
  dataset = data.Dataset({"image": image, **fields}, {})
  write_shards(dataset, tmp_path / "shards")
  same(read_shards(str(tmp_path / "shards")).train, dataset.train)
  for name in ("a/b", "../x", "a\0b", "\ud800"):
    with pytest.raises(UserError, match="cannot be a part of the name of a file"):
      write_shards(data.Dataset({name: image}, {}), tmp_path / "other")


def test_files_of_the_user_are_never_removed(photos, tmp_path):
  for name in ("data.npz", "train.npz", "x.arrayrecord"):
    (tmp_path / name[0]).mkdir()
    (tmp_path / name[0] / name).write_text("mine")
    with pytest.raises(UserError, match=f"contains {name!r}; give an empty folder"):
      write_shards(photos, tmp_path / name[0])
    assert (tmp_path / name[0] / name).read_text() == "mine"


def test_a_run_resumes_bit_for_bit_within_an_epoch_and_from_the_other_source(tmp_path):
  """Three runs of one config: uninterrupted and resident, stopped and streamed, and mixed."""
  two_classes(tmp_path / "photos", 40)
  found = printed(
    """
    import json, sys
    import jax, numpy as np, optax
    from contrastax import data, encoders, methods, training, views

    root, folder = sys.argv[1:]
    arrays = data.load(f"folder:{root}", size=8).train
    method = methods.SimCLR(
      encoder=encoders.mlp((8,)), projection=encoders.projection((8,), out=4),
      views=views.affine_jitter(),
    )

    def train(name, kind, steps):
      source = kind(arrays, batch_size=8)
      return training.train(
        method, optax.sgd(0.1), source, steps=steps, workdir=f"{folder}/{name}", checkpoint_every=3
      )

    train("whole", data.Resident, 10)
    for name, kinds in (("stream", (data.Stream, data.Stream)), ("mixed", (data.Stream, data.Resident))):
      train(name, kinds[0], 6)
      train(name, kinds[1], 10)
    leaves = {
      name: [np.asarray(x).tolist() for x in jax.tree.leaves(train(name, data.Stream, 10).params)]
      for name in ("whole", "stream", "mixed")
    }
    print(json.dumps(leaves["whole"] == leaves["stream"] == leaves["mixed"]))
    """,
    tmp_path / "photos",
    tmp_path,
    XDG_CACHE_HOME=str(tmp_path / "cache"),
  )
  assert found is True


def test_the_memory_of_a_stream_is_that_of_a_few_batches(tmp_path):
  """A data set of 192 MB, once decoded, is read with a growth of less than 64 MB."""
  files = tmp_path / "photos"
  files.mkdir()
  for i in range(1000):
    (files / f"{i}.png").write_bytes(content(picture(i % 7, 8 + i % 40, 8), "PNG"))
  grown = printed(
    """
    import json, resource, sys
    from contrastax import data

    arrays = data.load(f"folder:{sys.argv[1]}", size=256).train
    assert arrays["image"].nbytes > 150e6
    source = data.Stream(arrays, batch_size=8)
    for step in range(4):
      source.batch(step)["image"].block_until_ready()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for step in range(4, 100):
      source.batch(step)["image"].block_until_ready()
    print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))
    """,
    files,
    XDG_CACHE_HOME=str(tmp_path / "cache"),
  )
  assert grown < 64
