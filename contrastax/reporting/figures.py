"""Figures of a run, as PNG files."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from contrastax.files import read_records


def learning_curves(metrics: pathlib.Path, path: pathlib.Path) -> None:
  """Draws each metric of a metrics.jsonl that changes against the step, a panel each.

  Damaged lines are left out.
  """
  series: dict[str, list[tuple[int, float]]] = {}
  for values in read_records(metrics)[0]:
    step = int(values.pop("step"))
    for name, value in values.items():
      series.setdefault(name, []).append((step, value))
  moving = {name: points for name, points in series.items() if len({v for _, v in points}) > 1}
  columns = 4
  rows = -(-len(moving) // columns)
  figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
  for place, (name, points) in enumerate(moving.items()):
    axes = figure.add_subplot(rows, columns, place + 1)
    axes.plot(*zip(*points, strict=True), linewidth=1, marker="." if len(points) < 20 else None)
    axes.set_title(name.replace("_", " "), fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if place >= len(moving) - columns:
      axes.set_xlabel("step", fontsize=8)
  figure.savefig(path, dpi=120)


def space_map(spaces: dict[str, np.ndarray], labels, classes, path: pathlib.Path) -> None:
  """2-D maps of several spaces of the same examples, side by side, coloured by class.

  `spaces`: {title: features [n, d]}, n ≥ 3; t-SNE of the unit vectors, with a fixed seed.
  Distances between far groups mean nothing in such a map; who is whose neighbour does.
  """
  from sklearn.manifold import TSNE  # slow to import, and needed only here

  figure = Figure(figsize=(5 * len(spaces) + 1.2, 5), layout="constrained")
  colours = [f"C{i}" for i in range(10)]
  for place, (title, features) in enumerate(spaces.items()):
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    perplexity = min(30, (len(unit) - 1) / 3)
    with threadpool_limits(1):  # waiting threads spin when other work has the cores
      points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(unit)
    axes = figure.add_subplot(1, len(spaces), place + 1)
    for label, name in enumerate(classes):
      mine = points[labels == label]
      marker = "o^sD"[label // 10 % 4]
      axes.scatter(*mine.T, s=9, color=colours[label % 10], marker=marker, label=name)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
  if len(classes) <= 40:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=8, markerscale=2)
  figure.savefig(path, dpi=120)
