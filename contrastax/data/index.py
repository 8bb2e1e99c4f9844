"""The index of a folder: its image files with their sizes, checksums and faults."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from contrastax.core import UserError
from contrastax.data.decode import RULE, SUFFIXES, NotDecoded, decode, open_image
from contrastax.files import cache_folder, write_bytes

ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}
"""The bytes near the end of a complete file, by format. A file without them is decoded."""
TAIL = 1024
THREADS = 2 * (os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class File:
  """One file of a folder.

  Args:
    name: its path, relative to the folder.
    size: its size in bytes.
    time: the time of its last change, in nanoseconds.
    code: a 64-bit checksum of its content.
    fault: the reason why the image cannot be used, or "".
    decoded: whether the file was decoded to find faults.
  """

  name: str
  size: int
  time: int
  code: int = 0
  fault: str = ""
  decoded: bool = False


def index_folder(folder: str | os.PathLike, *, verify: bool = True) -> tuple[File, ...]:
  """Lists the image files of a folder and of its subfolders, and finds faults.

  The result is kept in the user's cache folder. A later call reads only files that are new or have
  changed in size or time.

  Args:
    folder: the folder. Links to folders are followed; a folder that occurs twice is listed once.
      Files and folders whose names begin with a dot are ignored.
    verify: whether every file is decoded once. False decodes only files that seem to be truncated,
      so that damage within a file is found when the file is used.

  Returns:
    The files in the order of their names.

  Raises:
    UserError: the folder does not exist or cannot be read.
  """
  root = pathlib.Path(folder).expanduser().absolute()
  try:
    listed = sorted(_walk(root), key=lambda file: file.name)
  except FileNotFoundError:
    raise UserError(
      f"there is no folder {folder}; a relative path starts in the current folder"
    ) from None
  except NotADirectoryError:
    raise UserError(f"{folder} is a file; give a folder of images") from None
  except OSError as error:
    raise UserError(f"the folder {folder} cannot be read: {error.strerror}") from None
  return index_files(
    listed, lambda i: (root / listed[i].name).read_bytes(), str(root), verify=verify
  )


def index_files(
  listed: Sequence[File], content: Callable[[int], bytes], owner: str, *, verify: bool = True
) -> tuple[File, ...]:
  """Finds the checksums and faults of encoded images, as `index_folder` does.

  Args:
    listed: the images with their names, sizes and times.
    content: function from the position of an image in `listed` to its bytes.
    owner: the path of the folder or file that contains the images. It determines the place of the
      index.
    verify: see `index_folder`.

  Returns:
    The images in the given order.
  """
  place = _place(owner)
  known = {file.name: file for file in _read(place)}

  def is_current(file: File) -> bool:
    old = known.get(file.name)
    if old is None or (old.size, old.time) != (file.size, file.time):
      return False
    return old.decoded or bool(old.fault) or not verify

  new = [i for i, file in enumerate(listed) if not is_current(file)]

  def examine(i: int) -> File:
    return _examined(listed[i], lambda: content(i), verify)

  with ThreadPoolExecutor(THREADS) as threads:
    results = tqdm(
      threads.map(examine, new),
      f"reading {owner}",
      len(new),
      unit=" images",
      delay=1,
      leave=False,
      dynamic_ncols=True,
    )
    examined = {file.name: file for file in results}
  files = tuple(examined.get(file.name) or known[file.name] for file in listed)
  if examined or len(files) != len(known):
    _write(place, files)
  return files


def listed_file(name: str, status: os.stat_result) -> File:
  """Returns the entry of a file before it is read. A pipe or a device is never read."""
  fault = "" if stat.S_ISREG(status.st_mode) else "it is not a regular file"
  return File(name, status.st_size, status.st_mtime_ns, fault=fault)


def checksum(content: bytes) -> int:
  """Returns a 64-bit checksum."""
  return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _walk(root: pathlib.Path) -> Iterator[File]:
  """Yields the image files below a folder, without their content."""
  seen: set[tuple[int, int]] = set()
  folders = [""]
  while folders:
    inner = folders.pop()
    try:
      entries = sorted(os.scandir(root / inner), key=lambda entry: entry.name)
      status = os.stat(root / inner)
    except OSError as error:
      if not inner:
        raise
      yield File(inner, 0, 0, fault=f"the folder cannot be read: {error.strerror}")
      continue
    if (status.st_dev, status.st_ino) in seen:
      continue
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
      name = os.path.join(inner, entry.name)
      if entry.name.startswith("."):
        continue
      try:
        if entry.is_dir():
          folders.append(name)
        elif entry.name.lower().endswith(SUFFIXES):
          yield listed_file(name, entry.stat())
      except OSError as error:  # A link to nothing, or a loop of links.
        yield File(name, 0, 0, fault=(error.strerror or "it cannot be read").lower())


def _examined(file: File, content: Callable[[], bytes], verify: bool) -> File:
  """Returns the entry of a file with its checksum and its fault."""
  if file.fault:
    return file
  try:
    data = content()
  except (OSError, ValueError) as error:  # ValueError: the path has a character without a code.
    fault = error.strerror if isinstance(error, OSError) else "the path is not valid"
    return dataclasses.replace(file, fault=(fault or "it cannot be read").lower())
  file = dataclasses.replace(file, code=checksum(data))
  try:
    image = open_image(data)
    ending = ENDS.get(image.format or "")
    decoded = verify or ending is None or ending not in data[-TAIL:]
    if decoded:
      decode(data, (32, 32, 3))
  except NotDecoded as error:
    return dataclasses.replace(file, fault=str(error), decoded=True)
  return dataclasses.replace(file, decoded=decoded)


def faults_file(place: str) -> pathlib.Path:
  """Returns the path of the list of the files of a data set that were left out.

  Args:
    place: the path of the data set, such as its folder.
  """
  return _place(str(pathlib.Path(place).expanduser().absolute()), "faults.txt")


def faults(place: str) -> list[str]:
  """Returns the files that were left out when a data set was last read, each with the reason.

  Args:
    place: the path of the data set, such as its folder.

  Returns:
    Lines such as "a/empty.png: the file is empty"; [] if no list was written.
  """
  try:
    return faults_file(place).read_text("utf-8").splitlines()
  except (OSError, ValueError):
    return []


def write_faults(place: str, lines: Sequence[str]) -> pathlib.Path | None:
  """Writes the list of the files that were left out. Without lines, an earlier list is removed.

  Args:
    place: the path of the data set, such as its folder.
    lines: the files with the reasons.

  Returns:
    The path of the list; None if there are no lines, or if the list cannot be written.
  """
  path = faults_file(place)
  try:
    if not lines:
      path.unlink(missing_ok=True)
      return None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
  except OSError:
    return None
  return path


def _place(owner: str, ending: str = f"{RULE}.npz") -> pathlib.Path:
  name = hashlib.sha256(os.fsencode(owner)).hexdigest()[:16]
  return cache_folder() / "contrastax" / "folders" / f"{name}_{ending}"


def _read(place: pathlib.Path) -> list[File]:
  """Returns the files of an index; [] if there is none or it is damaged."""
  try:
    with np.load(io.BytesIO(place.read_bytes()), allow_pickle=False) as content:
      names, faults = (
        content[name].tobytes().decode("utf-8", "surrogatepass").split("\0")
        for name in ("names", "faults")
      )
      sizes, times, codes, decoded = (
        content[name].tolist() for name in ("size", "time", "code", "decoded")
      )
    return [
      File(*values) for values in zip(names, sizes, times, codes, faults, decoded, strict=True)
    ]
  except Exception:  # Any error means that the folder is read again.
    return []


def _write(place: pathlib.Path, files: tuple[File, ...]) -> None:
  """Writes an index. Without a folder that can be written, the next call reads all files again."""

  def joined(texts: Iterable[str]) -> np.ndarray:
    # A NUL within a text would divide it.
    texts = [text.replace("\0", "\ufffd") for text in texts]
    return np.frombuffer("\0".join(texts).encode("utf-8", "surrogatepass"), np.uint8)

  buffer = io.BytesIO()
  np.savez(
    buffer,
    names=joined(file.name for file in files),
    faults=joined(file.fault for file in files),
    size=np.array([file.size for file in files], np.int64),
    time=np.array([file.time for file in files], np.int64),
    code=np.array([file.code for file in files], np.uint64),
    decoded=np.array([file.decoded for file in files], bool),
  )
  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(place, buffer.getvalue())
  except OSError:
    return
