"""Writes report.html, the page of a finished run: one file without scripts or links to other files."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from contrastax.core import HasEvaluated, UserError
from contrastax.data import KINDS, Column
from contrastax.data.index import faults
from contrastax.evaluation.embed import count_rows
from contrastax.experiments.build import Parts, inputs_of
from contrastax.experiments.figures import figure
from contrastax.experiments.findings import findings, verdict
from contrastax.experiments.measures import Encode, draw_views, first_rows
from contrastax.experiments.page_sections import (
  charts,
  circumstances,
  curves,
  geometry,
  map_of,
  measured,
  results,
  settings,
  too_few,
  usage,
)
from contrastax.experiments.schema import data_name
from contrastax.files import read_json, read_records, write_bytes
from contrastax.pairwise import cosine, top_k
from contrastax.reporting import gallery
from contrastax.reporting.html import Content, Element, Section, document, element

NAME = "report.html"
QUERIES, ERRORS = 8, 4
"""The numbers of queries: at even distances in the order of the classes, and with a wrong neighbor."""
NEIGHBORS = 8
CORPUS = 10_000  # The number of examples among which neighbors are searched.
SEARCHED = 2000  # The number of examples among which queries with a wrong neighbor are searched.
EXAMPLES, VIEWS = 5, 8


def write(config: Mapping[str, Any], parts: Parts, workdir: pathlib.Path, encode: Encode) -> None:
  """Writes report.html from the files of a finished run, its data and its encoder.

  If the page cannot be drawn, a warning is printed and the run goes on.

  Args:
    config: the completed config.
    parts: the experiment.
    workdir: the folder of the run, with its summary.json.
    encode: the trained encoder.
  """
  content = None
  with figure(workdir / NAME):
    content = _page(config, parts, workdir, encode)
  if content is not None:
    write_bytes(workdir / NAME, content)


def _page(config: Mapping[str, Any], parts: Parts, workdir: pathlib.Path, encode: Encode) -> bytes:
  summary = read_json(workdir / "summary.json", dict)
  records, _ = read_records(workdir / "metrics.jsonl")
  processes = _read(workdir / "run.json", list)
  found = findings(summary, config, records, processes, _left_out(config))
  few = too_few(records, config) if "temperatures" in summary else None
  items = [element("li", element("strong", finding.fact), " ", finding.advice) for finding in found]
  nothing = element("p", "Nothing unusual was found in the records of this run.")
  sections = [
    Section("findings", "What to look at", [element("ul", items, class_="findings")] if items else [nothing]),
    Section("results", "Results", results(summary)),
    Section("evaluation", "All measurements", measured(_read(workdir / "evaluation.json", dict), config["steps"])),
    Section("geometry", "Geometry of the space", geometry(summary)),
    Section("curves", "Learning curves", curves(records, config)),
    Section("map", "Map of the space", _map(workdir, parts)),
    Section("neighbors", "Nearest neighbors", _neighbors(parts, encode, summary["judged_on"])),
    Section("views", "Views", _views(parts)),
    Section("negatives", "Negatives", charts(workdir, summary, "negatives")),
    Section("temperatures", "Temperatures", [few, *charts(workdir, summary, "temperatures")]),
    Section("usage", "Use the encoder", usage(workdir)),
    Section("config", "Config", settings(config)),
    Section("circumstances", "Circumstances", circumstances(processes, summary["train_seconds"])),
  ]  # fmt: skip
  title = f"{config['method']['name']} on {data_name(config)}"
  return document(title, _lead(config, parts, summary, workdir), sections)


def _lead(
  config: Mapping[str, Any], parts: Parts, summary: Mapping[str, Any], workdir: pathlib.Path
) -> list[Content]:
  examples, count = summary["examples"], summary["examples"]["trained_on"]
  epochs = config["steps"] * config["batch_size"] / count
  size = sum(summary["parameters"].values())
  classes = f" of {len(parts.dataset.classes)} classes" if "label" in parts.judged.test else ""
  text = (
    f"The run {workdir.resolve().name} trained {size:,} parameters with {config['method']['name']} on "
    f"{count:,} examples, for {config['steps']:,} steps of {config['batch_size']:,} examples "
    f"({epochs:,.3g} epochs), with seed {config['seed']}. It was evaluated at its last step on "
    f"{examples['test']:,} {summary['judged_on']} examples{classes}."
  )
  return [
    element("p", " ".join(verdict(summary)), class_="verdict"),
    element("p", text, class_="muted"),
  ]


def _map(workdir: pathlib.Path, parts: Parts) -> list[Content]:
  points = _read(workdir / "figures" / "map.json", dict)
  label, classes = parts.judged.test.get("label"), parts.dataset.classes
  count = len(next(iter(points.values()), ()))
  return map_of(points, np.zeros(count, int) if label is None else label[:count], classes)


def _neighbors(parts: Parts, encode: Encode, split: str) -> list[Content]:
  """Returns some evaluated examples with their nearest neighbors among the evaluated examples."""
  arrays = first_rows(parts.judged.test, CORPUS)
  inputs, label = inputs_of(parts.method, arrays), arrays.get("label")
  whole = count_rows(parts.judged.test) == count_rows(arrays)
  features = np.asarray(encode(inputs))
  features = features.reshape(len(features), -1)
  if not np.isfinite(features).all():
    return [element("p", "The embeddings are not finite, so they have no neighbors.")]
  k, own = min(NEIGHBORS, len(features) - 1), np.arange(len(features))
  order = own if label is None else np.argsort(label, kind="stable")
  evenly = order[np.linspace(0, len(order) - 1, min(QUERIES, len(order))).round().astype(int)]
  searched = own[:SEARCHED]
  similarity, index = (
    np.asarray(x) for x in top_k(features[searched], features, k, score=cosine(), exclude=searched)
  )
  groups = {"spread": evenly}
  if label is not None:
    # The most similar pairs of different classes come first.
    wrong = np.flatnonzero(label[index[:, 0]] != label[searched])
    groups["wrong"] = wrong[np.argsort(-similarity[wrong, 0], kind="stable")][:ERRORS]
  names = None
  kind = None
  content: list[Content] = [
    element(
      "p",
      f"Each row has a {split} example, with a blue frame, and the {split} examples whose embeddings "
      "have the highest cosine to its embedding, nearest first. The number is the cosine."
      + ("" if whole else f" Neighbors are among the first {CORPUS:,} {split} examples.")
      + (
        ""
        if label is None
        else " ✓ and a solid frame: an example of the same class. ✗ and a dashed frame: an example of "
        "another class."
      ),
    )
  ]
  for group, queries in groups.items():
    if not len(queries):
      continue
    similarity, index = (
      np.asarray(x) for x in top_k(features[queries], features, k, score=cosine(), exclude=queries)
    )
    rows = np.unique(np.concatenate([queries, index.ravel()]))
    few = _take(inputs, rows)
    kind = gallery.kind_of(few)
    if label is not None:
      names = {int(row): _class_name(parts, int(label[row])) for row in rows}
    shown: dict[int, list[Element]] = {
      int(row): gallery.show(few, place, _alt(int(row), names, split))
      for place, row in enumerate(rows)
    }
    if group == "wrong":
      content.append(element("h3", "Nearest neighbors of another class"))
      content.append(
        element(
          "p",
          f"These {len(queries)} examples have the most similar nearest neighbor of another class, "
          f"among the first {len(searched):,} {split} examples. Look for wrong labels, duplicates and "
          "ambiguous examples.",
        )
      )
    files = _files(inputs, rows)
    content += gallery.neighbors(shown, queries, index, similarity, names, kind, files)
  if kind is None:
    content.append(
      element(
        "p",
        "The inputs are neither images nor texts, so the examples are shown by their numbers.",
        class_="muted",
      )
    )
  return content


def _views(parts: Parts) -> list[Content]:
  """Returns some training examples with random views."""
  method: HasEvaluated = parts.method
  recipes = method.evaluated.views
  recipes = (recipes,) if callable(recipes) else tuple(recipes)
  inputs = inputs_of(method, parts.dataset.train)
  count = count_rows(inputs)
  few = _take(inputs, np.linspace(0, count - 1, min(EXAMPLES, count)).round().astype(int))
  if not recipes:
    return [element("p", "The method draws no random views of its inputs.")]
  distinct = list(dict.fromkeys(recipes))
  content: list[Content] = [
    element(
      "p",
      "Each row has a training example, with a blue frame, and random views of it, drawn as in "
      "training. Training pulls the embeddings of the views of one example together, so the "
      "embedding becomes independent of what differs between them. A view that removes the differences "
      "between your classes is too strong.",
    )
  ]
  for number, recipe in enumerate(distinct, 1):
    drawn = list(draw_views(recipe, few, "report", VIEWS))
    kind = gallery.kind_of(drawn[0])
    if len(distinct) > 1:
      content.append(element("h3", f"Recipe {number} of {len(distinct)}"))
    if kind is None or gallery.kind_of(few) is None:
      content.append(
        element("p", "The inputs are neither images nor texts, so the views are not shown.")
      )
      continue
    if gallery.is_rescaled(drawn):
      content.append(
        element(
          "p",
          "The views are normalized to values far outside [0, 1], so their small values are shown black and their "
          "large ones white.",
          class_="muted",
        )
      )
    content += gallery.views(few, drawn, kind)
  return content


def _left_out(config: Mapping[str, Any]) -> list[str]:
  """Returns which files of the data were left out, and why."""
  kind, _, place = data_name(config).removeprefix("words:").partition(":")
  return faults(place) if kind in KINDS else []


def _class_name(parts: Parts, label: int) -> str:
  classes = parts.dataset.classes
  return str(classes[label]) if 0 <= label < len(classes) else "no label"


def _alt(row: int, names: Mapping[int, str] | None, split: str) -> str:
  return f"{split} example {row}" + (f", class {names[row]}" if names else "")


def _files(inputs: Any, rows: np.ndarray) -> dict[int, str] | None:
  """Returns the names of the files of examples, or None if the inputs are not in files."""
  for leaf in jax.tree.leaves(inputs):
    names = leaf[rows].names if isinstance(leaf, Column) else None
    if names is not None:
      return {int(row): str(name) for row, name in zip(rows, names, strict=True)}
  return None


def _take(inputs: Any, rows: np.ndarray) -> Any:
  """Returns some examples as NumPy arrays."""
  return jax.tree.map(lambda leaf: np.asarray(leaf[rows]), inputs)


def _read(path: pathlib.Path, kind: type[dict] | type[list]) -> Any:
  """Reads a file that the page can do without; an empty value if it is missing or damaged."""
  try:
    return read_json(path, kind)
  except (FileNotFoundError, UserError):
    return kind()
