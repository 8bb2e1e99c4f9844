"""Tables of numbers as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_KNOWN = "–"


def text(table: Mapping[str, Mapping[str, Any]]) -> str:
  """Formats a table as aligned text, with three decimals.

  Args:
    table: {row: {column: value}}. A value is a number, a mapping with `mean` and `half_interval`,
      which becomes `0.812 ± 0.012`, a text, or None if it is not known. A row may lack columns.

  Returns:
    The lines of the table, with a header.

  Example:
    >>> from contrastax import reporting
    >>> print(reporting.table.text({"raw": {"knn": 0.5}, "trained": {"knn": 0.9, "n": 3}}))
                  knn         n
    raw         0.500
    trained     0.900         3
  """
  columns = list(dict.fromkeys(column for values in table.values() for column in values))
  cells = {
    row: [formatted(values[column]) if column in values else "" for column in columns]
    for row, values in table.items()
  }
  left = max(len(row) for row in table)
  width = max(8, *(len(cell) for row in (columns, *cells.values()) for cell in row))
  lines = {"": columns, **cells}
  return "\n".join(
    f"{row:<{left}}" + "".join(f"  {cell:>{width}}" for cell in line) for row, line in lines.items()
  )


def markdown(text: object) -> str:
  """Returns a text as one line of Markdown, in which it has no markup and no HTML."""
  line = " ".join(str(text).split())
  for character in "\\|<*_`[":
    line = line.replace(character, f"\\{character}")
  return line


def formatted(value: Any) -> str:
  """Formats one value: a number with three decimals, a mean with half of its interval, or a text.

  A value or a mean that is not known (None or NaN) becomes a dash.
  """
  if isinstance(value, str):
    return value
  mean = value["mean"] if isinstance(value, Mapping) else value
  if mean is None or mean != mean:
    return NOT_KNOWN
  if isinstance(value, Mapping):
    return f"{value['mean']:.3f} ± {value['half_interval']:.3f}"
  return str(value) if isinstance(value, int) else f"{value:.3f}"
