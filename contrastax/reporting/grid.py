"""A grid of queries and their nearest examples, as a self-contained HTML page or a PNG file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from contrastax.reporting.html import Element, Section, document, element, image

COLUMNS = 11
"""The number of columns of a PNG file: a query and ten examples."""
SMALL = 48
"""Pictures up to this size are stored as PNG, and shown with visible pixels."""
MOST_TEXT = 400
"""The number of characters of a text that a page shows."""


class Cell(NamedTuple):
  """One example of the grid.

  Args:
    name: its name.
    caption: its score and its class.
    picture: the example as an image, or None.
    text: the example as a text, or "".
  """

  name: str
  caption: str
  picture: Image.Image | None = None
  text: str = ""


class Answer(NamedTuple):
  """A query and the examples that are nearest to it, nearest first."""

  query: Cell
  hits: Sequence[Cell]


def to_html(title: str, answers: Sequence[Answer]) -> bytes:
  """Returns a page in UTF-8. It loads nothing and runs no script.

  Args:
    title: the heading.
    answers: the rows of the grid.
  """
  sections = []
  for number, (query, hits) in enumerate(answers):
    kind = "pictures" if any(cell.picture for cell in (query, *hits)) else "texts"
    items = [_item(query, "query"), *(_item(hit, "") for hit in hits)]
    rows = element("ul", items, class_=f"row {kind}")
    sections.append(Section(f"query-{number}", query.name or query.text, [rows]))
  return document(title, [], sections)


def to_png(answers: Sequence[Answer]) -> bytes:
  """Returns a PNG file with a row, or several rows, of each query.

  Args:
    answers: the rows of the grid.
  """
  from matplotlib.figure import Figure  # It is slow to import.

  lines = [max(1, math.ceil(len(hits) / (COLUMNS - 1))) for _, hits in answers]
  columns = 1 + min(COLUMNS - 1, max((len(hits) for _, hits in answers), default=0))
  figure = Figure(figsize=(1.5 * columns, 1.9 * sum(lines)))
  grid = figure.add_gridspec(
    sum(lines), columns, left=0.01, right=0.99, bottom=0.01, top=1 - 0.35 / (1.9 * sum(lines)),
    wspace=0.08, hspace=0.35,
  )  # fmt: skip
  first = 0
  for (query, hits), count in zip(answers, lines, strict=True):
    places = {(first, 0): query}
    for i, hit in enumerate(hits):
      places[first + i // (COLUMNS - 1), 1 + i % (COLUMNS - 1)] = hit
    for place, cell in places.items():
      axes = figure.add_subplot(grid[place])
      axes.set(xticks=[], yticks=[])
      axes.patch.set_facecolor("0.93")
      if cell.picture is not None:
        axes.imshow(cell.picture.convert("RGB"))
      elif cell.text:
        axes.text(
          0.03, 0.97, _cut(cell.text, 90), transform=axes.transAxes, fontsize=6, va="top",
          wrap=True, parse_math=False,
        )  # fmt: skip
      for spine in axes.spines.values():
        spine.set(
          color="#2a78d6" if cell is query else "0.7", linewidth=2.5 if cell is query else 0.5
        )
      label = "\n".join(filter(None, (_cut(cell.name, 24, end=True), _cut(cell.caption, 24))))
      axes.set_title(label, fontsize=6.5, pad=2, parse_math=False)
    first += count
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=130)
  return buffer.getvalue()


def _item(cell: Cell, kind: str) -> Element:
  content = None
  if cell.picture is not None:
    small, buffer = max(cell.picture.size) <= SMALL, io.BytesIO()
    options: dict[str, Any] = {} if small else {"quality": 88}
    cell.picture.convert("RGB").save(buffer, "png" if small else "jpeg", **options)
    form, shown = ("png", {"class_": "small"}) if small else ("jpeg", {})
    content = image(buffer.getvalue(), form, cell.name, **shown)
  elif cell.text:
    content = element("blockquote", _cut(cell.text, MOST_TEXT))
  lines = [element("span", text) for text in (cell.name, cell.caption) if text]
  return element("li", content, lines, class_=kind, title=cell.name)


def _cut(text: str, most: int, *, end: bool = False) -> str:
  """Returns the start of a text, or its end, if it is longer than `most` characters."""
  if len(text) <= most:
    return text
  return f"…{text[1 - most :]}" if end else f"{text[: most - 1]}…"
