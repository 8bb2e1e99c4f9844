"""Figures of the temperatures of a run."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from contrastax.files import read_records
from contrastax.reporting.negatives import arrange, picture

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
"""The quantiles of individual temperatures that a run records, by name."""
PICTURES = 8  # The number of examples in a row of pictures.


def temperatures(
  metrics: pathlib.Path,
  each: Mapping[str, np.ndarray],
  bounds: tuple[float, float] | None,
  path: pathlib.Path,
) -> None:
  """Draws the temperature and the number of negatives over a run, and a histogram of temperatures.

  A curve needs two records. Without curves and individual temperatures, no file is written.

  Args:
    metrics: path of a metrics.jsonl with `temperature` and `effective_negatives`, and for individual
      temperatures `eval/temperature_q05` … `eval/temperature_q95`.
    each: the temperatures of all examples [n] by name, such as one per modality. If the run has one
      temperature, it is empty, and the histogram is left out.
    bounds: the smallest and the largest temperature, or None.
    path: path of the PNG file.
  """
  from matplotlib.figure import Figure  # It is slow to import.

  lines, _ = read_records(metrics)
  panels: list[Callable[[Any], None]] = []
  if len(_series(lines, "temperature")[0]) > 1:
    panels.append(lambda axes: _temperature(axes, lines, bounds if each else None, bool(each)))
  if len(_series(lines, "effective_negatives")[0]) > 1:
    panels.append(lambda axes: _negatives(axes, lines))
  if each:
    panels.append(lambda axes: _histogram(axes, each, bounds))
  if not panels:
    return
  figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
  for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
    draw(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=9, frameon=False)
  figure.savefig(path, dpi=120)


def _temperature(
  axes: Any, lines: list[dict[str, float]], bounds: tuple[float, float] | None, individual: bool
) -> None:
  """Draws the temperature against the step; with `individual`, also the quantiles of all examples."""
  _line(axes, lines, "temperature", "mean of the batch")
  spans = [(a, b) for a, b in (("q05", "q95"), ("q25", "q75"))] if individual else []
  for low, high in spans:
    steps, a = _series(lines, f"eval/temperature_{low}")
    _, b = _series(lines, f"eval/temperature_{high}")
    share = f"{int(low[1:])} to {int(high[1:])} % of all examples"
    axes.fill_between(steps, a, b, color="C0", alpha=0.2, label=share)
  _bounds(axes.axhline, bounds)
  axes.set(xlabel="step", ylabel="temperature", ylim=(0, None))
  axes.grid(alpha=0.3)


def _negatives(axes: Any, lines: list[dict[str, float]]) -> None:
  """Draws the number of negatives against the step."""
  _line(axes, lines, "effective_negatives", "effective: perplexity of the softmax")
  _line(axes, lines, "negatives", "all")
  axes.set(xlabel="step", ylabel="negatives", yscale="log", ylim=(1, None))
  axes.grid(alpha=0.3)


def _histogram(
  axes: Any, each: Mapping[str, np.ndarray], bounds: tuple[float, float] | None
) -> None:
  """Draws a histogram of the temperatures of all examples."""
  bins = np.histogram_bin_edges(np.concatenate(list(each.values())), 50)
  for name, values in each.items():
    axes.hist(values, bins, alpha=0.5, label=f"{name}, median {np.median(values):.3f}")
  _bounds(axes.axvline, bounds)
  axes.set(xlabel="temperature of an example at the end", ylabel="examples")


def extreme_temperatures(
  images: Any, each: np.ndarray, path: pathlib.Path, *, names: Sequence[str] | None = None
) -> None:
  """Draws the examples with the smallest and with the largest temperatures, as pictures.

  Args:
    images: [n, h, w, c], uint8 or float in [0, 1].
    each: [n], the temperatures.
    path: path of the PNG file.
    names: [n], the text below each example, such as its class. None writes no names.
  """
  from matplotlib.figure import Figure  # It is slow to import.

  order = np.argsort(each, kind="stable")
  count = min(PICTURES, len(order))
  rows = {"smallest": order[:count], "largest": order[-count:][::-1]}
  figure = Figure(figsize=(1.1 * count, 3.6))
  axes = figure.add_axes((0, 0, 1, 0.9))
  for row, chosen in enumerate(rows.values()):
    for column, place in enumerate(chosen):
      name = "" if names is None else f"\n{names[place]}"
      caption = f"{each[place]:.3f}{name}"
      picture(axes, column, row, images[place], caption, "none", height=1.5)
  arrange(axes, count, len(rows), height=1.5)
  figure.suptitle("top: the smallest temperatures; bottom: the largest", fontsize=10)
  figure.savefig(path, dpi=120)


def _series(lines: list[dict[str, float]], name: str) -> tuple[Sequence[float], Sequence[float]]:
  """Returns the steps and the values of a metric."""
  records = [(line["step"], line[name]) for line in lines if name in line]
  return [step for step, _ in records], [value for _, value in records]


def _line(axes: Any, lines: list[dict[str, float]], name: str, label: str) -> None:
  steps, values = _series(lines, name)
  axes.plot(steps, values, linewidth=1, label=label)


def _bounds(draw: Callable[..., object], bounds: tuple[float, float] | None) -> None:
  for bound in bounds or ():
    if np.isfinite(bound):
      draw(bound, color="C3", linestyle="--", linewidth=1)
