"""Refresh: what is mined or clustered from all data while the encoder learns.

A run is divided into segments of `every` steps. The first uses `begun(source)`; at the start of
each later one `arrays` computes new arrays from the state of that step. They are written to
`refresh/STEP.npz` in the run's folder, so a run that is killed within a segment goes on with the same
arrays. A run goes on with the same refresh only.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import pathlib
import zlib
from collections.abc import Mapping

import numpy as np

from contrastax.core import Method, Source, TrainState, UserError, check_integer
from contrastax.files import make_folder, read_json, remove, write_bytes, write_json
from contrastax.training.checkpoints import Checkpoints

Arrays = Mapping[str, np.ndarray]


class Refresh:
  """The base of refreshes, frozen dataclasses with a field `every`, the steps of a segment."""

  every: int

  @functools.cached_property
  def fingerprint(self) -> int:
    """A 32-bit checksum of the kind of refresh and of its numbers, texts and tuples of these."""
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
    found = {name: value for name, value in values.items() if _plain(value)}
    return zlib.crc32(f"{type(self).__name__} {found!r}".encode())

  def begun(self, source: Source) -> Arrays:
    """The arrays of the first segment, a pure function of the data."""
    raise NotImplementedError

  def arrays(self, method: Method, state: TrainState, source: Source) -> Arrays:
    """The arrays of the segment that begins at `state.step`, a pure function of the arguments."""
    raise NotImplementedError

  def apply(self, source: Source, arrays: Arrays) -> Source:
    """The source of a segment: the run's source with these arrays."""
    raise NotImplementedError


def _plain(value):
  """Whether a value is written alike in every process."""
  if isinstance(value, tuple):
    return all(map(_plain, value))
  return isinstance(value, bool | int | float | str | None)


class Segments:
  """The source of each step of a run with a refresh.

  Args:
    refresh: what is computed between segments.
    method: what is trained.
    source: the run's source.
    folder: where the arrays of each segment are kept, `STEP.npz` with a checksum in `STEP.json`.
    checkpoints: those of the run, from which lost arrays are computed again.
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
    self._refresh, self._method, self._whole = refresh, method, source
    self._folder, self._checkpoints = folder, checkpoints
    self._begun, self._source = 0, refresh.apply(source, refresh.begun(source))

  def at(self, step: int, state: TrainState) -> Source:
    """The source of a step; `state` is that before it."""
    begun = step - step % self._refresh.every
    if begun != self._begun:
      self._source = self._refresh.apply(self._whole, self._arrays(begun, step, state))
      self._begun = begun
    return self._source

  def _arrays(self, begun, step, state):
    if begun == 0:
      return self._refresh.begun(self._whole)
    if begun != step:  # at its start they are computed: a file may be of a run before this one
      kept = self._read(begun)
      if kept is not None:
        return kept
      state = self._state_at(begun, state)
    made = self._refresh.arrays(self._method, state, self._whole)
    if not isinstance(made, Mapping):
      raise UserError(f"a refresh's arrays must be arrays by name, not {type(made).__name__}")
    arrays = {name: np.asarray(values) for name, values in made.items()}
    for name, values in arrays.items():
      if values.dtype == object:
        raise UserError(f"a refresh's array {name!r} must be of numbers, not of objects")
    self._write(begun, arrays)
    return arrays

  def _state_at(self, begun, like):
    """The state at the start of a segment whose arrays are lost."""
    fault = f"{self._folder / str(begun)}.npz is missing or damaged"
    if begun not in self._checkpoints.steps():
      raise UserError(
        f"{fault}, and checkpoint {begun}, from which it was computed, is not kept; put a copy of the "
        "file back, or begin anew in another workdir"
      )
    print(f"{fault}; it is computed again from checkpoint {begun}", flush=True)
    whole = {**like._asdict(), "data": np.asarray(0, np.uint32)}
    tree = self._checkpoints.restore(begun, whole)
    return TrainState(**{name: tree[name] for name in like._fields})

  def _read(self, begun):
    """The arrays of a segment; None where they are not kept, or damaged."""
    path = self._folder / f"{begun}.npz"
    try:
      content = path.read_bytes()
      if (
        hashlib.sha256(content).hexdigest() != read_json(path.with_suffix(".json"), dict)["sha256"]
      ):
        return None
    except (OSError, KeyError, UserError):
      return None
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
      return dict(file)

  def _write(self, begun, arrays):
    self._folder.parent.mkdir(parents=True, exist_ok=True)
    make_folder(self._folder)
    content = io.BytesIO()
    np.savez(content, **arrays)
    path = self._folder / f"{begun}.npz"
    write_bytes(path, content.getvalue())
    write_json(
      path.with_suffix(".json"), {"sha256": hashlib.sha256(content.getvalue()).hexdigest()}
    )
    oldest = min(self._checkpoints.steps(), default=0)
    for old in self._folder.glob("*.npz"):
      # A run that falls back to an older checkpoint needs the segment in which that lies.
      if old.stem.isdigit() and int(old.stem) + self._refresh.every <= min(oldest, begun):
        remove(old)
        remove(old.with_suffix(".json"))
