"""Data sets in tar files of the WebDataset format."""

from __future__ import annotations

import contextlib
import dataclasses
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
from contrastax.files import cache_folder, read_json, write_text
from contrastax.nouns import nearest

TEXTS = {"txt": "text", "text": "text", "cls": LABEL}
"""The field of each kind of text file."""
INDEX = 2
"""The number of the format of the index of a tar file."""


def read_webdataset(
  pattern: str,
  *,
  columns: tuple[str, ...] | None = None,
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
    columns: the fields that are read, besides the label. None means all.
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
  samples = [sample for path in _expand(pattern) for sample in _indexed(path)]
  if not samples:
    raise UserError(
      f"webdataset:{pattern} has no samples; a sample has an image, .txt, .cls or .json file"
    )
  if columns is not None:
    known = {name for sample in samples for name in sample.names()}
    for name in columns:
      if name not in known:
        raise UserError(f"webdataset:{pattern} has no field {name!r}{nearest(name, known)}")
    samples = [sample.select({*columns, LABEL}) for sample in samples]
  names = samples[0].names()
  for sample in samples:
    if sample.names() != names:
      raise UserError(
        f"{sample.path}/{sample.key} has the fields {sorted(sample.names())}, but "
        f"{samples[0].path}/{samples[0].key} has {sorted(names)}; give every sample the same fields"
      )
  times = {path: os.stat(path).st_mtime_ns for path in {sample.path for sample in samples}}
  members = [(sample.path, *sample.image) for sample in samples if sample.image]
  listed = [File(f"{path}/{name}", length, times[path]) for path, name, _, length in members]

  def content(i: int) -> bytes:
    path, _, offset, length = members[i]
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
  table = {name: [samples[row].fields[name] for row in usable] for name in samples[0].fields}
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
    if os.path.isdir(path):
      raise UserError(f"webdataset:{path} is a folder; give its tar files: webdataset:{path}/*.tar")
    if not pathlib.Path(path).is_file():
      raise UserError(f"there is no file {path}; a relative path starts in the current folder")
  return found


@dataclasses.dataclass(frozen=True)
class _Sample:
  """A sample of a tar file.

  Args:
    path: the tar file.
    key: the common name of the sample's files.
    image: (name, offset, length) of the image in the tar file, or None.
    fields: the values of the other fields.
  """

  path: str
  key: str
  image: tuple[str, int, int] | None
  fields: dict[str, Any]

  def names(self) -> set[str]:
    """Returns the names of the fields."""
    return {*self.fields, *(("image",) if self.image else ())}

  def select(self, names: set[str]) -> _Sample:
    """Returns the sample with these fields only."""
    return dataclasses.replace(
      self,
      image=self.image if "image" in names else None,
      fields={name: value for name, value in self.fields.items() if name in names},
    )


def _indexed(path: str) -> list[_Sample]:
  """Returns the samples of a tar file, which are kept in the user's cache folder."""
  status = os.stat(path)
  key = f"{INDEX} {os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}"
  name = hashlib.sha256(os.fsencode(key)).hexdigest()[:16]
  place = cache_folder() / "contrastax" / "tar_files" / f"{name}.json"
  with contextlib.suppress(OSError, UserError):
    return [_Sample(path, *each) for each in read_json(place, list)]
  samples = _samples(path)
  with contextlib.suppress(OSError):
    place.parent.mkdir(parents=True, exist_ok=True)
    # The path is left out: it may be relative, and the next call may be in another folder.
    rows = [(each.key, each.image, each.fields) for each in samples]
    write_text(place, json.dumps(rows))
  return samples


def _samples(path: str) -> list[_Sample]:
  """Reads the samples of a tar file."""
  images: dict[str, tuple[str, int, int]] = {}
  fields: dict[str, dict[str, Any]] = {}
  try:
    with tarfile.open(path, "r:") as archive:
      for member in archive:
        if not member.isfile() or os.path.basename(member.name).startswith("."):
          continue
        folder, base = os.path.split(member.name)
        stem, _, kind = base.partition(".")
        key, kind = os.path.join(folder, stem), kind.lower()
        if f".{kind}" in SUFFIXES:
          if key in images:
            raise UserError(f"{path}: the sample {key} has two images; give each its own name")
          images[key] = member.name, member.offset_data, member.size
        elif kind in TEXTS or kind == "json":
          file = archive.extractfile(member)
          text = file.read().decode() if file else ""
          new = json.loads(text) if kind == "json" else {TEXTS[kind]: _value(kind, text)}
          if not isinstance(new, dict):
            raise UserError(f"{path}: {member.name} must contain a JSON object")
          fields.setdefault(key, {}).update(new)
        else:
          continue
        fields.setdefault(key, {})
      _check_end(archive)
  except tarfile.ReadError as error:
    raise UserError(
      f"{path} is not an intact tar file without compression ({error}); unpack it by gunzip, or write "
      "it again"
    ) from None
  except OSError as error:
    raise UserError(f"{path} cannot be read: {(error.strerror or '').lower()}") from None
  except RecursionError:
    raise UserError(f"{path}: a JSON file is nested too deeply; leave it out") from None
  except UserError:
    raise
  except ValueError as error:
    raise UserError(f"{path}: a sample cannot be read: {error}") from None
  for key in images:
    fields[key].pop("image", None)  # An image file has priority over an entry of the JSON file.
  return [_Sample(path, key, images.get(key), values) for key, values in fields.items()]


def _check_end(archive: tarfile.TarFile) -> None:
  """Raises ReadError if the last member is followed by anything but zeros.

  `tarfile` takes a damaged header for the end of the file.
  """
  file: Any = archive.fileobj
  file.seek(archive.offset)
  if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
    raise tarfile.ReadError("a header is damaged")


def _value(kind: str, text: str) -> int | str:
  text = text.strip()
  return int(text) if kind == "cls" and re.fullmatch(r"-?\d+", text) else text
