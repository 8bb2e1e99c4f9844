"""Checkpoints of a run, saved by Orbax.

Orbax renames a finished checkpoint to its final name, so an interrupted save leaves no incomplete
checkpoint under that name. It does not detect files that are damaged later. So the SHA-256 checksums
of the files are written to `checksums.json` just before the renaming, and only a checkpoint whose
files match them is restored.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax

from contrastax.core import UserError, named_leaves
from contrastax.files import read_json, remove, set_aside, write_json

SUMS = "checksums.json"
TIMES = "_CHECKPOINT_METADATA"  # Orbax adds the commit time to it after the checksums are written.
STEP = re.compile(r"0|[1-9][0-9]{0,18}")  # the name of a checkpoint's folder
UNFINISHED = ".orbax-checkpoint-tmp"
EMPTY = "empty"  # replaces the shape of a container without arrays


class Checkpoints:
  """The checkpoints of one run, `directory/<step>/`.

  Args:
    directory: the folder of the checkpoints, which the first save creates.
    keep: the number of newest checkpoints that are kept.
    print_line: function that prints a line about an incomplete or damaged checkpoint.

  Example:
    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> from contrastax import training
    >>> folder = tempfile.TemporaryDirectory()
    >>> checkpoints = training.Checkpoints(folder.name)
    >>> checkpoints.save(7, {"w": jnp.ones(2)})
    >>> checkpoints.wait()
    >>> checkpoints.newest_intact()
    7
    >>> print(checkpoints.restore(7, {"w": jnp.zeros(2)})["w"])
    [1. 1.]
    >>> checkpoints.close()
    >>> folder.cleanup()
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    *,
    keep: int = 3,
    print_line: Callable[[str], object] = print,
  ):
    import orbax.checkpoint as ocp  # It is slow to import.

    self._directory = pathlib.Path(directory).resolve()
    self._keep, self._print_line = keep, print_line
    self._saving: int | None = None
    options = ocp.AsyncOptions(post_finalization_callback=self._finalize)
    self._orbax = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler(), async_options=options)

  def steps(self) -> list[int]:
    """Returns the steps that have a checkpoint, intact or not, newest first."""
    if not self._directory.is_dir():
      return []
    names = (p.name for p in self._directory.iterdir() if STEP.fullmatch(p.name) and p.is_dir())
    return sorted(map(int, names), reverse=True)

  def save(self, step: int, tree: Any) -> None:
    """Starts to save a checkpoint in the background, after the previous save has ended.

    Args:
      step: the number of the step.
      tree: tree of arrays, which may be donated as soon as this method returns.

    Raises:
      UserError: the disk is full, or a file has the name of the checkpoint's folder.
      Exception: any error of the previous save.
    """
    import orbax.checkpoint as ocp

    path = self._directory / str(step)
    for folder in (self._directory, path):
      if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, but must be a folder of checkpoints; move it")
    with _disk_errors(self._directory):
      self._orbax.wait_until_finished()
      self._check_free_space(tree)
      self._saving = step
      self._orbax.save(path, args=ocp.args.PyTreeSave(tree))

  def _check_free_space(self, tree: Any) -> None:
    """Raises OSError if the disk is too full. Orbax would print tracebacks instead."""
    self._directory.mkdir(parents=True, exist_ok=True)
    need = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    free = shutil.disk_usage(self._directory).free
    if free < 1.05 * need + 100_000:
      raise OSError(errno.ENOSPC, f"{free:,} bytes free, {need:,} needed")

  def wait(self) -> None:
    """Waits until the last save has ended.

    Raises:
      UserError: the disk is full.
      Exception: any other error of the save.
    """
    with _disk_errors(self._directory):
      self._orbax.wait_until_finished()

  def newest_intact(self, *, tidy: bool = False) -> int | None:
    """Returns the newest step whose checkpoint is intact, or None if there are no checkpoints.

    Newer checkpoints that are damaged or incomplete are reported.

    Args:
      tidy: whether damaged checkpoints are renamed to `<step>.damaged` and incomplete ones removed.
        Only the run that owns the folder should do this.

    Returns:
      The step.

    Raises:
      UserError: there are checkpoints, but none is intact.
    """
    if tidy:
      for unfinished in self._directory.glob(f"*{UNFINISHED}*"):
        step = unfinished.name.partition(UNFINISHED)[0]
        self._print_line(
          f"checkpoint {step} is incomplete: the run ended while saving it; it is removed"
        )
        remove(unfinished)
    steps, damaged = self.steps(), []
    for step in steps:
      fault = _fault(self._directory / str(step))
      if fault is None:
        break
      self._print_line(f"checkpoint {step} is not used: {fault}")
      damaged.append(step)
    if len(damaged) < len(steps):
      for step in damaged if tidy else ():
        set_aside(self._directory / str(step))
      return steps[len(damaged)]
    if steps:
      raise UserError(
        f"none of the checkpoints in {self._directory} is intact; "
        "to start the run again from its beginning, remove that folder"
      )
    return None

  def restore(self, step: int, like: Any, *, partial: bool = False) -> Any:
    """Restores a checkpoint.

    Args:
      step: the number of the step.
      like: tree of arrays or `jax.ShapeDtypeStruct`, with the shapes, types and shardings of the
        result.
      partial: whether `like` may be a part of the saved tree, such as one encoder.

    Returns:
      The saved tree.

    Raises:
      UserError: the saved tree has another structure, for example because of another version of
        contrastax or another method, or other shapes, for example because of other settings.
    """
    import orbax.checkpoint as ocp

    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    # Shapes are checked first, because a failure in Orbax prints tracebacks of its threads.
    metadata: Any = self._orbax.metadata(self._directory / str(step))
    if metadata.item_metadata is None:  # Orbax cannot read the file `_METADATA`.
      raise UserError(
        f"checkpoint {step} in {self._directory} has damaged metadata; remove its folder, so that an "
        "earlier checkpoint is used"
      )
    saved = _shapes(metadata.item_metadata.tree)
    expected = _shapes(like)
    if partial:
      expected = {name: shape for name, shape in expected.items() if shape != EMPTY}
      saved = {name: saved[name] for name in expected if name in saved}
    where = f"checkpoint {step} in {self._directory}"
    fix = "start the run again in another workdir"
    if partial:
      fix = f"pass the encoder and the network that the run had, or {fix}"
    foreign = (
      f"{where} was written by another version of contrastax or for another method: {{}}; {fix}"
    )
    for name in {**saved, **expected}:
      old, new = saved.get(name, "nothing"), expected.get(name, "nothing")
      if old == new:
        continue
      fault = f"{name} is {old} in the checkpoint, but {new} in this run"
      if isinstance(old, str) or isinstance(new, str):
        raise UserError(foreign.format(fault))
      settings = "pass the encoder that the run had" if partial else "use another workdir"
      raise UserError(f"{where} has another method or other settings: {fault}; {settings}")
    restore_args = ocp.checkpoint_utils.construct_restore_args(like)
    args = ocp.args.PyTreeRestore(item=like, restore_args=restore_args, partial_restore=partial)
    try:
      return self._orbax.restore(self._directory / str(step), args=args)
    except (TypeError, ValueError) as error:
      if "structure" not in str(error):
        raise
      # One tree has a tuple in a place where the other one has a dict of the same names.
      raise UserError(foreign.format("its containers have other types")) from error

  def close(self) -> None:
    """Releases the threads of Orbax."""
    self._orbax.close()

  def _finalize(self) -> None:
    """Writes the checksums and removes old checkpoints.

    Orbax calls this in its thread when a checkpoint is complete, before it renames the folder.
    """
    (path,) = self._directory.glob(f"{self._saving}{UNFINISHED}*")
    sums = {str(p.relative_to(path)): p.name != TIMES and _sum(p) for p in _files(path)}
    write_json(path / SUMS, sums)
    for step in self.steps()[self._keep - 1 :]:
      shutil.rmtree(self._directory / str(step))


def _shapes(tree: Any) -> dict[str, Any]:
  """Returns the shapes of a tree's arrays by path, which are the same before and after saving.

  An empty container has the shape `EMPTY`.
  """
  nodes = named_leaves(tree, is_leaf=_is_empty)
  return {name: EMPTY if _is_empty(leaf) else tuple(leaf.shape) for name, leaf in nodes}


def _is_empty(node: Any) -> bool:
  return node is None or (isinstance(node, tuple | list | dict) and not node)


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  return sorted(p for p in path.rglob("*") if p.is_file() and p.name != SUMS)


def _sum(path: pathlib.Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _fault(path: pathlib.Path) -> str | None:
  """Returns a description of the damage to the files of a checkpoint, or None."""
  try:
    sums = read_json(path / SUMS, dict)
  except FileNotFoundError:
    return "it is incomplete, because it has no checksums"
  except UserError:
    return "its list of checksums is damaged"
  if not sums:
    return "its list of checksums is damaged"
  files = {str(p.relative_to(path)): p for p in _files(path)}
  for name, expected in sums.items():
    if name not in files:
      return f"it is incomplete, because {name} is missing"
    if name == TIMES:
      continue
    try:
      if _sum(files[name]) != expected:
        return f"the checksum of {name} is wrong"
    except OSError as error:
      return f"{name} cannot be read: {error.strerror}"
  return None


@contextlib.contextmanager
def _disk_errors(directory: pathlib.Path) -> Iterator[None]:
  """Converts the errors of a full disk, which have several classes, to UserError."""
  try:
    yield
  except Exception as error:
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    texts = ("No space left", "RESOURCE_EXHAUSTED")
    if not full and not any(text in str(error) for text in texts):
      raise
    raise UserError(
      f"the disk is full: a checkpoint could not be saved in {directory}; "
      "free some space and run the same command again; earlier checkpoints are kept"
    ) from error
