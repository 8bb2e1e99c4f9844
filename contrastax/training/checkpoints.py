"""Checkpoints by Orbax: asynchronous, atomic, and checked before they are believed.

Orbax renames a finished checkpoint into place, so a killed save leaves no half
checkpoint under its name; but it does not notice when array data change on disk later. So
just before that rename the files' sha256 sums are written among them (`checksums.json`),
and only a checkpoint whose files still have these sums is loaded.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import shutil

import jax

from contrastax.core import UserError, named_leaves
from contrastax.files import read_json, remove, set_aside, write_json

SUMS = "checksums.json"
TIMES = "_CHECKPOINT_METADATA"  # Orbax writes the time of commit into it after our sums
STEP = re.compile(r"0|[1-9][0-9]{0,18}")  # the name of a checkpoint's folder
UNFINISHED = ".orbax-checkpoint-tmp"
EMPTY = "empty"  # stands for the shape of a container without arrays


class Checkpoints:
  """The checkpoints `directory/<step>/` of one run; the newest `keep` of them stay.

  `say` takes a line when a checkpoint is found incomplete or damaged.
  """

  def __init__(self, directory: str | os.PathLike, *, keep: int = 3, say=print):
    import orbax.checkpoint as ocp  # slow to import: where it is used

    self._directory = pathlib.Path(directory).resolve()
    self._keep, self._say = keep, say
    self._writing: int | None = None
    options = ocp.AsyncOptions(post_finalization_callback=self._seal)
    self._orbax = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler(), async_options=options)

  def steps(self) -> list[int]:
    """Steps that have a folder, newest first, whatever its condition."""
    if not self._directory.is_dir():
      return []
    names = (p.name for p in self._directory.iterdir() if STEP.fullmatch(p.name) and p.is_dir())
    return sorted(map(int, names), reverse=True)

  def save(self, step: int, tree) -> None:
    """Starts saving, after the save before it has ended; raises what that one met."""
    import orbax.checkpoint as ocp

    path = self._directory / str(step)
    for foreign in (self._directory, path):
      if foreign.exists() and not foreign.is_dir():
        raise UserError(f"{foreign} is a file where a folder of checkpoints belongs; move it away")
    with _disk_errors(self._directory):
      self._orbax.wait_until_finished()
      self._check_room(tree)
      self._writing = step
      self._orbax.save(path, args=ocp.args.PyTreeSave(tree))

  def _check_room(self, tree):
    """A disk that fills while Orbax writes is found as well, but less quietly."""
    self._directory.mkdir(parents=True, exist_ok=True)
    need = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    free = shutil.disk_usage(self._directory).free
    if free < 1.05 * need + 100_000:
      raise OSError(errno.ENOSPC, f"{free:,} bytes free, {need:,} needed")

  def wait(self) -> None:
    """Returns when what was saved is safe; raises what the save met."""
    with _disk_errors(self._directory):
      self._orbax.wait_until_finished()

  def newest_intact(self, *, tidy: bool = False) -> int | None:
    """The newest step whose files are all as they were written; None if there is no step.

    Newer ones that are damaged or unfinished are said. With `tidy`, for the run that
    owns the folder, damaged ones are set aside as `<step>.damaged` and unfinished ones
    removed. Raises UserError if there are checkpoints and none is intact.
    """
    if tidy:
      for unfinished in self._directory.glob(f"*{UNFINISHED}*"):
        step = re.match(r"\d*", unfinished.name).group()
        self._say(f"checkpoint {step} is incomplete: the run was stopped while writing it; removed")
        remove(unfinished)
    found, damaged = self.steps(), []
    for step in found:
      fault = _fault(self._directory / str(step))
      if fault is None:
        break
      self._say(f"checkpoint {step} is not used: {fault}")
      damaged.append(step)
    if len(damaged) < len(found):
      for step in damaged if tidy else ():
        set_aside(self._directory / str(step))
      return found[len(damaged)]
    if found:
      raise UserError(
        f"none of the checkpoints in {self._directory} is intact; "
        "to start the run again from its beginning, remove that folder"
      )
    return None

  def restore(self, step: int, like, *, partial: bool = False):
    """The tree saved at `step`, with the shapes, types and shardings of `like`.

    With `partial`, `like` may be a part of what was saved.

    Raises:
      UserError: the saved tree has another structure, as that of another version of contrastax or of
        another method, or arrays of other shapes, as those of other settings.
    """
    import orbax.checkpoint as ocp

    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    # Asked before: Orbax finds it in the midst of reading, and prints its threads' tracebacks.
    saved = _shapes(self._orbax.metadata(self._directory / str(step)).item_metadata.tree)
    wanted = _shapes(like)
    if partial:
      wanted = {name: shape for name, shape in wanted.items() if shape != EMPTY}
      saved = {name: saved[name] for name in wanted if name in saved}
    where = f"checkpoint {step} in {self._directory}"
    foreign = (
      f"{where} was written by another version of contrastax or for another method: {{}}; begin the "
      "run anew in another workdir"
    )
    for name in {**saved, **wanted}:
      there, here = saved.get(name, "nothing"), wanted.get(name, "nothing")
      if there == here:
        continue
      fault = f"{name} is {there} there and {here} here"
      if isinstance(there, str) or isinstance(here, str):
        raise UserError(foreign.format(fault))
      raise UserError(
        f"{where} is of another method or of other settings: {fault}; give another workdir"
      )
    restore_args = ocp.checkpoint_utils.construct_restore_args(like)
    args = ocp.args.PyTreeRestore(item=like, restore_args=restore_args, partial_restore=partial)
    try:
      return self._orbax.restore(self._directory / str(step), args=args)
    except (TypeError, ValueError) as error:
      if "structure" not in str(error):
        raise
      # A tuple there and a dict of the same names here, or the reverse.
      raise UserError(foreign.format("its containers are of other types")) from error

  def close(self) -> None:
    self._orbax.close()

  def _seal(self):
    """Called in the saving thread, when a checkpoint is complete but for its final name."""
    (path,) = self._directory.glob(f"{self._writing}{UNFINISHED}*")
    sums = {str(p.relative_to(path)): p.name != TIMES and _sum(p) for p in _files(path)}
    write_json(path / SUMS, sums)
    for step in self.steps()[self._keep - 1 :]:
      shutil.rmtree(self._directory / str(step))


def _shapes(tree):
  """{path: shape} of the arrays and empty containers of a tree, alike before and after saving."""
  found = named_leaves(tree, is_leaf=_empty)
  return {name: EMPTY if _empty(leaf) else tuple(leaf.shape) for name, leaf in found}


def _empty(node):
  return node is None or (isinstance(node, tuple | list | dict) and not node)


def _files(path):
  return sorted(p for p in path.rglob("*") if p.is_file() and p.name != SUMS)


def _sum(path):
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _fault(path):
  """What is wrong with a checkpoint's files, or None."""
  try:
    sums = read_json(path / SUMS, dict)
  except FileNotFoundError:
    return "incomplete, it has no checksums"
  except UserError:
    return "its list of checksums is damaged"
  if not sums:
    return "its list of checksums is damaged"
  found = {str(p.relative_to(path)): p for p in _files(path)}
  for name, expected in sums.items():
    if name not in found:
      return f"incomplete, {name} is missing"
    if name == TIMES:
      continue
    try:
      if _sum(found[name]) != expected:
        return f"the checksum of {name} is wrong"
    except OSError as error:
      return f"{name} cannot be read: {error.strerror}"
  return None


@contextlib.contextmanager
def _disk_errors(directory):
  """A full disk as one line; libraries below report it in several ways."""
  try:
    yield
  except Exception as error:
    full = getattr(error, "errno", None) == errno.ENOSPC
    if not full and not any(said in str(error) for said in ("No space left", "RESOURCE_EXHAUSTED")):
      raise
    raise UserError(
      f"the disk is full: a checkpoint could not be saved in {directory}; "
      "free some space and run the same command again, the checkpoints before it stand"
    ) from error
