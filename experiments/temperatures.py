"""What a run says of its temperatures: of each example's, while it trains and at its end."""

from __future__ import annotations

import pathlib

import numpy as np

from contrastax import reporting
from contrastax.reporting.temperatures import QUANTILES
from experiments.figures import figure


def measure(method, state) -> dict[str, float]:
  """Quantiles of individual temperatures, and the share of them at a bound; of others nothing."""
  each = np.concatenate([*_each(method, state).values(), []])
  if not len(each):
    return {}
  low, high = _bounds(method)
  metrics = {f"temperature_{name}": float(np.quantile(each, q)) for name, q in QUANTILES.items()}
  return {**metrics, "at_bound": float(((each <= low) | (each >= high)).mean())}


def report(parts, state, workdir: pathlib.Path, figures: pathlib.Path) -> dict:
  """Draws the figures, of a method that has a temperature; returns the summary's entry."""
  each, bounds = _each(parts.method, state), _bounds(parts.method)
  with figure(figures / "temperatures.png") as path:
    reporting.temperatures(workdir / "metrics.jsonl", each, bounds, path)
  arrays = parts.dataset.train
  first = next(iter(each.values()), None)
  if first is not None and arrays["image"].ndim == 4:
    with figure(figures / "extreme_temperatures.png") as path:
      names = None
      if "label" in arrays:
        names = [str(parts.dataset.classes[label]) for label in arrays["label"]]
      reporting.extreme_temperatures(arrays["image"], first, path, names=names)
  return measure(parts.method, state)


def _each(method, state):
  """{whose: [n]}: {} where all examples have one temperature."""
  if not hasattr(getattr(method, "temperature", None), "each"):
    return {}
  values = np.asarray(method.temperature.each(state.state["temperature"]))
  names = getattr(method, "inputs", ("examples",))  # of Clip, each of its two inputs
  return dict(zip(names, np.split(values, len(names)), strict=True))


def _bounds(method):
  found = (getattr(method.temperature, name, None) for name in ("smallest", "largest"))
  low, high = found
  return None if low is None else (low, high)
