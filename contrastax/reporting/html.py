"""Builds an HTML page as a tree of elements, so that every text of a user is escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from contrastax.reporting.style import STYLE
from contrastax.reporting.table import formatted

Element = ElementTree.Element
Content = Element | str | None

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser loads nothing from elsewhere and runs no script, whatever the page contains."""
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Section(NamedTuple):
  """A section of a page.

  Args:
    name: the id of the section, for links.
    title: its heading.
    content: its elements. A section without content is left out of the page.
  """

  name: str
  title: str
  content: Sequence[Content]


def element(tag: str, *children: Content | Iterable[Content], **attributes: object) -> Element:
  """Makes an element.

  Args:
    tag: the name of the element.
    *children: texts, elements, or sequences of these. None is left out.
    **attributes: the attributes. `class_` is written `class`, and `aria_label` is `aria-label`.

  Example:
    >>> from contrastax.reporting.html import element, text_of
    >>> text_of(element("p", "a < b", class_="note"))
    '<p class="note">a &lt; b</p>'
  """
  node = Element(tag)
  for name, value in attributes.items():
    node.set(name.rstrip("_").replace("_", "-"), _printable(str(value)))
  for child in children:
    _append(node, child)
  return node


def text_of(node: Element) -> str:
  """Returns an element as HTML."""
  return ElementTree.tostring(node, encoding="unicode", method="html")


def document(title: str, lead: Iterable[Content], sections: Iterable[Section]) -> bytes:
  """Returns a page in UTF-8: a heading, a table of contents, and the sections.

  Args:
    title: the heading.
    lead: the elements between the heading and the table of contents.
    sections: the sections.
  """
  sections = [section for section in sections if any(x is not None for x in section.content)]
  links = [
    element("li", element("a", section.title, href=f"#{section.name}")) for section in sections
  ]
  style = element("style")
  style.text = STYLE
  head = element(
    "head",
    element("meta", charset="utf-8"),
    element("meta", http_equiv="Content-Security-Policy", content=POLICY),
    element("meta", name="viewport", content="width=device-width, initial-scale=1"),
    element("meta", name="color-scheme", content="light dark"),
    element("title", title),
    style,
  )
  body = element(
    "body",
    element("header", element("h1", title), lead),
    element("nav", element("ol", links), aria_label="Contents"),
    element(
      "main",
      [
        element(
          "section",
          element("h2", section.title, id=f"{section.name}-title"),
          section.content,
          id=section.name,
          aria_labelledby=f"{section.name}-title",
        )
        for section in sections
      ],
    ),
  )
  page = text_of(element("html", head, body, lang="en"))
  return f"<!DOCTYPE html>\n{page}\n".encode("utf-8", "replace")


def table(
  rows: Mapping[str, Mapping[str, Any]],
  caption: str,
  *,
  best: Mapping[str, Collection[str]] | None = None,
) -> Element:
  """Returns a table, which scrolls sideways if it is wider than the page.

  Args:
    rows: {row: {column: value}}. A value is a number, a mapping with `mean` and `half_interval`, a
      text, or None if it is not known. A row may lack columns.
    caption: the text above the table, which also names it for screen readers.
    best: {column: rows} of the values that are emphasized.
  """
  columns = list(dict.fromkeys(column for values in rows.values() for column in values))
  head = element("tr", element("td"), [element("th", column, scope="col") for column in columns])
  body = []
  for row, values in rows.items():
    cells = []
    for column in columns:
      text = formatted(values[column]) if column in values else ""
      is_best = row in (best or {}).get(column, ())
      cells.append(element("td", element("strong", text) if is_best else text))
    body.append(element("tr", element("th", row, scope="row"), cells))
  whole = element("table", element("thead", head), element("tbody", body), aria_label=caption)
  return element("figure", element("figcaption", caption), scroll(whole, caption), class_="table")


def scroll(content: Element, name: str) -> Element:
  """Puts wide content into a box that scrolls sideways, by touch, mouse or keyboard."""
  return element("div", content, class_="scroll", tabindex=0, role="region", aria_label=name)


def facts(values: Mapping[str, Content]) -> Element:
  """Returns a list of names and values."""
  pairs = [(element("dt", name), element("dd", value)) for name, value in values.items()]
  return element("dl", [part for pair in pairs for part in pair])


def image(content: bytes, kind: str, alt: str, **attributes: object) -> Element:
  """Returns an image whose file is inside the page.

  Args:
    content: the file.
    kind: its format, such as `png`.
    alt: the text for those who do not see the image.
    **attributes: further attributes.
  """
  source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
  return element("img", src=source, alt=alt, **attributes)


def _append(node: Element, child: Content | Iterable[Content]) -> None:
  if isinstance(child, str):
    child = _printable(child)
    if len(node):
      node[-1].tail = (node[-1].tail or "") + child
    else:
      node.text = (node.text or "") + child
  elif isinstance(child, Element):
    node.append(child)
  elif child is not None:
    for each in child:
      _append(node, each)


def _printable(text: str) -> str:
  """Replaces control characters, which HTML does not allow."""
  return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
