"""Figures of a run, as PNG files."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from contrastax.core import UserError
from contrastax.files import read_records

COLLAPSED = 1e-5
"""Unit vectors whose entries all differ by less than this are equal up to rounding."""

LONGEST_NAME = 40
"""The number of characters of the name of a class in a legend."""


def learning_curves(metrics: pathlib.Path, path: pathlib.Path) -> None:
  """Draws the metrics of a run against the step, one panel per metric.

  Constant metrics and damaged lines are left out. If no metric changes, no file is written.

  Args:
    metrics: path of a metrics.jsonl.
    path: path of the PNG file.
  """
  from matplotlib.figure import Figure  # It is slow to import.

  series: dict[str, list[tuple[int, float]]] = {}
  for values in read_records(metrics)[0]:
    step = int(values.pop("step"))
    for name, value in values.items():
      series.setdefault(name, []).append((step, value))
  changing = {name: points for name, points in series.items() if len({v for _, v in points}) > 1}
  if not changing:
    return
  columns = 4
  rows = -(-len(changing) // columns)
  wide, high = 3.2 * columns, 2.4 * rows + 0.2
  figure = Figure(figsize=(wide, high))
  # The margins are fixed, in inches, because a layout that measures all texts takes a second.
  grid = figure.add_gridspec(
    rows, columns, left=0.6 / wide, right=1 - 0.1 / wide, bottom=0.5 / high, top=1 - 0.3 / high,
    wspace=0.25, hspace=0.35,
  )  # fmt: skip
  for place, (name, points) in enumerate(changing.items()):
    axes = figure.add_subplot(grid[place])
    axes.plot(*zip(*points, strict=True), linewidth=1, marker="." if len(points) < 20 else None)
    axes.set_title(name.replace("_", " "), fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if place >= len(changing) - columns:
      axes.set_xlabel("step", fontsize=8)
  figure.savefig(path, dpi=120)


def space_map(
  spaces: Mapping[str, ArrayLike], labels: ArrayLike, classes: Sequence[str], path: pathlib.Path
) -> dict[str, np.ndarray]:
  """Draws two-dimensional maps of several spaces of the same examples, colored by class.

  A map is t-SNE of the unit vectors, with a fixed seed. It shows which examples are neighbors. The
  distances between separate groups have no meaning. With fewer than four examples, the map consists
  of their principal components.

  Args:
    spaces: features [n, d] by title. If all unit vectors of a space are equal up to rounding, it is
      drawn as one point, and its title ends with "(collapsed)". A space with NaN or infinity has no
      points, and its title ends with "(not finite)".
    labels: [n], class numbers. Examples whose number is not in `classes` are gray.
    classes: names of the classes.
    path: path of the PNG file.

  Returns:
    {title: the points [n, 2] of the map}.

  Raises:
    UserError: there is no space, or features or labels have another shape.
  """
  from matplotlib.figure import Figure  # It is slow to import.

  if not spaces:
    raise UserError("space_map: spaces is empty; give at least one space")
  figure = Figure(figsize=(5 * len(spaces) + 1.2, 5), layout="constrained")
  colors = [f"C{i}" for i in range(10)]
  labels = np.asarray(labels)
  arrays = {title: np.asarray(features) for title, features in spaces.items()}
  for features in arrays.values():
    if features.ndim != 2 or labels.shape != features.shape[:1]:
      raise UserError(
        f"space_map: features must be [n, d] and labels [n], not {list(features.shape)} and "
        f"{list(labels.shape)}"
      )
  # Each map uses one thread, because its idle threads would spin when other maps use the cores.
  with threadpool_limits(1), ThreadPoolExecutor() as threads:
    maps = list(threads.map(_map, arrays.values()))
  drawn = {
    f"{title} ({state})" if state else title: points
    for title, (points, state) in zip(arrays, maps, strict=True)
  }
  for place, (title, points) in enumerate(drawn.items()):
    axes = figure.add_subplot(1, len(spaces), place + 1)
    axes.scatter(*points[~np.isin(labels, np.arange(len(classes)))].T, s=9, color="0.7")
    for label in range(len(classes)):
      members = points[labels == label]
      marker = "o^sD"[label // 10 % 4]
      axes.scatter(*members.T, s=9, color=colors[label % 10], marker=marker, label=str(label))
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
  if len(classes) <= 40:
    entries = figure.axes[-1].get_legend_handles_labels()
    legend = figure.legend(*entries, loc="outside right center", fontsize=8, markerscale=2)
    # A name may contain $, which starts a formula, or start with _, which hides a label.
    for text, name in zip(legend.get_texts(), classes, strict=True):
      text.set(
        text=name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "…", parse_math=False
      )
  figure.savefig(path, dpi=120)
  return drawn


def _map(features: np.ndarray) -> tuple[np.ndarray, str]:
  """Returns the points [n, 2] of a map of features [n, d], and a note for its title, or ""."""
  from sklearn.manifold import TSNE  # It is slow to import.

  features = features.astype(np.float64)
  n, d = features.shape
  if not np.isfinite(features).all():
    return np.full((n, 2), np.nan), "not finite"
  # Without the division by the largest entry, squares could overflow.
  largest = np.abs(features).max(1, keepdims=True, initial=0)
  unit = features / np.where(largest > 0, largest, 1)
  unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
  # t-SNE starts at the principal components, and divides by the deviation of the first one.
  if not n or np.ptp(unit, 0).max(initial=0) < COLLAPSED:
    return np.zeros((n, 2)), "collapsed" if n > 1 else ""
  # scikit-learn would center in float32, by a less accurate formula.
  centered = np.pad(unit - unit.mean(0), ((0, 0), (0, max(0, 2 - d))))
  if n < 4:
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    return (u * s)[:, :2], ""
  tsne = TSNE(perplexity=min(30, (n - 1) / 3), init="pca", random_state=0)
  return tsne.fit_transform(centered.astype(np.float32)), ""
