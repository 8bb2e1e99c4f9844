"""Figures of a run's temperatures: how they moved, where they are, and whose are the extreme ones."""

from __future__ import annotations

import pathlib

import numpy as np

from contrastax.files import read_records
from contrastax.reporting.negatives import arrange, picture

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
PICTURED = 8


def temperatures(metrics: pathlib.Path, each: dict, bounds, path: pathlib.Path) -> None:
  """The temperature over a run, the effective number of negatives, and a histogram at its end.

  metrics: a metrics.jsonl, with `temperature` and `effective_negatives`, and of individual ones
  `eval/temperature_q05` … `q95`. each: {name: [n], each example's temperature}, of two modalities
  two of them; {} where all have one. bounds: (smallest, largest), or None.
  """
  from matplotlib.figure import Figure  # slow to import, and needed only here

  lines, _ = read_records(metrics)
  figure = Figure(figsize=(5 * (2 + bool(each)), 4), layout="constrained")
  over, negatives, *last = figure.subplots(1, 2 + bool(each))
  _line(over, lines, "temperature", "mean of the batch")
  spans = [(a, b) for a, b in (("q05", "q95"), ("q25", "q75"))] if each else []
  for low, high in spans:
    steps, a = _series(lines, f"eval/temperature_{low}")
    _, b = _series(lines, f"eval/temperature_{high}")
    share = f"{int(low[1:])} to {int(high[1:])} % of all examples"
    over.fill_between(steps, a, b, color="C0", alpha=0.2, label=share)
  _bounds(over.axhline, bounds if each else None)
  over.set_ylabel("temperature")
  over.set_ylim(0)
  _line(negatives, lines, "effective_negatives", "perplexity of an anchor's softmax")
  _line(negatives, lines, "negatives", "its negatives")
  negatives.set_ylabel("negatives")
  negatives.set_yscale("log")
  negatives.set_ylim(1)
  for axes in (over, negatives):
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
  for axes in last:
    bins = np.histogram_bin_edges(np.concatenate(list(each.values())), 50)
    for name, values in each.items():
      axes.hist(values, bins, alpha=0.5, label=f"{name}, median {np.median(values):.3f}")
    _bounds(axes.axvline, bounds)
    axes.set_xlabel("temperature of an example, at the end")
    axes.set_ylabel("examples")
  for axes in figure.axes:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=8, frameon=False)
  figure.savefig(path, dpi=120)


def extreme_temperatures(images, each, path: pathlib.Path, *, names=None) -> None:
  """The examples of the smallest and of the largest temperatures, as pictures.

  images: [n, h, w, c]. each: [n]. names: [n], what to call an example, such as its class.
  """
  from matplotlib.figure import Figure  # slow to import, and needed only here

  order = np.argsort(each, kind="stable")
  count = min(PICTURED, len(order))
  rows = {"smallest": order[:count], "largest": order[-count:][::-1]}
  figure = Figure(figsize=(1.1 * count, 3.6))
  axes = figure.add_axes((0, 0, 1, 0.9))
  for row, chosen in enumerate(rows.values()):
    for column, place in enumerate(chosen):
      called = "" if names is None else f"\n{names[place]}"
      below = f"{each[place]:.3f}{called}"
      picture(axes, column, row, images[place], below, "none", height=1.5)
  arrange(axes, count, len(rows), height=1.5)
  figure.suptitle("the smallest temperatures, and below them the largest", fontsize=10)
  figure.savefig(path, dpi=120)


def _series(lines, name):
  found = [(line["step"], line[name]) for line in lines if name in line]
  return zip(*found, strict=True) if found else ((), ())


def _line(axes, lines, name, label):
  steps, values = _series(lines, name)
  axes.plot(steps, values, linewidth=1, label=label)


def _bounds(draw, bounds):
  for bound in bounds or ():
    if np.isfinite(bound):
      draw(bound, color="C3", linestyle="--", linewidth=1)
