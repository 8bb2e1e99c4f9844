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
"""A space whose unit vectors differ by less in every entry is one point, but for rounding."""


def learning_curves(metrics: pathlib.Path, path: pathlib.Path) -> None:
  """Draws each metric of a metrics.jsonl that changes against the step, a panel each.

  Damaged lines are left out.
  """
  from matplotlib.figure import Figure  # slow to import, and needed only here

  series: dict[str, list[tuple[int, float]]] = {}
  for values in read_records(metrics)[0]:
    step = int(values.pop("step"))
    for name, value in values.items():
      series.setdefault(name, []).append((step, value))
  moving = {name: points for name, points in series.items() if len({v for _, v in points}) > 1}
  columns = 4
  rows = max(1, -(-len(moving) // columns))
  wide, high = 3.2 * columns, 2.4 * rows + 0.2
  figure = Figure(figsize=(wide, high))
  # Margins in inches, because a layout that measures all texts takes a second.
  grid = figure.add_gridspec(
    rows, columns, left=0.6 / wide, right=1 - 0.1 / wide, bottom=0.5 / high, top=1 - 0.3 / high,
    wspace=0.25, hspace=0.35,
  )  # fmt: skip
  for place, (name, points) in enumerate(moving.items()):
    axes = figure.add_subplot(grid[place])
    axes.plot(*zip(*points, strict=True), linewidth=1, marker="." if len(points) < 20 else None)
    axes.set_title(name.replace("_", " "), fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if place >= len(moving) - columns:
      axes.set_xlabel("step", fontsize=8)
  figure.savefig(path, dpi=120)


def space_map(
  spaces: Mapping[str, ArrayLike], labels: ArrayLike, classes: Sequence[str], path: pathlib.Path
) -> None:
  """2-D maps of several spaces of the same examples, side by side, colored by class.

  The map is t-SNE of the unit vectors, with a fixed seed. Distances between far groups mean
  nothing in such a map; which examples are neighbors does.

  Args:
    spaces: {title: features [n, d]}. A space whose unit vectors are all equal up to rounding is
      drawn as one point, and its title says that it has collapsed. One with NaN or infinity has no
      points, and its title says so. Fewer than 4 examples are drawn by their principal components.
    labels: [n], class numbers. An example whose number is none of `classes` is gray.
    classes: the classes' names.
    path: of the PNG file.

  Raises:
    UserError for features and labels of another shape.
  """
  from matplotlib.figure import Figure  # slow to import, and needed only here

  if not spaces:
    raise UserError("space_map needs at least one space; spaces is empty")
  figure = Figure(figsize=(5 * len(spaces) + 1.2, 5), layout="constrained")
  colors = [f"C{i}" for i in range(10)]
  labels = np.asarray(labels)
  spaces = {title: np.asarray(features) for title, features in spaces.items()}
  for features in spaces.values():
    if features.ndim != 2 or labels.shape != features.shape[:1]:
      raise UserError(
        f"space_map: features are [n, d] and labels [n], not {list(features.shape)} and "
        f"{list(labels.shape)}"
      )
  # One thread for each map: within a map, waiting threads spin when other work has the cores.
  with threadpool_limits(1), ThreadPoolExecutor() as threads:
    maps = list(threads.map(_map, spaces.values()))
  for place, (title, (points, state)) in enumerate(zip(spaces, maps, strict=True)):
    axes = figure.add_subplot(1, len(spaces), place + 1)
    axes.scatter(*points[~np.isin(labels, np.arange(len(classes)))].T, s=9, color="0.7")
    for label, name in enumerate(classes):
      mine = points[labels == label]
      marker = "o^sD"[label // 10 % 4]
      axes.scatter(*mine.T, s=9, color=colors[label % 10], marker=marker, label=name)
    axes.set_title(f"{title} ({state})" if state else title)
    axes.set_xticks([])
    axes.set_yticks([])
  if len(classes) <= 40:
    handles, names = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=8, markerscale=2)
  figure.savefig(path, dpi=120)


def _map(features):
  """(points [n, 2] of features [n, d], what a title must say of them or "")."""
  from sklearn.manifold import TSNE  # slow to import, and needed only here

  features = features.astype(np.float64)
  n, d = features.shape
  if not np.isfinite(features).all():
    return np.full((n, 2), np.nan), "not finite"
  largest = np.abs(features).max(1, keepdims=True, initial=0)  # its square could overflow
  unit = features / np.where(largest > 0, largest, 1)
  unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
  # Initialized by the principal components, t-SNE divides by the first one's deviation.
  if not n or np.ptp(unit, 0).max(initial=0) < COLLAPSED:
    return np.zeros((n, 2)), "collapsed" if n > 1 else ""
  # Centered here: scikit-learn does it in float32 by a difference of squares.
  centered = np.pad(unit - unit.mean(0), ((0, 0), (0, max(0, 2 - d))))
  if n < 4:
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    return (u * s)[:, :2], ""
  tsne = TSNE(perplexity=min(30, (n - 1) / 3), init="pca", random_state=0)
  return tsne.fit_transform(centered.astype(np.float32)), ""
