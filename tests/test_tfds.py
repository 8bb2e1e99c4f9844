"""TFDS, read without TensorFlow. All in processes of their own: TFDS registers what it sees."""

import io
import json

import numpy as np
import pytest
from processes import printed


def rows(images):
  return {image.tobytes() for image in images}


def load_each(names, data_dir):
  """For each name the data set or the error's text, and whether TensorFlow was imported."""
  return printed(
    """
    import json, sys
    import numpy as np
    from contrastax.core import UserError
    from contrastax.data import load

    found = {}
    for name in sys.argv[1:]:
      try:
        train, test, classes = load(name)
        splits = {"train": train, "test": test}
        found[name] = {
          "classes": classes,
          "types": {s: {k: str(v.dtype) for k, v in a.items()} for s, a in splits.items()},
          "arrays": {
            s: {k: np.asarray(v).tolist() for k, v in a.items()} for s, a in splits.items()
          },
        }
      except UserError as error:
        found[name] = str(error)
    print(json.dumps({"found": found, "tensorflow": "tensorflow" in sys.modules}))
    """,
    *names,
    TFDS_DATA_DIR=str(data_dir),
  )


def tfds_images(split):
  seed = {"train": 1, "test": 2}[split]
  rng = np.random.default_rng(seed)
  return {
    "gray": rng.integers(0, 256, (7, 6, 5, 1), np.uint8),
    "color": rng.integers(0, 256, (4, 3, 5, 3), np.uint8),
  }


def png(image):
  from PIL import Image

  out = io.BytesIO()
  Image.fromarray(image.squeeze()).save(out, "PNG")
  return out.getvalue()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """Small sets prepared by TFDS in a folder, then read from it."""
  data_dir = tmp_path_factory.mktemp("tfds")
  examples = {
    name: {
      split: [(png(image).hex(), i % 3) for i, image in enumerate(tfds_images(split)[name])]
      for split in ("train", "test")
    }
    for name in ("gray", "color")
  }
  examples["no_test"] = {"train": examples["gray"]["train"]}
  shapes = {"gray": [6, 5, 1], "color": [3, 5, 3], "no_test": [6, 5, 1]}
  shapes["sizes"], examples["sizes"] = [None, None, 1], examples["gray"]
  (data_dir / "examples.json").write_text(json.dumps([examples, shapes]))
  printed(
    """
    import json, pathlib, sys
    import tensorflow_datasets as tfds

    examples, shapes = json.loads(pathlib.Path(sys.argv[1], "examples.json").read_text())
    for set_name, splits in examples.items():

      class Builder(tfds.core.GeneratorBasedBuilder):
        name = set_name
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
          image = tfds.features.Image(shape=shapes[self.name], encoding_format="png")
          label = tfds.features.ClassLabel(names=["ant", "bee", "cat"])
          features = tfds.features.FeaturesDict({"image": image, "label": label})
          return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
          return {s: self._generate_examples(e) for s, e in splits.items()}

        def _generate_examples(self, examples):
          for i, (image, label) in enumerate(examples):
            yield i, {"image": bytes.fromhex(image), "label": label}

      Builder(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
    print(json.dumps("tensorflow" in sys.modules))
    """,
    data_dir,
  )
  records = data_dir / "tfrecords" / "1.0.0"
  records.mkdir(parents=True)
  for file in (data_dir / "gray" / "1.0.0").iterdir():
    (records / file.name.replace("gray", "tfrecords")).write_bytes(file.read_bytes())
  info = json.loads((records / "dataset_info.json").read_text())
  info = {**info, "name": "tfrecords", "fileFormat": "tfrecord"}
  (records / "dataset_info.json").write_text(json.dumps(info))
  names = ["gray", "color", "no_test", "sizes", "tfrecords"]
  return load_each([f"tfds:{name}" for name in names], data_dir)


@pytest.mark.parametrize("name", ["gray", "color"])
def test_tfds_is_read_to_the_pixel_without_tensorflow(prepared, name):
  found = prepared["found"][f"tfds:{name}"]
  assert found["classes"] == ["ant", "bee", "cat"]
  for split in ("train", "test"):
    assert found["types"][split] == {"image": "uint8", "label": "int32"}
    images = np.array(found["arrays"][split]["image"], np.uint8)
    expected = tfds_images(split)[name]
    assert images.shape == expected.shape
    assert rows(images) == rows(expected)  # TFDS shuffles what it prepares
    places = [(expected == image).all((1, 2, 3)).argmax() for image in images]
    assert found["arrays"][split]["label"] == [place % 3 for place in places]
  assert prepared["tensorflow"] is False


def test_tfds_names_what_a_set_lacks(prepared):
  assert prepared["found"]["tfds:no_test"] == (
    "tfds:no_test must have the features image and label, and the splits train and test"
  )
  assert prepared["found"]["tfds:sizes"] == (
    "tfds:sizes: images must be uint8 and of one size, not Image(shape=(None, None, 1), dtype=uint8); "
    "set the option size to convert images to one size"
  )
  assert prepared["found"]["tfds:tfrecords"] == (
    "tfds:tfrecords is prepared as tfrecord, "
    "which needs TensorFlow; prepare it with --file_format=array_record"
  )


@pytest.fixture(scope="module")
def unprepared(tmp_path_factory):
  names = ["fashion_mnist", "cifar10", "mnist", "fashion_mnits", "qqqqqqqq"]
  return load_each([f"tfds:{name}" for name in names], tmp_path_factory.mktemp("empty"))


def test_tfds_answers_an_unknown_name_with_the_nearest(unprepared):
  assert unprepared["found"]["tfds:fashion_mnits"] == (
    "TFDS has no data set 'fashion_mnits'; did you mean 'fashion_mnist'?"
  )
  assert unprepared["found"]["tfds:qqqqqqqq"] == (
    "TFDS has no data set 'qqqqqqqq'; `tfds.list_builders()` lists the data sets of TFDS"
  )


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_tfds_says_how_to_prepare_the_sets_of_the_benchmarks(unprepared, name):
  text = unprepared["found"][f"tfds:{name}"]
  assert text.startswith(f"the data set tfds:{name} is not prepared in ")
  assert text.endswith(f"run: contrastax prepare {name}")


def test_tfds_says_how_to_prepare_any_other_set(unprepared):
  text = unprepared["found"]["tfds:mnist"]
  assert text.startswith("the data set tfds:mnist is not prepared in ")
  assert text.endswith("run: tfds build mnist --file_format=array_record (this needs TensorFlow)")
  assert unprepared["tensorflow"] is False
