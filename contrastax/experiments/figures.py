"""A figure of a run may fail; the run goes on."""

from __future__ import annotations

import contextlib
import pathlib
import warnings
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def figure(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Draws one figure inside the context, to the path that it gives.

  An exception becomes a warning in one line, and what is left of the file is removed. A character
  that the font lacks is drawn as a box, without matplotlib's warning.
  """
  try:
    with warnings.catch_warnings():
      warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
      yield path
  except Exception as error:
    fault = " ".join(str(error).split()) or type(error).__name__
    print(f"warning: figure {path.name} could not be drawn: {fault}", flush=True)
    with contextlib.suppress(OSError):
      path.unlink(missing_ok=True)


def is_images(inputs) -> bool:
  """Whether inputs are images [n, h, w, c], which figures can show."""
  return isinstance(inputs, np.ndarray) and inputs.ndim == 4
