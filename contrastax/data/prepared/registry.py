"""The data sets that `contrastax prepare NAME` makes from packages of Debian."""

from __future__ import annotations

import pathlib
import tempfile

from contrastax.core import UserError
from contrastax.data.prepared.debian_packages import DEBIAN_PACKAGES
from contrastax.data.prepared.emoji import EMOJI
from contrastax.data.prepared.files import Preparation, path_of, save
from contrastax.data.prepared.tuxpaint import TUXPAINT
from contrastax.data.prepared.wordnet import WORDNET

PREPARED: dict[str, Preparation] = {
  "debian_packages": DEBIAN_PACKAGES,
  "emoji": EMOJI,
  "tuxpaint": TUXPAINT,
  "wordnet": WORDNET,
}


def prepare(name: str) -> None:
  """Downloads and writes a data set, unless it is already written.

  Args:
    name: a name in `PREPARED`.

  Raises:
    UserError: a program is missing, the download fails, or the packages have other files.
    OSError: the folder cannot be written.
  """
  path = path_of(name)
  if path.exists():
    print(f"{name} exists: {path}")
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  tempfile.TemporaryFile(dir=path.parent).close()  # It fails before the download, not after it.
  preparation = PREPARED[name]
  print(f"{name}: downloading", flush=True)
  with tempfile.TemporaryDirectory() as folder:
    versions = preparation.fetch(pathlib.Path(folder))
    sources = ", ".join(f"{source} {version}" for source, version in versions.items())
    print(f"{name}: reading {sources}", flush=True)
    try:
      dataset = preparation.read(pathlib.Path(folder))
    except OSError as error:  # A release may have the files in other places.
      fault = " ".join(str(error).split())
      raise UserError(
        f"{name} cannot be read from {sources}: {fault}; prepare it on Debian 12"
      ) from None
  save(path, dataset, {"name": name, "license": preparation.license, "versions": versions})
  train, test = (len(part["label"]) for part in dataset[:2])
  print(
    f"{name} is prepared in {path}: {train:,} training and {test:,} test examples, "
    f"{len(dataset.classes)} classes; license of the data: {preparation.license}"
  )
