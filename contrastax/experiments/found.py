"""The results of a search and their grid of pictures."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from contrastax.data.columns import Column
from contrastax.data.decode import decode
from contrastax.data.encoded import Images
from contrastax.data.folder import printable
from contrastax.experiments.rows import Rows
from contrastax.files import write_bytes
from contrastax.reporting.grid import Answer, Cell, to_html, to_png
from contrastax.views import to_float

SIDE = 160
"""The side of a picture from a file, in pixels."""


class Found(NamedTuple):
  """The examples that are nearest to a query.

  Args:
    query: the query.
    names: the names of the examples, nearest first.
    scores: the cosine of each.
    positions: the number of each in the data.
    classes: the class of each, or None.
  """

  query: str
  names: tuple[str, ...]
  scores: tuple[float, ...]
  positions: tuple[int, ...]
  classes: tuple[str, ...] | None


class Corpus(NamedTuple):
  """The examples that are searched.

  Args:
    vectors: their embeddings, float32 [n, d].
    names: their names.
    classes: the class of each, or None.
    rows: the examples themselves for pictures, or None.
  """

  vectors: np.ndarray
  names: Sequence[str]
  classes: Sequence[str] | None
  rows: Rows | None


def draw(
  out: pathlib.Path, results: Sequence[Found], corpus: Corpus, position: Mapping[str, int]
) -> None:
  """Writes the grid of pictures.

  Args:
    out: the file, .html or .png.
    results: the result of each query.
    corpus: the examples that were searched.
    position: the number of each example in the data, by its name.
  """
  places = {} if corpus.rows is None else {name: i for i, name in enumerate(corpus.rows.names)}

  def cell(name: str, caption: str) -> Cell:
    if corpus.rows is None or name not in places:
      return Cell(printable(name), caption)
    return _cell(corpus.rows.row(places[name]), printable(name), caption)

  answers = []
  for result in results:
    if result.query in position:
      query = cell(result.query, "query")
    elif os.path.isfile(result.query):
      picture = Image.fromarray(decode(result.query, (SIDE, SIDE, 3)))
      query = Cell(printable(result.query), "query", picture)
    else:
      query = Cell("", "query", None, result.query)
    captions = [f"{score:.4f}" for score in result.scores]
    if result.classes is not None:
      captions = [f"{score}  {of}" for score, of in zip(captions, result.classes, strict=True)]
    hits = [cell(*pair) for pair in zip(result.names, captions, strict=True)]
    answers.append(Answer(query, hits))
  out.parent.mkdir(parents=True, exist_ok=True)
  if out.suffix.lower() == ".html":
    write_bytes(out, to_html("Nearest examples", answers))
    return
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
    write_bytes(out, to_png(answers))


def _cell(inputs: Any, name: str, caption: str) -> Cell:
  """Returns one example with its picture or its text."""
  for leaf in jax.tree.leaves(inputs):
    if isinstance(leaf, Column) and isinstance(leaf.reader, Images):
      content = leaf.reader.content(int(leaf.rows[0]))
      return Cell(name, caption, Image.fromarray(decode(content, (SIDE, SIDE, 3))))
    row = np.asarray(leaf)[0]
    if row.ndim == 3 and row.shape[-1] in (1, 3):
      pixels = row
      if row.dtype != np.uint8:
        pixels = np.uint8(np.asarray(to_float(row)) * 255 + 0.5)
      return Cell(
        name, caption, Image.fromarray(np.broadcast_to(pixels, (*row.shape[:2], 3)).copy())
      )
    if row.ndim == 1 and row.dtype == np.uint8:
      return Cell(name, caption, None, bytes(row).rstrip(b"\0").decode("utf-8", "replace"))
  return Cell(name, caption)
