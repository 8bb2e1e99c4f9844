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
from contrastax.files import write_bytes, writing
from contrastax.reporting import gallery
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
    texts: the text of each; None if the examples are not texts, or if the data cannot be opened.
  """

  query: str
  names: tuple[str, ...]
  scores: tuple[float, ...]
  positions: tuple[int, ...]
  classes: tuple[str, ...] | None
  texts: tuple[str, ...] | None = None


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

  def places(self) -> dict[str, int]:
    """Returns the number of each example among `rows`, by its name."""
    return {} if self.rows is None else {name: i for i, name in enumerate(self.rows.names)}


def results_of(
  queries: Sequence[str],
  scores: np.ndarray,
  positions: np.ndarray,
  corpus: Corpus,
  *,
  texts: bool,
) -> list[Found]:
  """Returns the result of each query.

  Args:
    queries: q queries.
    scores: [q, k], the cosines of the nearest examples.
    positions: [q, k], their numbers in the data; −1 means that there is none.
    corpus: the examples that were searched.
    texts: whether the examples are texts.
  """
  places = corpus.places() if texts else {}

  def text(name: str) -> str:
    if corpus.rows is None or name not in places:
      return ""
    return gallery.decode(np.asarray(corpus.rows.row(places[name]))[0])

  results = []
  for query, own_scores, own_positions in zip(queries, scores, positions, strict=True):
    pairs = zip(own_scores, own_positions, strict=True)
    kept = [(float(score), int(i)) for score, i in pairs if i >= 0]
    names = tuple(corpus.names[i] for _, i in kept)
    results.append(
      Found(
        query,
        names,
        tuple(score for score, _ in kept),
        tuple(i for _, i in kept),
        None if corpus.classes is None else tuple(corpus.classes[i] or "" for _, i in kept),
        tuple(map(text, names)) if places else None,
      )
    )
  return results


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
  places = corpus.places()

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
  if out.suffix.lower() == ".html":
    content = to_html("Nearest examples", answers)
  else:
    with warnings.catch_warnings():
      warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
      content = to_png(answers)
  with writing(out):
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, content)


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
