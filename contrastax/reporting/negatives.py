"""Figures of what anchors meet: how near negatives come, how many are false, which are nearest."""

from __future__ import annotations

import numpy as np

from contrastax.views import to_float

RANKS = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
NEAREST = 8
CELL = 1.3  # the height of a picture with the text below it, where its width is 1


def hardness(ranked, path) -> None:
  """Histograms of similarity, and the rate of false negatives by rank where labels are known.

  ranked: an `evaluation.RankedNegatives`.
  """
  from matplotlib.figure import Figure  # slow to import, and needed only here

  labeled = not np.isnan(ranked.false).all()
  figure = Figure(figsize=(11 if labeled else 6, 4), layout="constrained")
  axes = figure.subplots(1, 1 + labeled, squeeze=False)[0]
  _similarities(axes[0], ranked)
  if labeled:
    _false_by_rank(axes[1], ranked.false)
  for each in axes:
    each.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3, fontsize=8, frameon=False)
  figure.savefig(path, dpi=120)


def nearest_negatives(images, ranked, rows, path) -> None:
  """Of some anchors, `rows` of `ranked`: the image, and those of the nearest negatives.

  images: [examples, h, w, c]. An example is shown once, as near as it comes; a negative that is
  none's is not shown.
  """
  from matplotlib.figure import Figure  # slow to import, and needed only here

  height = 0.65 + 1.3 * len(rows)
  figure = Figure(figsize=(1 + 1.1 * NEAREST, height))
  axes = figure.add_axes((0, 0, 1, 1 - 0.65 / height))
  for line, row in enumerate(rows):
    positive = ranked.positive[row][~np.isnan(ranked.positive[row])]
    below = f"{positive.mean():.2f}" if len(positive) else ""
    picture(axes, 0, line, images[ranked.anchor[row]], below, "C0")
    for column, place in enumerate(shown(ranked.index[row])[:NEAREST], 1):
      below = f"{ranked.negative[row, place]:.2f}"
      frame = "red" if ranked.false[row, place] == 1 else "none"
      picture(axes, column, line, images[ranked.index[row, place]], below, frame)
  arrange(axes, 1 + NEAREST, len(rows))
  said = "blue: an anchor, with the similarity of its positives; beside it its nearest negatives"
  if not np.isnan(ranked.false).all():
    said += "\nred: those of the anchor's own class, false negatives"
  figure.suptitle(said, fontsize=10)
  figure.savefig(path, dpi=120)


def shown(index):
  """The places of negatives that have a picture, each example at its first."""
  examples, first = np.unique(index, return_index=True)
  return np.sort(first[examples >= 0])


def _similarities(axes, ranked):
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


def _false_by_rank(axes, false):
  known = ~np.isnan(false)
  ranks = [rank for rank in RANKS if rank <= false.shape[1] and known[:, rank - 1].any()]
  rates = [false[known[:, rank - 1], rank - 1].mean() for rank in ranks]
  overall = np.nanmean(false, dtype=float)
  axes.semilogx(ranks, rates, marker="o", color="C3", label="negatives of this rank")
  axes.axhline(overall, color="C0", linestyle="--", label=f"all negatives, {overall:.3f}")
  axes.set_xticks(ranks, map(str, ranks))
  axes.minorticks_off()
  axes.set_ylim(0)
  axes.set_xlabel("rank of the negative, 1: the hardest")
  axes.set_ylabel("share of the anchor's class")
  axes.grid(alpha=0.3)


def picture(axes, column, row, image, below, frame, *, height: float = CELL) -> None:
  """Draws an image, a text below it and a frame of a color, in a cell of a grid.

  All pictures are drawn in one set of axes, because many sets of axes take seconds.
  """
  from matplotlib.patches import Rectangle

  image = np.asarray(to_float(image))
  high, wide = 0.9 * np.array(image.shape[:2]) / max(image.shape[:2])
  left, top = column + (1 - wide) / 2, row * height + (1 - high) / 2
  image = image if image.shape[-1] == 3 else image.mean(-1)
  extent = (left, left + wide, top + high, top)
  axes.imshow(image, extent=extent, cmap="gray", vmin=0, vmax=1)
  axes.add_patch(Rectangle((left, top), wide, high, fill=False, edgecolor=frame, linewidth=3))
  axes.text(column + 0.5, row * height + 1, below, ha="center", va="top", fontsize=9)


def arrange(axes, columns: int, rows: int, *, height: float = CELL) -> None:
  """Shows all cells of a grid of pictures, once they are drawn."""
  axes.set(xlim=(0, columns), ylim=(rows * height, 0), aspect="equal")
  axes.set_axis_off()
