"""Tables of numbers, to read."""

from __future__ import annotations


def text(table: dict[str, dict[str, float]]) -> str:
  """{row: {column: value}} as aligned text, three decimals."""
  columns = list(next(iter(table.values())))
  left = max(len(row) for row in table)
  width = max(8, *(len(c) for c in columns))
  head = " " * left + "".join(f"  {column:>{width}}" for column in columns)
  rows = [
    f"{row:<{left}}" + "".join(f"  {values[column]:>{width}.3f}" for column in columns)
    for row, values in table.items()
  ]
  return "\n".join([head, *rows])
