"""Refresh: what is mined or clustered from all data while the encoder learns.

A run is divided into segments of `every` steps. The first uses `begun(source)`; at the start of
each later one `arrays` computes new arrays from the state of that step. They are written to
`refresh/STEP.npz` in the run's folder, so a killed run goes on with the same arrays.
"""

from __future__ import annotations

import hashlib
import io
import pathlib
from collections.abc import Mapping

import numpy as np

from contrastax import evaluation
from contrastax.core import (
  Array, Method, Source, TrainState, UserError, check_integer, check_seed,
)  # fmt: skip
from contrastax.data import Resident
from contrastax.files import make_folder, read_json, remove, write_bytes, write_json
from contrastax.negatives import mine

Arrays = Mapping[str, np.ndarray]


class Refresh:
  """The base of refreshes, frozen dataclasses with a field `every`, the steps of a segment."""

  every: int

  def begun(self, source: Source) -> Arrays:
    """The arrays of the first segment, a pure function of the data."""
    raise NotImplementedError

  def arrays(self, method: Method, state: TrainState, source: Source) -> Arrays:
    """The arrays of the segment that begins at `state.step`, a pure function of the arguments."""
    raise NotImplementedError

  def apply(self, source: Source, arrays: Arrays) -> Source:
    """The source of a segment: the run's source with these arrays."""
    raise NotImplementedError
