"""Refreshes: arrays that are computed from all training examples between segments of a run.

A run is divided into segments of `every` steps. The first segment uses `begun(source)`. At the
start of each later segment `arrays` computes new arrays from the current state. They are written to
`refresh/STEP.npz` in the run's folder, so that a run that is interrupted within a segment resumes
with the same arrays. A run resumes only with the same refresh.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from contrastax.core import Method, Source, TrainState, UserError, check_integer
from contrastax.files import make_folder, read_json, remove, write_bytes, write_json
from contrastax.training.checkpoints import Checkpoints

Arrays = Mapping[str, np.ndarray]


class Refresh:
  """Base class of refreshes, which are frozen dataclasses.

  Attributes:
    every: number of steps in a segment.
  """

  every: int

  @functools.cached_property
  def fingerprint(self) -> int:
    """A 32-bit checksum of the class name and of the fields: numbers, strings and tuples of them."""
    fields = dataclasses.fields(self)  # pyright: ignore[reportArgumentType]  # in subclasses
    values = {field.name: getattr(self, field.name) for field in fields}
    plain = {name: value for name, value in values.items() if _is_plain(value)}
    return zlib.crc32(f"{type(self).__name__} {plain!r}".encode())

  def begun(self, source: Source) -> Arrays:
    """Returns the arrays of the first segment, which depend only on the data."""
    raise NotImplementedError

  def arrays(self, method: Method, state: TrainState, source: Source) -> Arrays:
    """Returns the arrays of the segment that begins at `state.step`.

    Args:
      method: the method that is trained.
      state: the state at the start of the segment.
      source: the run's source.

    Returns:
      NumPy arrays by name, which depend only on the arguments.
    """
    raise NotImplementedError

  def apply(self, source: Source, arrays: Arrays) -> Source:
    """Returns the source of a segment: the run's source with these arrays."""
    raise NotImplementedError


def _is_plain(value: Any) -> bool:
  """Returns whether the repr of a value is the same in every process."""
  if isinstance(value, tuple):
    return all(map(_is_plain, value))
  return isinstance(value, bool | int | float | str | None)


class Segments:
  """The sources of a run with a refresh.

  Args:
    refresh: the refresh.
    method: the method that is trained.
    source: the run's source.
    folder: folder of the arrays: `STEP.npz`, with a checksum in `STEP.json`.
    checkpoints: checkpoints of the run. Missing arrays are computed again from them.

  Raises:
    UserError: `refresh` is not a refresh, or does not fit the source.
  """

  def __init__(
    self,
    refresh: Refresh,
    method: Method,
    source: Source,
    folder: pathlib.Path,
    checkpoints: Checkpoints,
  ):
    if not isinstance(refresh, Refresh):
      raise UserError(f"refresh must be a Refresh, such as training.mined(…), not {refresh!r}")
    check_integer("every", refresh.every, 1)
    self._refresh, self._method, self._source = refresh, method, source
    self._folder, self._checkpoints = folder, checkpoints
    self._start = 0
    self.current = refresh.apply(source, refresh.begun(source))
    """The source of the current segment."""

  def at(self, step: int, state: TrainState) -> Source:
    """Returns the source of a step.

    Args:
      step: the number of the step.
      state: the state before the step.

    Returns:
      The source of the segment of that step.
    """
    start = step - step % self._refresh.every
    if start != self._start:
      self.current = self._refresh.apply(self._source, self._arrays(start, step, state))
      self._start = start
    return self.current

  def _arrays(self, start: int, step: int, state: TrainState) -> Arrays:
    if start == 0:
      return self._refresh.begun(self._source)
    # At the start of a segment, an existing file may be from an earlier run, so it is not read.
    if start != step:
      arrays = self._read(start)
      if arrays is not None:
        return arrays
      state = self._state_at(start, state)
    result = self._refresh.arrays(self._method, state, self._source)
    if not isinstance(result, Mapping):
      raise UserError(
        f"a refresh's arrays must be a dict of arrays by name, not {type(result).__name__}"
      )
    arrays = {name: np.asarray(values) for name, values in result.items()}
    for name, values in arrays.items():
      if values.dtype == object:
        raise UserError(f"a refresh's array {name!r} must contain numbers, not objects")
    self._write(start, arrays)
    return arrays

  def _state_at(self, start: int, like: TrainState) -> TrainState:
    """Restores the state at the start of a segment whose arrays are missing or damaged."""
    fault = f"{self._folder / str(start)}.npz is missing or damaged"
    if start not in self._checkpoints.steps():
      raise UserError(
        f"{fault}, and checkpoint {start}, from which it was computed, is not kept; restore a copy "
        "of the file, or start again in another workdir"
      )
    print(f"{fault}; it is computed again from checkpoint {start}", flush=True)
    tree = self._checkpoints.restore(start, {**like._asdict(), "data": np.asarray(0, np.uint32)})
    return TrainState(**{name: tree[name] for name in like._fields})

  def _read(self, start: int) -> Arrays | None:
    """Reads the arrays of a segment; returns None if the file is missing or damaged."""
    path = self._folder / f"{start}.npz"
    try:
      content = path.read_bytes()
      checksum = read_json(path.with_suffix(".json"), dict)["sha256"]
    except (OSError, KeyError, UserError):
      return None
    if hashlib.sha256(content).hexdigest() != checksum:
      return None
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
      return dict(file)

  def _write(self, start: int, arrays: Arrays) -> None:
    """Writes the arrays of a segment, and removes files that no checkpoint needs."""
    self._folder.parent.mkdir(parents=True, exist_ok=True)
    make_folder(self._folder)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]  # its stub types all keywords
    content = buffer.getvalue()
    path = self._folder / f"{start}.npz"
    write_bytes(path, content)
    write_json(path.with_suffix(".json"), {"sha256": hashlib.sha256(content).hexdigest()})
    oldest = min(self._checkpoints.steps(), default=0)
    for old in self._folder.glob("*.npz"):
      # A run that falls back to an older checkpoint needs the arrays of the checkpoint's segment.
      if old.stem.isdigit() and int(old.stem) + self._refresh.every <= min(oldest, start):
        remove(old)
        remove(old.with_suffix(".json"))
