"""Figures of the negatives: their similarities, the rate of false negatives, and pictures."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastax.views import to_float

if TYPE_CHECKING:
  from contrastax.evaluation.negatives import RankedNegatives

RANKS = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
NEAREST = 8  # The number of negatives that are shown for each anchor.
CELL = 1.3  # The height of a cell with a picture and its caption; the width is 1.


def hardness(ranked: RankedNegatives, path: pathlib.Path) -> None:
  """Draws histograms of the similarities, and the rate of false negatives by rank.

  The rate is drawn if labels are known.

  Args:
    ranked: the negatives, from `evaluation.ranked_negatives`.
    path: path of the PNG file.
  """
  from matplotlib.figure import Figure  # It is slow to import.

  labeled = not np.isnan(ranked.false).all()
  figure = Figure(figsize=(11 if labeled else 6, 4), layout="constrained")
  axes = figure.subplots(1, 1 + labeled, squeeze=False)[0]
  _similarities(axes[0], ranked)
  if labeled:
    _false_by_rank(axes[1], ranked.false)
  for each in axes:
    each.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3, fontsize=9, frameon=False)
  figure.savefig(path, dpi=120)


def nearest_negatives(
  images: Any, ranked: RankedNegatives, rows: Sequence[int] | np.ndarray, path: pathlib.Path
) -> None:
  """Draws some anchors with their nearest negatives, as pictures.

  An example is shown once, at its highest rank. Negatives that belong to no example are not shown.

  Args:
    images: [examples, h, w, c], uint8 or float in [0, 1].
    ranked: the negatives, from `evaluation.ranked_negatives`.
    rows: the rows of `ranked` that are drawn.
    path: path of the PNG file.
  """
  from matplotlib.figure import Figure  # It is slow to import.

  height = 0.65 + 1.3 * len(rows)
  figure = Figure(figsize=(1 + 1.1 * NEAREST, height))
  axes = figure.add_axes((0, 0, 1, 1 - 0.65 / height))
  for grid_row, row in enumerate(rows):
    positive = ranked.positive[row][~np.isnan(ranked.positive[row])]
    caption = f"{positive.mean():.2f}" if len(positive) else ""
    picture(axes, 0, grid_row, images[ranked.anchor[row]], caption, "C0")
    for column, place in enumerate(shown(ranked.index[row])[:NEAREST], 1):
      caption = f"{ranked.negative[row, place]:.2f}"
      frame = "red" if ranked.false[row, place] == 1 else "none"
      picture(axes, column, grid_row, images[ranked.index[row, place]], caption, frame)
  arrange(axes, 1 + NEAREST, len(rows))
  title = (
    "blue: an anchor, with the similarity of its positives; right of it: its nearest negatives"
  )
  if not np.isnan(ranked.false).all():
    title += "\nred: false negatives, of the anchor's own class"
  figure.suptitle(title, fontsize=10)
  figure.savefig(path, dpi=120)


def shown(index: np.ndarray) -> np.ndarray:
  """Returns the positions of the negatives that are drawn: the first negative of each example."""
  examples, first = np.unique(index, return_index=True)
  return np.sort(first[examples >= 0])


def _similarities(axes: Any, ranked: RankedNegatives) -> None:
  kinds = {
    "negatives": (ranked.negative, "C0"),
    "hardest of each anchor": (ranked.negative[:, 0], "C3"),
    "positives": (ranked.positive, "C2"),
  }
  kinds = {name: (x[~np.isnan(x)], color) for name, (x, color) in kinds.items()}
  everything = np.concatenate([x for x, _ in kinds.values()])
  bins = np.histogram_bin_edges(everything, 60) if len(everything) else 1
  for name, (x, color) in kinds.items():
    if len(x):
      label = f"{name}, mean {x.mean(dtype=float):.2f}"
      axes.hist(x, bins, density=True, color=color, alpha=0.4, label=label)
      axes.axvline(x.mean(dtype=float), color=color, linestyle="--")
  axes.set_xlabel("similarity")
  axes.set_ylabel("density")


def _false_by_rank(axes: Any, false: np.ndarray) -> None:
  known = ~np.isnan(false)
  ranks = [rank for rank in RANKS if rank <= false.shape[1] and known[:, rank - 1].any()]
  rates = [false[known[:, rank - 1], rank - 1].mean() for rank in ranks]
  overall = np.nanmean(false, dtype=float)
  axes.semilogx(ranks, rates, marker="o", color="C3", label="negatives of this rank")
  axes.axhline(overall, color="C0", linestyle="--", label=f"all negatives, {overall:.3f}")
  axes.set_xticks(ranks, map(str, ranks))
  axes.minorticks_off()
  axes.set_ylim(0)
  axes.set_xlabel("rank of the negative (1 is the hardest)")
  axes.set_ylabel("share of false negatives")
  axes.grid(alpha=0.3)


def picture(
  axes: Any, column: int, row: int, image: Any, caption: str, frame: str, *, height: float = CELL
) -> None:
  """Draws an image with a caption and a frame in a cell of a grid.

  All pictures share one set of axes, because drawing many sets of axes takes seconds.

  Args:
    axes: the axes of matplotlib.
    column: column of the cell.
    row: row of the cell.
    image: [h, w, c], uint8 or float in [0, 1].
    caption: text below the image.
    frame: color of the frame, or "none".
    height: height of a cell; its width is 1.
  """
  from matplotlib.patches import Rectangle

  image = np.asarray(to_float(image))
  high, wide = 0.9 * np.array(image.shape[:2]) / max(image.shape[:2])
  left, top = column + (1 - wide) / 2, row * height + (1 - high) / 2
  image = image if image.shape[-1] == 3 else image.mean(-1)
  extent = (left, left + wide, top + high, top)
  axes.imshow(image, extent=extent, cmap="gray", vmin=0, vmax=1)
  axes.add_patch(Rectangle((left, top), wide, high, fill=False, edgecolor=frame, linewidth=3))
  axes.text(column + 0.5, row * height + 1, caption, ha="center", va="top", fontsize=9)


def arrange(axes: Any, columns: int, rows: int, *, height: float = CELL) -> None:
  """Sets the limits of the axes to the grid of the pictures drawn with `picture`."""
  axes.set(xlim=(0, columns), ylim=(rows * height, 0), aspect="equal")
  axes.set_axis_off()
