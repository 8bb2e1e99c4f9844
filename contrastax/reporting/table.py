"""Tables of numbers, to read."""

from __future__ import annotations


def text(table: dict[str, dict]) -> str:
  """{row: {column: value}} as aligned text, three decimals; a row need not have every column.

  A value is a number, or {"mean", "half_interval", …}: 0.812 ± 0.012.
  """
  columns = list(dict.fromkeys(column for values in table.values() for column in values))
  cells = {
    row: [_cell(values[column]) if column in values else "" for column in columns]
    for row, values in table.items()
  }
  left = max(len(row) for row in table)
  width = max(8, *(len(cell) for row in (columns, *cells.values()) for cell in row))
  lines = {"": columns, **cells}
  return "\n".join(
    f"{row:<{left}}" + "".join(f"  {cell:>{width}}" for cell in line) for row, line in lines.items()
  )


def _cell(value):
  if isinstance(value, dict):
    return f"{value['mean']:.3f} ± {value['half_interval']:.3f}"
  return str(value) if isinstance(value, int) else f"{value:.3f}"
