"""Trains an encoder on a data set with one call."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from threadpoolctl import threadpool_limits

from contrastax import reporting
from contrastax.core import UserError, check_integer
from contrastax.evaluation.embed import count_rows
from contrastax.experiments import commandline, examples
from contrastax.experiments.build import build, open_dataset, power_of_two
from contrastax.experiments.cache import keep_programs
from contrastax.experiments.overrides import overridden
from contrastax.experiments.run import run
from contrastax.experiments.weights import resolved
from contrastax.experiments.workdir import Workdir
from contrastax.files import read_json
from contrastax.training import Stop, make_mesh
from contrastax.training.load import FrozenEncoder, load


@dataclasses.dataclass(frozen=True)
class Fitted:
  """The result of `fit`.

  Args:
    workdir: the folder of the run.
    summary: the content of its summary.json.
  """

  workdir: pathlib.Path
  summary: Mapping[str, Any]

  def __repr__(self) -> str:
    trained = self.summary["table"].get("trained", {})
    values = [f"{name}={reporting.table.formatted(value)}" for name, value in trained.items()]
    return f"Fitted({', '.join([repr(str(self.workdir)), *values])})"

  @property
  def table(self) -> str:
    """The table of accuracies as text; "" if the data have no labels."""
    return reporting.table.text(self.summary["table"]) if self.summary["table"] else ""

  @functools.cached_property
  def encoder(self) -> FrozenEncoder:
    """The trained encoder, as `contrastax.load` returns it."""
    return load(self.workdir)

  @property
  def report(self) -> pathlib.Path:
    """The path of the report, an HTML file for a browser."""
    return self.workdir / "report.html"


def fit(
  data: str,
  *,
  method: str = "simclr",
  config: str | None = None,
  workdir: str | pathlib.Path | None = None,
  size: int | tuple[int, int] | None = None,
  steps: int | None = None,
  batch_size: int | None = None,
  overrides: Mapping[str, Any] | None = None,
) -> Fitted:
  """Trains an encoder on a data set, evaluates it and writes a report.

  It is `contrastax run` as a function: the same call resumes a run that was stopped.

  Args:
    data: the name of the data set, such as "folder:photos"; see `data.load`.
    method: the method: "simclr", "moco" or "vicreg", for images. The recipe is that of the example
      config `images_METHOD`.
    config: the name or the path of another config, instead of `method`.
    workdir: the folder of the run. None means `runs/CONFIG_DATA`.
    size: the side in pixels to which images in files are decoded, or (height, width).
    steps: the number of training steps. None means that of the config. The warm-up of the learning
      rate keeps its share of the steps.
    batch_size: the number of examples of one step. None means that of the config, or the largest
      power of two that is at most the number of training examples.
    overrides: further keys of the config, such as {"method.temperature.temperature": 0.1}.

  Returns:
    The result: `table`, `encoder`, `report`, `summary` and `workdir`.

  Raises:
    UserError: an argument is invalid.
    TrainingDiverged: a metric is not finite.
    Interrupted: a signal was received; a checkpoint was saved.

  Example:
    >>> import contrastax
    >>> result = contrastax.fit("folder:photos")  # doctest: +SKIP
    >>> print(result.table)  # doctest: +SKIP
    >>> vectors = result.encoder(["new.jpg"])  # doctest: +SKIP
  """
  if not isinstance(data, str):
    raise UserError(f'data must be a name such as "folder:photos", not {data!r}')
  if steps is not None:
    steps = check_integer("steps", steps, 1)
  place = f"images_{method}" if config is None else config
  if config is None and place not in examples.names():
    known = [
      name.removeprefix("images_") for name in examples.names() if name.startswith("images_")
    ]
    raise UserError(
      f"fit has no method {method!r}; there are: {', '.join(known)}; or pass config=…"
    )
  base = commandline.get_config(place)
  keys: dict[str, Any] = {"data": data, "steps": steps, "batch_size": batch_size}
  if steps is not None and "warmup" in base["optimizer"]:
    keys["optimizer.warmup"] = base["optimizer"]["warmup"] * steps // base["steps"]
  if size is not None:
    keys["data.size"] = size
  keys = {key: value for key, value in keys.items() if value is not None} | dict(overrides or {})
  settings = ConfigDict(overridden(base, {key: _text(value) for key, value in keys.items()}))
  stem = re.sub(r"\W+", "_", f"{pathlib.Path(place).stem}_{data}").strip("_")
  folder = pathlib.Path("runs") / stem if workdir is None else pathlib.Path(workdir)
  keep_programs()
  mesh = make_mesh()
  argv = ["contrastax run", f"--config={place}", f"--workdir={folder}"]
  argv += [f"--config.{key}={_text(value)}" for key, value in keys.items()]
  with Stop() as stop, threadpool_limits(1, "blas"):
    settings = resolved(settings)
    values = settings.to_dict()
    dataset = open_dataset(values, None)
    count = count_rows(dataset.train) - values["validation"]
    if "batch_size" not in keys and 0 < count < settings.batch_size:
      settings.batch_size = power_of_two(count)
      argv.append(f"--config.batch_size={settings.batch_size}")
    parts = build(settings, mesh, dataset=dataset)
    with Workdir(folder, settings, argv) as entered:
      run(settings, parts, mesh, entered, stop, argv)
  return Fitted(folder, read_json(folder / "summary.json", dict))


def _text(value: Any) -> str:
  """Returns a value as an override on a command line has it."""
  value = value.item() if isinstance(value, np.generic) else value
  return value if isinstance(value, str) else repr(value)
