"""The output of `contrastax compare`: a comparison as text, JSON, Markdown or a page."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from contrastax.experiments.paired import COLUMNS, Difference
from contrastax.files import write_bytes, write_json, write_text
from contrastax.reporting import html, table

SUFFIXES = (".json", ".html", ".md")
"""The ends of the names of the files that can be written."""
NOT_SET = "not set"
NOTES = (
  "Each interval is for one comparison. If nothing differs, about 1 of 20 intervals still does not "
  "contain 0."
)


def tables(result: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
  """Returns the tables of a comparison by title: {title: {row: {column: value}}}."""
  runs = result["runs"]
  values = {
    name: {
      column: {"mean": value, "half_interval": run["half_intervals"][column]}
      if column in run["half_intervals"]
      else value
      for column, value in run["table"].items()
    }
    for name, run in runs.items()
  }
  count = result["examples"]["test"]
  kind = "accuracy" if set(COLUMNS) & set(next(iter(values.values()))) else "geometry"
  title = (
    f"trained encoders, {kind} on the {count:,} {result['judged_on']} examples of {result['data']}"
  )
  compared = {
    name: {column: Difference(**each).text() for column, each in run["differences"].items()}
    for name, run in runs.items()
    if run["differences"]
  }
  return {title: values} | (
    {f"differences to {result['to']}, with paired 95 % intervals": compared} if compared else {}
  )


def changes(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
  """Returns (key, value, runs with this value) of the keys in which the configs differ."""
  lines: dict[tuple[str, str], list[str]] = {}
  keys = next(iter(result["runs"].values()))["config"]
  for key in keys:
    for name, run in result["runs"].items():
      value = run["config"][key]
      lines.setdefault((key, value if value == NOT_SET else repr(value)), []).append(name)
  return [(key, value, "; ".join(names)) for (key, value), names in lines.items()]


def as_text(result: Mapping[str, Any]) -> str:
  """Returns a comparison as text."""
  parts = [f"{title}\n{table.text(rows)}" for title, rows in tables(result).items()]
  parts.append(NOTES)
  lines, last = [], None
  for key, value, names in changes(result):
    lines += ([] if key == last else [f"  {key}"]) + [f"    {value}: {names}"]
    last = key
  parts.append("\n".join(["the configs differ in", *lines] if lines else ["the configs are equal"]))
  return "\n\n".join(parts)


def write(result: Mapping[str, Any], path: pathlib.Path) -> None:
  """Writes a comparison as .json, .html or .md, by the end of the file's name."""
  if path.suffix == ".json":
    write_json(path, dict(result))
  elif path.suffix == ".md":
    write_text(path, _markdown(result))
  else:
    write_bytes(path, _page(result))


def judged(summary: Mapping[str, Any]) -> str:
  """Returns what a run was evaluated on, as text."""
  count = summary["examples"]["test"]
  return f"{summary['data']}, {count:,} {summary['judged_on']} examples"


def _markdown(result: Mapping[str, Any]) -> str:
  parts = []
  for title, rows in tables(result).items():
    columns = list(dict.fromkeys(column for values in rows.values() for column in values))
    lines = [["", *columns], ["---", *["---:"] * len(columns)]]
    for row, values in rows.items():
      cells = [table.formatted(values[column]) if column in values else "" for column in columns]
      lines.append([row, *cells])
    parts.append(f"**{table.markdown(title)}**\n\n" + _lines(lines))
  parts.append(NOTES)
  listed = [["key", "value", "runs"], ["---"] * 3, *map(list, changes(result))]
  if len(listed) > 2:
    parts.append("**Differences of the configs**\n\n" + _lines(listed))
  return "\n\n".join(parts) + "\n"


def _lines(rows: Sequence[Sequence[str]]) -> str:
  return "\n".join(f"| {' | '.join(map(table.markdown, row))} |" for row in rows)


def _page(result: Mapping[str, Any]) -> bytes:
  element, rows = html.element, changes(result)
  head = element("tr", [element("th", name, scope="col") for name in ("key", "value", "runs")])
  body = [
    element(
      "tr",
      element("th", key, scope="row"),
      element("td", element("code", value)),
      element("td", names),
    )
    for key, value, names in rows
  ]
  listed = element("table", element("thead", head), element("tbody", body), class_="text")
  shown = [html.table(values, title) for title, values in tables(result).items()]
  sections = [
    html.Section("results", "Results", [*shown, element("p", NOTES, class_="muted")]),
    html.Section(
      "configs",
      "Differences of the configs",
      [html.scroll(listed, "Differences of the configs")] if rows else ["The configs are equal."],
    ),
  ]
  lead = element(
    "p",
    f"{len(result['runs'])} runs, evaluated on the same examples ({judged(result)}). Differences are "
    f"to {result['to']}.",
    class_="verdict",
  )
  return html.document(f"Comparison of runs on {result['data']}", [lead], sections)
