"""What a run says of its temperatures: of each example's, while it trains and at its end."""

from __future__ import annotations

import pathlib

import numpy as np

from contrastax import reporting
from contrastax.experiments.build import inputs_of
from contrastax.experiments.figures import figure, is_images
from contrastax.methods import CLIP, Multiview
from contrastax.methods.base import MAIN, all_terms
from contrastax.reporting.temperatures import QUANTILES
from contrastax.terms import Contrast


def measure(method, state) -> dict[str, float]:
  """Quantiles of individual temperatures, and the share of them at a bound; of others nothing."""
  each = np.concatenate([*_each(method, state).values(), []])
  if not len(each):
    return {}
  low, high = _temperature(method).bounds
  metrics = {f"temperature_{name}": float(np.quantile(each, q)) for name, q in QUANTILES.items()}
  return {**metrics, "at_bound": float(((each <= low) | (each >= high)).mean())}


def report(parts, state, workdir: pathlib.Path, figures: pathlib.Path) -> dict | None:
  """Draws the figures; returns the summary's entry, None for a method without a temperature."""
  temperature = _temperature(parts.method)
  if temperature is None:
    return None
  each = _each(parts.method, state)
  with figure(figures / "temperatures.png") as path:
    reporting.temperatures(workdir / "metrics.jsonl", each, temperature.bounds, path)
  arrays = parts.dataset.train
  images, first = inputs_of(parts.method, arrays), next(iter(each.values()), None)
  if first is not None and is_images(images):
    with figure(figures / "extreme_temperatures.png") as path:
      names = None
      if "label" in arrays:
        names = [str(parts.dataset.classes[label]) for label in arrays["label"]]
      reporting.extreme_temperatures(images, first, path, names=names)
  return measure(parts.method, state)


def _temperature(method):
  contrast = all_terms(method).get(MAIN)
  if isinstance(contrast, Contrast):
    return contrast.temperature
  return method.temperature if isinstance(method, Multiview) else None


def _each(method, state):
  """{whose: [n]}: {} where all examples have one temperature."""
  contrast = all_terms(method).get(MAIN)
  if not (isinstance(contrast, Contrast) and contrast.temperature.per_anchor):
    return {}
  values = np.asarray(contrast.temperature.each(state.state["terms"][MAIN]["temperature"]))
  names = method.inputs if isinstance(method, CLIP) else tuple(map(str, range(contrast.rows)))
  names = ("examples",) if contrast.rows == 1 else names
  return dict(zip(names, np.split(values, len(names)), strict=True))
