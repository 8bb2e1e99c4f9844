"""Draws figures of a run such that an error in a figure does not end the run."""

from __future__ import annotations

import contextlib
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def figure(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Returns a context in which one figure is drawn.

  An exception in the context becomes a warning of one line, and an incomplete file is removed.
  matplotlib draws a box for a character that the font does not have; its warning is suppressed.

  Args:
    path: the file of the figure. The context returns it.
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


def is_images(inputs: Any) -> bool:
  """Returns whether inputs are images [n, h, w, c], which figures can show."""
  return isinstance(inputs, np.ndarray) and inputs.ndim == 4
