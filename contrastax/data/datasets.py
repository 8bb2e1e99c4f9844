"""Data sets by name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from typing import Any

from contrastax.core import UserError
from contrastax.data.dataset import Dataset, with_test
from contrastax.data.docstrings import load_docstrings
from contrastax.data.folder import read_folder
from contrastax.data.glyphs import load_glyphs
from contrastax.data.hugging_face import read_hugging_face
from contrastax.data.npz import read_npz
from contrastax.data.prepared import PREPARED, loader
from contrastax.data.shards import read_shards
from contrastax.data.small import digits, read_made, with_words
from contrastax.data.table import read_table
from contrastax.data.tfds import read_tfds
from contrastax.data.webdataset import read_webdataset
from contrastax.parts import complete_options

READERS: Mapping[str, tuple[str, Callable[..., Dataset]]] = {
  "folder": ("PATH", read_folder),
  "csv": ("PATH", read_table),
  "jsonl": ("PATH", read_table),
  "parquet": ("PATH", read_table),
  "npz": ("PATH", read_npz),
  "arrayrecord": ("PATH", read_shards),
  "webdataset": ("PATTERN", read_webdataset),
  "hf": ("PATH", read_hugging_face),
  "tfds": ("NAME", read_tfds),
  "made": ("HxWxC", read_made),
}
"""{kind: (the place, function that reads the data set KIND:PLACE)}."""
NAMED: Mapping[str, Callable[..., Dataset]] = {
  "digits": digits,
  "glyphs": load_glyphs,
  "docstrings": load_docstrings,
  **{name: loader(name) for name in PREPARED},
}
"""{name: function that returns the data set}."""
KINDS = (*READERS, "words")
"""The kinds of data sets that have a name of the form `KIND:PLACE`."""
SUFFIXES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", ".npz": "npz"}


def load(name: str, **options: Any) -> Dataset:
  """Opens a data set. Images in files are decoded when they are needed; see `data.Column`.

  Args:
    name: a name of one of these forms.
      `digits`: the 1,797 handwritten digits of scikit-learn, 8×8 pixels, gray. A fixed set of 500
      images are the test images.
      `glyphs`: images of characters in six fonts of matplotlib, with their Unicode names; see
      `data.glyphs.load_glyphs`.
      `docstrings`: the functions and classes of Python's standard library with their docstrings; see
      `data.docstrings.load_docstrings`.
      `debian_packages`, `emoji`, `tuxpaint`, `wordnet`: a data set that `contrastax prepare NAME`
      has written; see `data.prepared`.
      `folder:PATH`: the JPEG, PNG, WebP, GIF, BMP and TIFF files of a folder, of any size. The
      subfolders are the classes, which are used for evaluation only; images beside the subfolders
      have no label. If the subfolders are `train` and `test` (or `val`), these are the splits; of
      `train`, `val` and `test`, the images in `val` are left out. Hidden files are ignored.
      `csv:PATH`, `jsonl:PATH`, `parquet:PATH`: a table. Each column is a field. A column whose
      values end with the suffix of an image file contains paths of images, relative to the table.
      Other texts become bytes [n, length] uint8, in UTF-8 and followed by zeros. A field of jsonl
      and parquet may also have lists of equal length. The column `label` contains classes, of which
      an empty value means no label. The column `split` contains `train` and `test`.
      `npz:PATH`: a NumPy file. Each of its arrays is a field, with one row per example. `image` is
      [n, h, w] or [n, h, w, c]. `label` [n] contains classes: integers, booleans or texts. The
      integer −1 means no label. A field of texts [n] becomes bytes. The arrays `test_image`,
      `test_label` and so on contain the test examples.
      `arrayrecord:PATH`: a folder that `contrastax prepare` has written.
      `webdataset:PATTERN`: tar files of the WebDataset format, such as `shards/{000..012}.tar`.
      Of each sample, an image file is the field `image`, `txt` is `text`, `cls` is `label`, and the
      entries of `json` are further fields.
      `hf:PATH`: the folder of a data set of Hugging Face, with parquet files or written by
      `save_to_disk`.
      `tfds:NAME`: a prepared data set of TensorFlow Datasets that has the splits `train` and
      `test`. TensorFlow is not needed to read it.
      `made:HxWxC`: 240 generated images of that shape, to try a config. They contain noise and
      have four classes; the images of each class are brighter in one quadrant.
      `words:NAME`: the data set NAME with the additional field `text`, [n, length] uint8: the name
      of each example's class in UTF-8, followed by zeros.
      A fixed fifth of the examples are the test examples if the data set has none.
    **options: options of the kind. Data sets with images in files have `size` (64), the side of the
      decoded images in pixels, or (height, width); `channels` (3), or 1 for gray; `broken`
      ("skip"), or "fail" for an error if a file cannot be decoded; and `verify` (True), whether
      every file is decoded once to find damaged ones. Data sets with texts in files have
      `text_bytes` (512), the largest number of bytes of a text. Tables have `columns`, the columns
      that are used (None means all), and `label`, the name of the column of classes.

  Returns:
    The data set.

  Raises:
    UserError: there is no such data set or option, or its files are missing, damaged or unsuitable.

  Example:
    >>> from contrastax import data
    >>> dataset = data.load("made:8x8x1")
    >>> dataset.train["image"].shape, dataset.test["image"].shape
    ((200, 8, 8, 1), (40, 8, 8, 1))
  """
  return with_test(read(name, **options), name.partition(":")[2] or name)


def read(name: str, **options: Any) -> Dataset:
  """Opens a data set without holding out test examples, so all examples keep their order.

  Args:
    name: see `load`.
    **options: see `load`.

  Returns:
    The data set. `test` is {} if the data set itself has no test examples.

  Raises:
    UserError: see `load`.
  """
  complete(name, options, name)
  kind, _, place = name.partition(":")
  if kind == "words":
    return with_words(read(place, **options))
  return NAMED[name](**options) if name in NAMED else READERS[kind][1](place, **options)


def complete(name: str, options: Mapping[str, Any], where: str) -> dict[str, Any]:
  """Returns the options of a data set with their defaults. It checks them and opens nothing.

  Args:
    name: the name of the data set.
    options: options by name.
    where: the path of the data set in the config, for messages.

  Raises:
    UserError: there is no such data set, or an option is unknown or has a wrong type.
  """
  if not isinstance(name, str):
    kind = type(name).__name__
    fix = f"; give {_of_path(name) or f'folder:{name}'!r}" if isinstance(name, os.PathLike) else ""
    raise UserError(f"the name of a data set must be a str, not {kind}{fix}")
  kind, _, place = name.partition(":")
  if kind == "words" and place:
    return complete(place, options, where)
  if name not in NAMED and not (kind in READERS and place):
    forms = ", ".join([*NAMED, *(f"{kind}:{place}" for kind, (place, _) in READERS.items())])
    fix = _fix(name) or f"; there are: {forms}, words:NAME"
    raise UserError(f"no data set {name!r}{fix}")
  return complete_options(NAMED[name] if name in NAMED else READERS[kind][1], options, where)


def _fix(name: str) -> str:
  """Returns the end of a message for a similar name, or for the path of a file or of a folder."""
  close = difflib.get_close_matches(name, NAMED, 1)
  if close:
    return f"; did you mean {close[0]!r}?"
  suggested = _of_path(name)
  return f"; did you mean {suggested!r}?" if suggested else ""


def _of_path(path: str | os.PathLike[str]) -> str:
  """Returns the name of the data set in a file or a folder, or "" if the path is of neither.

  A kind that does not exist, such as "json:", is removed from the start.
  """
  place = os.fspath(path)
  if ":" in place and not os.path.exists(place):
    place = place.partition(":")[2]
  suffix = os.path.splitext(place)[1].lower()
  if suffix in SUFFIXES:
    return f"{SUFFIXES[suffix]}:{place}"
  return f"folder:{place}" if place and os.path.isdir(place) else ""
