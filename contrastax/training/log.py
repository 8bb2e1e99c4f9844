"""The log of a run: metrics.jsonl, TensorBoard, and lines on the terminal.

The metrics of a step stay on the device until a later step has started, so that no step waits for
the host.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping

import jax
from tqdm import tqdm

from contrastax.core import Array, TrainingDiverged
from contrastax.files import make_folder, read_records, replace_damaged, write_text
from contrastax.training.health import Health
from contrastax.training.loggers import Loggers

FIRST_STEP_ADVICE = (
  "No parameter has changed yet, so the cause is in the data, a view, the network or the loss, such "
  "as a division by 0 or the logarithm of a negative number"
)
LATER_ADVICE = "Lower learning_rate, or raise the temperature, in a new workdir"


class Log:
  """Writes the log of a run.

  Records of steps after the restored one are removed first. They were written by a process that
  ended before it saved a checkpoint of these steps.

  Args:
    workdir: folder of the run.
    restored: step of the checkpoint from which the run resumes; None for a new run.
    steps: total number of steps.
    batch_size: number of examples per step, which is needed for the speed.
    every: number of steps between two records. The last step has a record too.
    loggers: further destinations of the records, or None.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    *,
    restored: int | None,
    steps: int,
    batch_size: int,
    every: int,
    loggers: Loggers | None = None,
  ):
    from tensorboardX import SummaryWriter  # It is slow to import.

    workdir = pathlib.Path(workdir)
    start = restored or 0
    self._steps, self._batch_size, self._every = steps, batch_size, every
    self._path = workdir / "metrics.jsonl"
    cut(self._path, restored)
    self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
    board = workdir / "tensorboard"
    make_folder(board)
    purge = 0 if restored is None else restored + 1
    self._board = SummaryWriter(str(board), purge_step=purge)
    self._loggers = [] if loggers is None else loggers.open(workdir, print_line)
    self._written = start
    self._progress = _Bar(start, steps) if sys.stderr.isatty() else _Lines(steps)
    self._health = Health(steps)
    self._pending: list[tuple[int, Mapping[str, Array]]] = []
    self._reported = start
    self._clock: float | None = None  # when the step `_reported` ended

  def add(self, step: int, metrics: Mapping[str, Array]) -> None:
    """Adds the metrics of a step, and writes the records that are due.

    Args:
      step: the number of the step.
      metrics: scalars by name, including `loss`.

    Raises:
      TrainingDiverged: a metric of an earlier step is not finite.
      UserError: no anchor has had a negative for ten steps.
    """
    if self._clock is None:  # The clock starts after the first step, which includes compilation.
      self._reported, self._clock = step, time.perf_counter()
    self._pending.append((step, metrics))
    if (step - 1) % self._every == 0:
      self._fetch(len(self._pending) - 1)

  @contextlib.contextmanager
  def aside(self) -> Iterator[None]:
    """Returns a context for work other than training, whose time does not count for the speed.

    The metrics of all steps so far are fetched and checked first.
    """
    self._fetch(len(self._pending))
    start = time.perf_counter()
    yield
    if self._clock is not None:
      self._clock += time.perf_counter() - start

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes a record of the finite values; JSON has no NaN."""
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    self._file.write(json.dumps({"step": step, **values}) + "\n")
    for name, value in values.items():
      self._board.add_scalar(name, value, step)
    for logger in self._loggers if values else ():
      logger.log(step, values)
    self._written = max(step, self._written)

  def flush(self) -> None:
    """Writes metrics.jsonl to disk. It is called before a checkpoint is saved."""
    self._file.flush()
    os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the files."""
    self._progress.close()
    self._file.close()
    self._board.close()
    for logger in self._loggers:
      logger.close(self._written >= self._steps)

  def _fetch(self, count: int) -> None:
    """Fetches and checks the `count` oldest pending steps."""
    window, self._pending = self._pending[:count], self._pending[count:]
    for step, metrics in jax.device_get(window):
      values = {name: float(metrics[name]) for name in sorted(metrics, key=_loss_first)}
      for name, value in values.items():
        if not math.isfinite(value):
          raise TrainingDiverged(
            f"step {step}: {name} is {value}, so the run stops; earlier checkpoints are kept. "
            + (FIRST_STEP_ADVICE if step == 1 else LATER_ADVICE)
          )
      self._health.check(step, values)
      if step % self._every == 0 or step == self._steps:
        self._report(step, values)

  def _report(self, step: int, values: dict[str, float]) -> None:
    now = time.perf_counter()
    rate = None
    if self._clock is not None and step > self._reported:
      rate = (step - self._reported) * self._batch_size / (now - self._clock)
    self._reported, self._clock = step, now
    self.write(step, {**values, **({"images_per_sec": rate} if rate else {})})
    pace = ""
    if rate:
      seconds = (self._steps - step) * self._batch_size / rate
      left = f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
      pace = f"  {rate:,.0f} images/s  {left} left"
    self._progress.show(step, f"loss {values['loss']:.3f}{pace}")
    for warning in self._health.warnings(step, values):
      print_line(f"warning: {warning}")


def print_line(text: str) -> None:
  """Prints a line without disturbing the progress bar. A closed terminal does not stop the run."""
  with contextlib.suppress(OSError):
    tqdm.write(text)
    sys.stdout.flush()


def cut(path: pathlib.Path, step: int | None) -> None:
  """Removes the records of later steps from a metrics.jsonl.

  Damaged lines are removed as well, and their number is printed. A file that cannot be read is
  renamed.

  Args:
    path: the file, which need not exist.
    step: the last step that is kept. None removes all records.
  """
  try:
    records, damaged = read_records(path)
  except OSError as error:
    replace_damaged(path, f"{path} cannot be read: {str(error.strerror).lower()}")
    return
  if damaged:
    print_line(f"warning: {path}: {damaged} damaged {'line' if damaged == 1 else 'lines'} dropped")
  remaining = [record for record in records if step is not None and record["step"] <= step]
  if path.exists():
    write_text(path, "".join(json.dumps(record) + "\n" for record in remaining))


class _Bar:
  """A progress bar, for a terminal."""

  def __init__(self, start: int, steps: int):
    form = "{percentage:3.0f}%|{bar}| {n}/{total}{postfix}"
    self._bar = tqdm(total=steps, initial=start, bar_format=form, dynamic_ncols=True)

  def show(self, step: int, text: str) -> None:
    with contextlib.suppress(OSError):  # The terminal may be closed.
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(step - self._bar.n)

  def close(self) -> None:
    with contextlib.suppress(OSError):
      self._bar.close()


class _Lines:
  """At most about twenty plain lines, if there is no terminal."""

  def __init__(self, steps: int):
    self._steps, self._next = steps, 0

  def show(self, step: int, text: str) -> None:
    if step >= self._next:
      self._next = step + self._steps / 20
      print_line(f"step {step}/{self._steps}  {text}")

  def close(self) -> None:
    pass


def _loss_first(name: str) -> tuple[bool, str]:
  """A sort key that puts `loss` first."""
  return name != "loss", name
