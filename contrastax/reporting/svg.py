"""Figures of a page as SVG: curves and maps, whose colors follow the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from contrastax.reporting.html import Element, element

COLORS = (
  "#3b82c4", "#e8891c", "#3fa34d", "#d6484a", "#9a72c4", "#a06a55", "#e07fbf", "#8a8a8a",
  "#a9ab2b", "#2bb3c0",
)  # fmt: skip
"""Colors of classes that are legible on a light and on a dark page."""
SHAPES = ("circle", "triangle", "square", "diamond")
GRAY = "#8a8f96"
LARGEST_LEGEND = 40
WIDE, HIGH, LEFT, BOTTOM = 300, 150, 52, 18  # The size of a panel of curves, and its margins.
MAP = 400  # The width and height of a map.


def curve(steps: Sequence[float], values: Sequence[float], name: str) -> Element:
  """Draws one metric against the step.

  Args:
    steps: the steps, in increasing order.
    values: the value at each step.
    name: the name of the metric, for the description.
  """
  low, high = min(values), max(values)
  span, last = (high - low) or 1.0, max(steps[-1], 1)
  x = [LEFT + (WIDE - LEFT - 6) * step / last for step in steps]
  y = [6 + (HIGH - BOTTOM - 12) * (high - value) / span for value in values]
  points = list(zip(x, y, strict=True))
  line = element("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points), class_="curve")
  dots = [
    element("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=2.2, class_="dot")
    for a, b in (points if len(points) < 20 else ())
  ]
  bottom = HIGH - BOTTOM
  axes = [
    element("line", x1=LEFT, y1=0, x2=LEFT, y2=bottom, class_="axis"),
    element("line", x1=LEFT, y1=bottom, x2=WIDE, y2=bottom, class_="axis"),
  ]
  labels = [
    _text(number(high), LEFT - 5, 11, "end"),
    _text(number(low), LEFT - 5, bottom - 3, "end"),
    _text("0", LEFT, HIGH - 3, "middle"),
    _text(f"{last:,.0f}", WIDE, HIGH - 3, "end"),
  ]
  described = f"{name} from {number(values[0])} at step {steps[0]:,.0f} to {number(values[-1])} at step {last:,.0f}; lowest {number(low)}, highest {number(high)}"
  return _picture(WIDE, HIGH, described, [*axes, line, *dots, *labels])


def scatter(points: ArrayLike, labels: ArrayLike, classes: Sequence[str], name: str) -> Element:
  """Draws a map of examples. Each class has a color and a shape.

  Args:
    points: [n, 2]. Points that are not finite are left out.
    labels: [n], class numbers. Examples whose number is not in `classes` are gray.
    classes: the names of the classes.
    name: what the map shows, for the description.
  """
  points, labels = np.asarray(points, float).reshape(-1, 2), np.asarray(labels)
  finite = np.isfinite(points).all(1)
  points, labels = points[finite], labels[finite]
  low, high = points.min(0, initial=np.inf), points.max(0, initial=-np.inf)
  span = float((high - low).max(initial=0)) or 1.0
  at = MAP / 2 + (points - (low + high) / 2) / span * (MAP - 24) if len(points) else points
  groups = []
  for label in np.unique(labels):
    known = 0 <= label < len(classes)
    color, shape = _look(int(label)) if known else (GRAY, "circle")
    title = element("title", classes[label] if known else "no label")
    marks = [_mark(shape, x, y, 3.2) for x, y in at[labels == label]]
    groups.append(element("g", title, marks, fill=color, fill_opacity=0.8))
  return _picture(MAP, MAP, f"{name}: {len(points)} examples", groups)


def legend(classes: Sequence[str]) -> Element | None:
  """Returns the colors and shapes of the classes; None if there are more than 40 classes."""
  if not classes or len(classes) > LARGEST_LEGEND:
    return None
  items = []
  for label, name in enumerate(classes):
    color, shape = _look(label)
    mark = element("g", _mark(shape, 8, 8, 6), fill=color)
    sample = element("svg", mark, viewBox="0 0 16 16", aria_hidden="true")
    items.append(element("li", sample, element("span", name)))
  return element("ul", items, class_="legend")


def number(value: float) -> str:
  """Formats a number for an axis, with about three digits."""
  if value != 0 and not 1e-3 <= abs(value) < 1e5:
    return f"{value:.1e}"
  return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _look(label: int) -> tuple[str, str]:
  """Returns the color and the shape of a class."""
  return COLORS[label % len(COLORS)], SHAPES[label // len(COLORS) % len(SHAPES)]


def _mark(shape: str, x: float, y: float, r: float) -> Element:
  if shape == "circle":
    return element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=r)
  if shape == "square":
    side = 1.8 * r
    return element(
      "rect", x=f"{x - side / 2:.1f}", y=f"{y - side / 2:.1f}", width=side, height=side
    )
  corners: Mapping[str, Iterable[tuple[float, float]]] = {
    "triangle": ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
  }
  path = " ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in corners[shape])
  return element("polygon", points=path)


def _picture(width: int, height: int, described: str, content: Iterable[Element]) -> Element:
  return element("svg", content, viewBox=f"0 0 {width} {height}", role="img", aria_label=described)


def _text(text: str, x: float, y: float, anchor: str) -> Element:
  return element("text", text, x=x, y=y, text_anchor=anchor, font_size=11)
