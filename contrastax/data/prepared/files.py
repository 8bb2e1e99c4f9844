"""The files of prepared data sets: where they are, and how they are written and read."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset
from contrastax.data.npz import read_arrays
from contrastax.files import write_bytes


@dataclasses.dataclass(frozen=True)
class Preparation:
  """How a data set is prepared.

  Args:
    fetch: downloads the source files into an empty folder and returns {package or index: version}.
    read: reads the data set from that folder.
    license: the license of the data.
  """

  fetch: Callable[[pathlib.Path], Mapping[str, str]]
  read: Callable[[pathlib.Path], Dataset]
  license: str


def data_folder() -> pathlib.Path:
  """Returns the folder of prepared data sets.

  It is the environment variable CONTRASTAX_DATA_DIR, or ~/.local/share/contrastax without it.
  """
  default = pathlib.Path("~/.local/share/contrastax")
  return pathlib.Path(os.environ.get("CONTRASTAX_DATA_DIR") or default).expanduser()


def path_of(name: str) -> pathlib.Path:
  """Returns the path of the file of a prepared data set."""
  return data_folder() / f"{name}.npz"


def save(path: pathlib.Path, dataset: Dataset, about: Mapping[str, Any]) -> None:
  """Writes a data set atomically.

  Args:
    path: the file. Its arrays are `train/FIELD`, `test/FIELD`, `classes` and `about`.
    dataset: the data set. Its fields are arrays.
    about: the license and the versions of the sources, which become the JSON text `about`.
  """
  parts = {"train": dataset.train, "test": dataset.test}
  arrays = {f"{part}/{name}": rows for part in parts for name, rows in parts[part].items()}
  about_text, classes = np.array(json.dumps(dict(about))), np.array(dataset.classes, np.str_)
  buffer = io.BytesIO()
  np.savez_compressed(buffer, about=about_text, classes=classes, **arrays)
  write_bytes(path, buffer.getvalue())


def loader(name: str) -> Callable[[], Dataset]:
  """Returns a function without arguments that reads a prepared data set, see `load_prepared`."""

  def load() -> Dataset:
    return load_prepared(name)

  return load


def load_prepared(name: str) -> Dataset:
  """Reads a data set that `contrastax prepare NAME` has written.

  Args:
    name: the name of the data set.

  Returns:
    The data set.

  Raises:
    UserError: the data set is not prepared, or its file is damaged.
  """
  path = path_of(name)
  if not path.exists():
    raise UserError(
      f"the data set {name} is not prepared in {path.parent}; run: contrastax prepare {name}"
    )
  try:
    arrays = read_arrays(str(path))
    classes = tuple(arrays["classes"].tolist())
  except (KeyError, UserError):
    raise UserError(f"{path} is damaged; remove it, and run: contrastax prepare {name}") from None
  train, test = (
    {key.removeprefix(part): rows for key, rows in arrays.items() if key.startswith(part)}
    for part in ("train/", "test/")
  )
  return Dataset(train, test, classes)
