"""A grid of queries and their nearest examples, as a self-contained HTML page or a PNG file."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

COLUMNS = 11
"""The number of columns of a PNG file: a query and ten examples."""
STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 80rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; overflow-wrap: anywhere; }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem;
  list-style: none; padding: 0; }
li { overflow-wrap: anywhere; font-size: .85rem; }
li.query { outline: 3px solid #2a78d6; outline-offset: 3px; }
img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #8883; }
img.small { image-rendering: pixelated; }
pre { white-space: pre-wrap; margin: 0; padding: .5rem; background: #8883; font: inherit; }
"""


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
  for query, hits in answers:
    items = [_item(query, "query"), *(_item(hit, "") for hit in hits)]
    heading = html.escape(query.name or query.text)
    sections.append(f"<section><h2>{heading}</h2><ol>\n{''.join(items)}</ol></section>\n")
  policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
  page = (
    f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
    f"<body><h1>{html.escape(title)}</h1>\n{''.join(sections)}</body></html>\n"
  )
  return page.encode("utf-8", "replace")


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


def _item(cell: Cell, kind: str) -> str:
  content = ""
  if cell.picture is not None:
    buffer = io.BytesIO()
    small = max(cell.picture.size) <= 48
    picture = cell.picture.convert("RGB")
    picture.save(buffer, "PNG" if small else "JPEG", **({} if small else {"quality": 88}))
    code = base64.b64encode(buffer.getvalue()).decode()
    mime = "png" if small else "jpeg"
    alt, class_ = html.escape(cell.name, quote=True), "small" if small else ""
    content = f'<img class="{class_}" alt="{alt}" src="data:image/{mime};base64,{code}">'
  elif cell.text:
    content = f"<pre>{html.escape(_cut(cell.text, 400))}</pre>"
  lines = "<br>".join(html.escape(text) for text in (cell.name, cell.caption) if text)
  return f'<li class="{kind}">{content}{lines}</li>\n'


def _cut(text: str, most: int, *, end: bool = False) -> str:
  """Returns the start of a text, or its end, if it is longer than `most` characters."""
  if len(text) <= most:
    return text
  return f"…{text[1 - most :]}" if end else f"{text[: most - 1]}…"
