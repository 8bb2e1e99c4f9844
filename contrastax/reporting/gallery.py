"""Galleries of a page: examples beside their nearest neighbors, and examples beside their views."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from contrastax.reporting.html import Element, element, image

LOSSLESS = 48  # Images up to this size are stored as PNG, and shown with visible pixels.
LARGEST = 128  # Larger images are reduced to this size.
LARGEST_FILE = 300_000  # Figures of more bytes are stored as JPEG.
LONGEST_TEXT = 600  # The number of characters of a text that is shown.
SPAN = (0.0, 1.0)
"""The values of black and white. Noise may go beyond them, and is cut off."""
WIDEST = (-0.5, 1.5)
"""Images of which over 1 % of the values are beyond these are normalized; their own range is shown."""


def kind_of(inputs: Any) -> str | None:
  """Returns how inputs can be shown: "pictures", "texts" or not at all, which is None.

  Texts are uint8 [n, length] in UTF-8, followed by zeros. A tree is shown by its leaves that can be
  shown.

  Args:
    inputs: an array or a tree of arrays, with one example per row.
  """
  kinds = {_kind(leaf) for leaf in jax.tree.leaves(inputs)} - {None}
  return min(kinds, default=None, key=str)


def show(inputs: Any, place: int, alt: str, span: tuple[float, float] = SPAN) -> list[Element]:
  """Returns one example as pictures and texts; nothing if it cannot be shown.

  Args:
    inputs: an array or a tree of arrays, with one example per row.
    place: the row.
    alt: the text in place of a picture.
    span: the values of black and white in images of floating point.
  """
  leaves = [(leaf, _kind(leaf)) for leaf in jax.tree.leaves(inputs)]
  return [
    _picture(leaf[place], alt, span) if kind == "pictures" else _text(leaf[place])
    for leaf, kind in leaves
    if kind
  ]


def neighbors(
  shown: Mapping[int, Sequence[Element]],
  queries: np.ndarray,
  index: np.ndarray,
  similarity: np.ndarray,
  names: Mapping[int, str] | None,
  kind: str | None,
  files: Mapping[int, str] | None = None,
) -> list[Element]:
  """Returns a row for each query: the query, then its nearest neighbors.

  A neighbor of the query's class has a solid frame and a check mark. Another one has a dashed frame
  of another color and a cross.

  Args:
    shown: {example: its elements, from `show`}.
    queries: [q], the examples whose neighbors are shown.
    index: [q, k], the neighbors, nearest first.
    similarity: [q, k], the cosine of each neighbor.
    names: {example: the name of its class}, or None if there are no labels.
    kind: the result of `kind_of`.
    files: {example: the path of its file}, or None.
  """

  def item(example: int, state: str, caption: str | None) -> Element:
    return _item(shown[example], example, state, caption, None if files is None else files[example])

  rows = []
  for query, near, cosines in zip(queries, index, similarity, strict=True):
    own = None if names is None else names[int(query)]
    items = [item(int(query), "query", own)]
    for example, cosine in zip(near, cosines, strict=True):
      caption, state = f"{cosine:.2f}", ""
      if names is not None:
        state = "right" if names[int(example)] == own else "wrong"
        caption = f"{cosine:.2f} {names[int(example)]}"
      items.append(item(int(example), state, caption))
    rows.append(element("ul", items, class_=f"row {kind or 'texts'}"))
  return rows


def views(originals: Any, drawn: Sequence[Any], kind: str) -> list[Element]:
  """Returns a row for each example: the example, then its random views.

  Args:
    originals: n examples.
    drawn: the views, each of all n examples.
    kind: the result of `kind_of`.
  """
  count = len(jax.tree.leaves(originals)[0])
  span = _span(drawn)
  rows = []
  for place in range(count):
    items = [_item(show(originals, place, "an example"), place, "query", "example")]
    items += [
      _item(show(view, place, "a random view of the example", span), place, "", None)
      for view in drawn
    ]
    rows.append(element("ul", items, class_=f"row {kind}"))
  return rows


def is_rescaled(drawn: Sequence[Any]) -> bool:
  """Returns whether views are shown in their own range, such as normalized images."""
  return _span(drawn) != SPAN


def figure(content: bytes, alt: str) -> Element:
  """Returns a figure of a run, a PNG file, on a white plate."""
  kind = "png"
  if len(content) > LARGEST_FILE:
    from PIL import Image

    content, kind = _encoded(Image.open(io.BytesIO(content)).convert("RGB"), "jpeg"), "jpeg"
  return image(content, kind, alt, class_="plate")


def decode(text: np.ndarray) -> str:
  """Returns a text from its bytes in UTF-8, which zeros may follow."""
  return bytes(np.asarray(text, np.uint8)).rstrip(b"\0").decode(errors="replace")


def _kind(leaf: Any) -> str | None:
  if leaf.ndim == 4 and (leaf.dtype == np.uint8 or leaf.dtype.kind == "f"):
    return "pictures"
  return "texts" if leaf.ndim == 2 and leaf.dtype == np.uint8 and _is_text(leaf) else None


def _is_text(rows: np.ndarray) -> bool:
  """Returns whether all rows are UTF-8 without control characters. Other bytes seldom are."""
  try:
    texts = [bytes(row).rstrip(b"\0").decode() for row in rows]
  except UnicodeDecodeError:
    return False
  return all(c.isprintable() or c in "\n\r\t" for text in texts for c in text)


def _item(
  content: Sequence[Element],
  example: int,
  state: str,
  caption: str | None,
  file: str | None = None,
) -> Element:
  mark = {"right": "✓ ", "wrong": "✗ "}.get(state)
  title = ", ".join(text for text in (caption, file) if text)
  return element(
    "li",
    content or element("div", f"example {example}"),
    element("span", element("b", mark, class_="mark") if mark else None, caption),
    element("span", file.replace("\\", "/").rpartition("/")[2], class_="muted") if file else None,
    class_=state,
    title=title,
  )


def _picture(pixels: Any, alt: str, span: tuple[float, float]) -> Element:
  from PIL import Image  # It is slow to import.

  pixels = np.asarray(pixels)
  if pixels.dtype != np.uint8:
    low, high = span
    scaled = (np.nan_to_num(pixels.astype(np.float64)) - low) / (high - low)
    pixels = np.uint8(255 * scaled.clip(0, 1) + 0.5)
  if pixels.shape[-1] != 3:
    pixels = np.uint8(pixels.mean(-1))
  picture = Image.fromarray(pixels)
  if max(picture.size) <= LOSSLESS:
    return image(_encoded(picture, "png"), "png", alt, class_="small")
  picture.thumbnail((LARGEST, LARGEST))
  return image(_encoded(picture, "jpeg"), "jpeg", alt)


def _text(row: np.ndarray) -> Element:
  text = decode(row)
  more = "…" if len(text) > LONGEST_TEXT else ""
  return element("blockquote", text[:LONGEST_TEXT] + more)


def _span(drawn: Sequence[Any]) -> tuple[float, float]:
  """Returns the values of black and white for views: (0, 1), unless the views are normalized."""
  values = [
    np.asarray(leaf, np.float32).ravel()
    for view in drawn
    for leaf in jax.tree.leaves(view)
    if _kind(leaf) == "pictures" and leaf.dtype != np.uint8
  ]
  if not values:
    return SPAN
  low, high = np.quantile(np.nan_to_num(np.concatenate(values)), (0.01, 0.99))
  return SPAN if low >= WIDEST[0] and high <= WIDEST[1] else (float(low), float(high))


def _encoded(picture: Any, kind: str) -> bytes:
  file = io.BytesIO()
  picture.save(file, kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
  return file.getvalue()
