"""Loggers beside metrics.jsonl and TensorBoard: Weights & Biases, Trackio and MLflow.

Their libraries are optional. A logger that fails is switched off with a warning, and the training
continues.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import pathlib
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from contrastax.core import UserError
from contrastax.files import read_json, replace_damaged, write_json

PROJECT = "contrastax"
"""The project in which runs are logged, unless the environment names one."""
FILE = "loggers.json"
"""The file in the folder of a run with the run's identity for each logger."""
MOST_PARAMETERS = 100  # MLflow takes so many in one call.
LONGEST = 6000  # the number of characters of a parameter of MLflow


class Logger(Protocol):
  """A destination of metrics."""

  def log(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the metrics of a step."""
    ...

  def close(self, finished: bool) -> None:
    """Ends the logging. `finished` is whether the run has reached its last step."""
    ...


class _WandB:
  """Weights & Biases. `WANDB_MODE=offline` needs no network; `WANDB_PROJECT` names the project."""

  def __init__(self, workdir: pathlib.Path, identity: str, config: Mapping[str, Any]):
    wandb: Any = importlib.import_module("wandb")
    self._run = wandb.init(
      project=os.environ.get("WANDB_PROJECT", PROJECT),
      name=workdir.name,
      id=identity,
      resume="allow",
      dir=str(workdir),
      config=dict(config),
    )

  def log(self, step: int, values: Mapping[str, float]) -> None:
    # A resumed run computes the same numbers again, which would be refused.
    if step >= self._run.step:
      self._run.log(dict(values), step=step)

  def close(self, finished: bool) -> None:
    self._run.finish(exit_code=0 if finished else 1)


class _Trackio:
  """Trackio, which logs into a local database. `TRACKIO_PROJECT` names the project."""

  def __init__(self, workdir: pathlib.Path, identity: str, config: Mapping[str, Any]):
    trackio: Any = importlib.import_module("trackio")
    self._run = trackio.init(
      project=os.environ.get("TRACKIO_PROJECT", PROJECT),
      name=f"{workdir.name}-{identity}",
      resume="allow",
      config=dict(config),
      embed=False,
      auto_log_gpu=False,
      auto_log_cpu=False,
    )

  def log(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log(dict(values), step=step)

  def close(self, finished: bool) -> None:
    self._run.finish()


class _MLflow:
  """MLflow. `MLFLOW_TRACKING_URI` is where it logs; `MLFLOW_EXPERIMENT_NAME` names the experiment."""

  def __init__(self, workdir: pathlib.Path, identity: str, config: Mapping[str, Any]):
    mlflow: Any = importlib.import_module("mlflow")
    self._entities: Any = importlib.import_module("mlflow.entities")
    self._client = mlflow.MlflowClient()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    experiment = self._client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else self._client.create_experiment(name)
    tag = {"contrastax.run": identity}
    known = self._client.search_runs([number], f"tags.`contrastax.run` = '{identity}'")
    run = known[0] if known else self._client.create_run(number, tags=tag, run_name=workdir.name)
    self._id = run.info.run_id
    if known:
      self._client.set_terminated(self._id, "RUNNING")
      return
    parameters = [self._entities.Param(key, str(value)[:LONGEST]) for key, value in config.items()]
    for i in range(0, len(parameters), MOST_PARAMETERS):
      self._client.log_batch(self._id, params=parameters[i : i + MOST_PARAMETERS])

  def log(self, step: int, values: Mapping[str, float]) -> None:
    now, metric = int(1000 * time.time()), self._entities.Metric
    self._client.log_batch(self._id, [metric(key, each, now, step) for key, each in values.items()])

  def close(self, finished: bool) -> None:
    self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


KINDS: Mapping[str, Callable[[pathlib.Path, str, Mapping[str, Any]], Logger]] = {
  "wandb": _WandB,
  "trackio": _Trackio,
  "mlflow": _MLflow,
}


@dataclasses.dataclass(frozen=True)
class Loggers:
  """The loggers of a run, which `training.train` opens.

  A resumed run continues the run that it had in each logger. Steps after the restored checkpoint are
  computed again with the same numbers, so they can be logged a second time.

      wandb    WANDB_MODE=offline needs no network; WANDB_PROJECT names the project
      trackio  a local database; TRACKIO_PROJECT names the project
      mlflow   MLFLOW_TRACKING_URI, by default mlflow.db in the current folder;
               MLFLOW_EXPERIMENT_NAME names the experiment

  The default project is `contrastax`, and the name of the run is that of its folder.

  Args:
    names: the names of the loggers.
    config: the settings of the run, {name: value}, which are logged too.

  Raises:
    UserError: there is no such logger, or its library is not installed.

  Example:
    >>> from contrastax import training
    >>> training.Loggers(()).names
    ()
  """

  names: tuple[str, ...]
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    for name in self.names:
      if name not in KINDS:
        raise UserError(f"there is no logger {name!r}; there are: {', '.join(KINDS)}")
      if importlib.util.find_spec(name) is None:
        raise UserError(
          f"the logger {name} needs its library, which is not installed; pip install "
          f"'contrastax[{name}]'"
        )

  def open(self, workdir: pathlib.Path, print_line: Callable[[str], object]) -> list[Logger]:
    """Opens the loggers for the run in a folder.

    Args:
      workdir: the folder of the run.
      print_line: a function that prints a warning.

    Returns:
      The loggers. They raise no error: one that fails is switched off with a warning.
    """
    if not self.names:
      return []
    path = workdir / FILE
    try:
      known = read_json(path, dict)
    except FileNotFoundError:
      known = {}
    except UserError as error:
      replace_damaged(path, str(error))
      known = {}
    identities = {name: str(known.get(name) or uuid.uuid4().hex[:8]) for name in self.names}
    write_json(path, known | identities)
    return [_Safe(name, identities[name], workdir, self.config, print_line) for name in self.names]


class _Safe:
  """A logger that is switched off with a warning when it fails."""

  def __init__(
    self,
    name: str,
    identity: str,
    workdir: pathlib.Path,
    config: Mapping[str, Any],
    print_line: Callable[[str], object],
  ):
    self._name, self._print_line = name, print_line
    self._logger: Logger | None = None
    self._logger = self._tried(lambda: KINDS[name](workdir, identity, config))

  def log(self, step: int, values: Mapping[str, float]) -> None:
    if self._logger is not None:
      self._tried(lambda logger=self._logger: logger.log(step, values))

  def close(self, finished: bool) -> None:
    if self._logger is not None:
      self._tried(lambda logger=self._logger: logger.close(finished))

  def _tried(self, call: Callable[[], Any]) -> Any:
    # These libraries raise errors of many classes, such as of the network or of a server.
    try:
      return call()
    except Exception as error:
      self._logger = None
      fault = " ".join(str(error).split()) or type(error).__name__
      self._print_line(f"warning: the logger {self._name} has failed and is switched off: {fault}")
