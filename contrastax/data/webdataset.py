"""Data sets in tar files of the WebDataset format."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import json
import os
import pathlib
import re
import tarfile
from typing import Any, Literal

from contrastax.core import UserError
from contrastax.data.dataset import Dataset
from contrastax.data.decode import SUFFIXES
from contrastax.data.encoded import image_column, image_shape
from contrastax.data.folder import report_faults
from contrastax.data.index import File, index_files
from contrastax.data.values import LABEL, dataset_of
from contrastax.files import cache_folder, read_json, write_json

TEXTS = {"txt": "text", "text": "text", "cls": LABEL}
"""The field of each kind of text file."""


def read_webdataset(
  pattern: str,
  *,
  size: int | tuple[int, int] = 64,
  channels: Literal[1, 3] = 3,
  broken: Literal["skip", "fail"] = "skip",
  verify: bool = True,
  text_bytes: int = 512,
) -> Dataset:
  """Reads tar files, as `data.load` describes it.

  Args:
    pattern: the path of a tar file, or of several by `*` or by braces, such as
      `shards/{000..012}.tar`.
    size: the side of the decoded images in pixels, or (height, width).
    channels: 3 for color, or 1 for gray.
    broken: "skip" lists images that cannot be decoded and leaves their samples out; "fail" raises
      an error.
    verify: see `index_folder`.
    text_bytes: the largest number of bytes of a text in UTF-8. Longer texts are cut.

  Returns:
    The data set, without test examples.

  Raises:
    UserError: there is no such file, a file is damaged, or the samples have different fields.
  """
  shape = image_shape(size, channels)
  samples: list[dict[str, Any]] = []
  for path in _expand(pattern):
    samples += _indexed(path)
  if not samples:
    raise UserError(f"webdataset:{pattern} has no samples; a sample is a set of files of one name")
  names = samples[0].keys()
  for sample in samples:
    if sample.keys() != names:
      raise UserError(
        f"{sample['key']} has the fields {sorted(sample)[1:]}, but {samples[0]['key']} has "
        f"{sorted(names)[1:]}; give every sample the same fields"
      )
  members = [sample["image"] for sample in samples] if "image" in names else []
  listed = [File(f"{path}/{name}", length, time) for path, name, _, length, time in members]

  def content(i: int) -> bytes:
    path, _, offset, length, _ = members[i]
    with open(path, "rb") as file:
      return os.pread(file.fileno(), length, offset)

  files = index_files(listed, content, os.path.abspath(pattern), verify=verify) if listed else ()
  report_faults(pattern, [(file.name, file.fault) for file in files if file.fault], broken)
  usable = [row for row in range(len(samples)) if not (files and files[row].fault)]
  if not usable:
    raise UserError(f"webdataset:{pattern} has no image that can be decoded")
  images = {}
  if files:
    images["image"] = image_column(
      lambda row: content(usable[row]), [files[row] for row in usable], shape
    )
  table = {
    name: [samples[row][name] for row in usable] for name in names if name not in ("key", "image")
  }
  return dataset_of(f"webdataset:{pattern}", table, images, text_bytes)


def _expand(pattern: str) -> list[str]:
  """Returns the paths that a pattern describes, in order."""
  pieces = re.split(r"\{(\d+)\.\.(\d+)\}", os.path.expanduser(pattern))
  choices: list[list[str]] = [[piece] for piece in pieces]
  for i in range(1, len(pieces), 3):
    first, last = pieces[i], pieces[i + 1]
    choices[i] = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    choices[i + 1] = [""]
  paths = ["".join(parts) for parts in itertools.product(*choices)]
  found = [path for each in paths for path in (sorted(glob.glob(each)) or [each])]
  for path in found:
    if not pathlib.Path(path).is_file():
      raise UserError(f"there is no file {path}; a relative path starts in the current folder")
  return found


def _indexed(path: str) -> list[dict[str, Any]]:
  """Returns the samples of a tar file, which are kept in the user's cache folder."""
  status = os.stat(path)
  key = f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}"
  name = hashlib.sha256(os.fsencode(key)).hexdigest()[:16]
  place = cache_folder() / "contrastax" / "tar_files" / f"{name}.json"
  with contextlib.suppress(OSError, UserError):
    return read_json(place, list)
  samples = _samples(path)
  with contextlib.suppress(OSError):
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, samples)
  return samples


def _samples(path: str) -> list[dict[str, Any]]:
  """Returns the samples of a tar file: their key and the values of their fields.

  The value of `image` is (path of the tar file, name, offset, length, time).
  """
  samples: dict[str, dict[str, Any]] = {}
  time = os.stat(path).st_mtime_ns
  try:
    with tarfile.open(path, "r:") as archive:
      for member in archive:
        if not member.isfile() or os.path.basename(member.name).startswith("."):
          continue
        folder, base = os.path.split(member.name)
        stem, _, kind = base.partition(".")
        key = os.path.join(folder, stem)
        sample = samples.setdefault(key, {"key": f"{path}/{key}"})
        if f".{kind.lower()}" in SUFFIXES:
          sample["image"] = path, member.name, member.offset_data, member.size, time
        elif kind in TEXTS or kind == "json":
          file = archive.extractfile(member)
          text = file.read().decode() if file else ""
          sample |= json.loads(text) if kind == "json" else {TEXTS[kind]: _value(kind, text)}
  except tarfile.ReadError as error:
    raise UserError(
      f"{path} is not an intact tar file without compression ({error}); unpack it by gunzip, or write "
      "it again"
    ) from None
  except (UnicodeDecodeError, ValueError, TypeError) as error:
    raise UserError(f"{path}: a sample cannot be read: {error}") from None
  return list(samples.values())


def _value(kind: str, text: str) -> int | str:
  text = text.strip()
  return int(text) if kind == "cls" and re.fullmatch(r"-?\d+", text) else text
