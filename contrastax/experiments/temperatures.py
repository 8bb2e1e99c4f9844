"""The report on the temperatures of a run, during training and at its end."""

from __future__ import annotations

import pathlib

import numpy as np

from contrastax import reporting
from contrastax.core import Method, Temperature, TrainState
from contrastax.experiments.build import Parts, contrast_of, inputs_of
from contrastax.experiments.figures import figure, is_images
from contrastax.methods import CLIP, Multiview
from contrastax.methods.base import MAIN
from contrastax.reporting.temperatures import QUANTILES
from contrastax.temperatures import individual
from contrastax.terms.contrast import as_temperature


def measure(method: Method, state: TrainState) -> dict[str, float]:
  """Returns the quantiles of individual temperatures, and the share of them at a bound.

  The result is empty if all examples have one temperature.
  """
  temperature = _temperature(method)
  values = np.concatenate([*_values(method, state).values(), []])
  if temperature is None or temperature.bounds is None or not len(values):
    return {}
  low, high = temperature.bounds
  metrics = {f"temperature_{name}": float(np.quantile(values, q)) for name, q in QUANTILES.items()}
  return {**metrics, "at_bound": float(((values <= low) | (values >= high)).mean())}


def report(
  parts: Parts, state: TrainState, workdir: pathlib.Path, figures: pathlib.Path
) -> dict[str, float] | None:
  """Draws the figures of the temperatures.

  Args:
    parts: the experiment.
    state: the state after the last step.
    workdir: the folder of the run.
    figures: the folder of the figures.

  Returns:
    The entry `temperatures` of summary.json, or None for a method without a temperature.
  """
  temperature = _temperature(parts.method)
  if temperature is None:
    return None
  values = _values(parts.method, state)
  with figure(figures / "temperatures.png") as path:
    reporting.temperatures(workdir / "metrics.jsonl", values, temperature.bounds, path)
  arrays = parts.dataset.train
  images, first = inputs_of(parts.method, arrays), next(iter(values.values()), None)
  if first is not None and is_images(images):
    with figure(figures / "extreme_temperatures.png") as path:
      names = None
      if "label" in arrays:
        classes = (*parts.dataset.classes, "no label")  # A label of −1 is the last.
        names = [str(classes[label]) for label in arrays["label"]]
      reporting.extreme_temperatures(images, first, path, names=names)
  return measure(parts.method, state)


def _temperature(method: Method) -> Temperature | None:
  contrast = contrast_of(method)
  if contrast is not None:
    return as_temperature(contrast.temperature)
  return as_temperature(method.temperature) if isinstance(method, Multiview) else None


def _values(method: Method, state: TrainState) -> dict[str, np.ndarray]:
  """Returns the individual temperatures, [size] for each modality; {} if there are none."""
  contrast = contrast_of(method)
  if contrast is None or not isinstance(contrast.temperature, individual):
    return {}
  values = np.asarray(contrast.temperature.each(state.state["terms"][MAIN]["temperature"]))
  names = method.inputs if isinstance(method, CLIP) else tuple(map(str, range(contrast.rows)))
  names = ("examples",) if contrast.rows == 1 else names
  return dict(zip(names, np.split(values, len(names)), strict=True))
