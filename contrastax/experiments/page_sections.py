"""The sections of report.html that show the files of a run."""

from __future__ import annotations

import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from contrastax.experiments.findings import ROW_NAMES
from contrastax.experiments.paired import differences
from contrastax.experiments.schema import flat
from contrastax.reporting import gallery, svg
from contrastax.reporting.html import Content, Element, element, facts, scroll, table

COLUMNS = {
  "knn": "accuracy of a vote of the 20 nearest training examples",
  "linear_1": "accuracy of a linear probe with 1 label per class, mean over 20 draws of the labels",
  "linear_5": "the same with 5 labels per class",
  "linear": "accuracy of a linear probe with all labels",
}
GEOMETRY = {
  "alignment": "mean squared distance of two views of one example; lower is more invariant",
  "uniformity": "how evenly the embeddings fill the sphere; lower is more even",
  "effective_rank": "how many dimensions the embeddings use; 1 is a collapse",
  "embedding_std": "the spread, relative to a uniform sphere; 0 is a collapse",
  "tolerance": "mean cosine of two examples of one class",
  "lidar": "how many dimensions separate examples from one another, in spite of their views",
}
METRICS = {
  "loss": "what training minimizes",
  "gradient_norm": "size of the gradient",
  "margin": "logit of the positives above that of the negatives; 0 has learned nothing",
  "similarity": "mean similarity of positives",
  "negatives": "negatives of each anchor",
  "effective_negatives": "negatives that carry the softmax's weight",
  "temperature": "mean temperature of the batch",
  "images_per_sec": "speed",
  "online_accuracy": "accuracy of the online probe",
  "eval/knn": "kNN accuracy on training examples",
} | {f"eval/{name}": f"{text} (training examples)" for name, text in GEOMETRY.items()}
CHARTS = {
  "negatives": {
    "negatives.png": "Histograms of the similarities of negatives and positives; with labels, also the "
    "share of false negatives by rank.",
    "nearest_negatives.png": "Some anchors with their most similar negatives, each with its similarity.",
  },
  "temperatures": {
    "temperatures.png": "The temperature and the number of negatives over the run.",
    "extreme_temperatures.png": "The examples with the smallest and with the largest temperatures.",
  },
}
PROTOCOLS = {
  "probes": "kNN and linear probes, accuracy (± 95 % over draws of the labels)",
  "retrieval": "Retrieval among the test examples",
  "geometry": "Geometry of the test examples' space",
  "fine_tune": "Fine-tuning, accuracy by share of the labels (± 95 % over seeds)",
}
DEFINITIONS = "https://github.com/contrastax/contrastax/blob/main/docs/evaluation.md"
MAX_RECORDS = 400  # The number of points of a learning curve.


def results(summary: Mapping[str, Any]) -> list[Content]:
  """Returns the tables of the run, and the differences of their rows."""
  rows, partners = summary["table"], summary.get("partners")
  retrieved = partners and table(
    partners["recall"],
    f"Retrieval of the partner, the other input of the same example, among the distinct inputs of "
    f"{partners['examples']:,} {summary['judged_on']} examples: the share of inputs whose partner is "
    "among the nearest k, by cosine.",
  )
  if not rows:
    return [
      retrieved,
      element(
        "p",
        "The data have no labels, so there are no probes. With labels for some examples, probes tell "
        "how well the classes can be read from the embeddings.",
      ),
    ]
  half = summary["half_intervals"]
  shown = {
    row: {
      name: {"mean": value, "half_interval": half[row][name]} if name in half[row] else value
      for name, value in columns.items()
    }
    for row, columns in rows.items()
  }
  best = {}
  for name in rows["trained"]:
    known = {row: values[name] for row, values in rows.items() if values[name] is not None}
    best[name] = [row for row, value in known.items() if value == max(known.values())]
  caption = (
    f"Accuracy on the {summary['judged_on']} examples, from frozen embeddings. ± is half of a 95 % "
    "interval over draws of the labels."
  )
  found = {
    f"trained − {row}": differences(summary, "trained", summary, row)
    for row in ROW_NAMES
    if row in rows
  }
  compared = {
    name: {row: columns[name].text() for row, columns in found.items() if name in columns}
    for name in rows["trained"]
  }
  return [
    retrieved,
    table(shown, caption, best=best),
    table(
      compared,
      "Differences with 95 % intervals: draw by draw for linear_1 and linear_5, and example by example "
      "for knn and linear. An interval without 0 is a clear difference.",
    ),
    facts(COLUMNS),
  ]


def geometry(summary: Mapping[str, Any]) -> list[Content]:
  """Returns the geometry of the spaces, with the meaning of each measure."""
  rows = summary["geometry"]
  if all(row.get("alignment") == 0 for row in rows.values()):
    # The two views of an example are equal: the method has no random views.
    rows = {
      row: {name: value for name, value in values.items() if name != "alignment"}
      for row, values in rows.items()
    }
  names = [name for name in GEOMETRY if name in rows["trained"]]
  return [
    table(rows, f"Geometry of the embeddings of {summary['judged_on']} examples"),
    facts({name: GEOMETRY[name] for name in names}),
  ]


def measured(evaluation: Mapping[str, Any], steps: int) -> list[Content]:
  """Returns the tables of evaluation.json; nothing if there is no such file."""
  if not evaluation:
    return []
  if evaluation.get("step") != steps:
    return [
      element(
        "p",
        f"evaluation.json is of step {evaluation.get('step')}, and the run has {steps} steps. Run "
        "contrastax evaluate again.",
      )
    ]
  tables = [
    table(evaluation[name], title) for name, title in PROTOCOLS.items() if name in evaluation
  ]
  transfer = evaluation.get("transfer", {})
  tables += [
    table(transfer[name], f"Transfer to {transfer['data']}: {title}")
    for name, title in PROTOCOLS.items()
    if name in transfer
  ]
  cka = evaluation.get("cka")
  return [
    *tables,
    cka
    and element(
      "p",
      f"Linear CKA with the run {cka['against']} (step {cka['step']}): {cka['cka']:.3f}; unbiased "
      f"estimate {cka['unbiased']:.3f}.",
    ),
    element(
      "p", "Each measurement is defined in ", element("a", DEFINITIONS, href=DEFINITIONS), "."
    ),
  ]


def too_few(records: Sequence[Mapping[str, float]], config: Mapping[str, Any]) -> Element | None:
  """Returns a sentence if the loss has fewer than two records, which no curve can show, else None.

  Args:
    records: the records of metrics.jsonl.
    config: the completed config.
  """
  count, steps = sum("loss" in record for record in records), config["steps"]
  if count > 1:
    return None
  recorded = "recorded once" if count else "not recorded"
  return element(
    "p",
    f"The metrics of training were {recorded}, and a curve needs two records or more: the run has "
    f"{steps:,} steps, and log_every is {config['log_every']:,}. For curves, run again with "
    f"--config.log_every={max(1, steps // 10)} in another --workdir.",
  )


def curves(records: Sequence[Mapping[str, float]], config: Mapping[str, Any]) -> list[Content]:
  """Returns a figure of each metric that changes during the run.

  Args:
    records: the records of metrics.jsonl.
    config: the completed config.
  """
  series: dict[str, list[tuple[float, float]]] = {}
  for record in records:
    for name, value in record.items():
      if name != "step":
        series.setdefault(name, []).append((record["step"], value))
  figures = []
  for name, points in sorted(series.items(), key=lambda item: (item[0] != "loss", item[0])):
    if len({value for _, value in points}) < 2:
      continue
    every = -(-len(points) // MAX_RECORDS)
    # The last point is always drawn.
    points = points[(len(points) - 1) % every :: every]
    meaning = METRICS.get(name)
    figures.append(
      element(
        "figure",
        element("h3", name),
        svg.curve([step for step, _ in points], [value for _, value in points], name),
        element("figcaption", meaning) if meaning else None,
      )
    )
  fault = too_few(records, config)
  if not figures:
    return [fault or element("p", "No metric changed during the run.")]
  return [fault, element("div", figures, class_="curves")]


def map_of(points: Mapping[str, Any], labels: Any, classes: Sequence[str]) -> list[Content]:
  """Returns the maps of the spaces, with their legend; nothing without points."""
  maps = [
    element(
      "figure", element("h3", title), svg.scatter(each, labels, classes or ("examples",), title)
    )
    for title, each in points.items()
  ]
  if not maps:
    return []
  return [
    element(
      "p",
      "Each point is an evaluated example, placed by t-SNE such that neighbors in the space are neighbors on "
      "the map. The distances between separate groups have no meaning.",
    ),
    element("div", maps, class_="maps"),
    svg.legend(classes),
  ]


def charts(workdir: pathlib.Path, summary: Mapping[str, Any], name: str) -> list[Content]:
  """Returns the figures and the numbers of the negatives or of the temperatures of a run."""
  content: list[Content] = []
  for file, text in CHARTS[name].items():
    path = workdir / "figures" / file
    if file in summary["figures"] and path.is_file():
      picture = scroll(gallery.figure(path.read_bytes(), text), text)
      content.append(element("figure", picture, element("figcaption", text)))
  values = summary.get(name)
  if values:
    shown = {key: "–" if value is None else svg.number(value) for key, value in values.items()}
    content.append(facts({key.replace("_", " "): value for key, value in shown.items()}))
  return content


def settings(config: Mapping[str, Any]) -> list[Content]:
  """Returns all keys of the config."""
  keys = flat(config)
  rows = [
    element("tr", element("th", key, scope="row"), element("td", element("code", repr(value))))
    for key, value in keys.items()
  ]
  listed = scroll(element("table", element("tbody", rows), class_="text"), "Keys of the config")
  return [
    element("p", "Any key can be changed by --config.KEY=VALUE."),
    element("details", element("summary", f"All {len(keys)} keys with their values"), listed),
  ]


def circumstances(processes: Sequence[Mapping[str, Any]], seconds: float) -> list[Content]:
  """Returns the processes of the run: commands, times, versions, devices and machines.

  Args:
    processes: the content of run.json.
    seconds: the time that training took in the last process that trained.
  """
  listed = [_process(process) for process in processes]
  content: list[Content] = [*listed[-1:], facts({"training": f"{seconds:,.1f} s"})]
  if len(listed) > 1:
    count = "1 earlier process" if len(listed) == 2 else f"{len(listed) - 1} earlier processes"
    text = f"The run was started again by the same command: {count}"
    content.append(element("details", element("summary", text), listed[:-1]))
  return content


def _process(process: Mapping[str, Any]) -> Element:
  versions = process.get("versions") or {}
  return facts(
    {
      "command": element("code", str(process.get("command"))),
      "started": str(process.get("time")),
      "contrastax": str(process.get("contrastax")),
      "commit": str(process.get("commit") or "not known: an installed package"),
      "python": str(process.get("python")),
      "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
      "devices": ", ".join(map(str, process.get("devices") or ())),
      "machine": str(process.get("machine")),
    }
  )


def usage(workdir: pathlib.Path) -> list[Content]:
  """Returns the lines that load the encoder and that evaluate the run."""
  place = str(workdir)
  lines = (
    "import contrastax\n\n"
    f"encode = contrastax.load({json.dumps(place, ensure_ascii=False)})\n"
    "embeddings = encode(inputs)  # [n, d], NumPy float32"
  )
  command = f"contrastax evaluate {shlex.quote(place)}"
  return [
    element("p", "In Python:"),
    element("pre", element("code", lines)),
    element("p", "All measurements, which are then added to this page:"),
    element("pre", element("code", command)),
  ]
