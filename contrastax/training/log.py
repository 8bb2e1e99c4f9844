"""What a run writes while it goes: metrics.jsonl, TensorBoard, and lines to read.

Metrics come as device arrays, are kept as they are, and are fetched one step behind
every `every` steps; so no step waits for the host.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import sys
import time

import jax
from tqdm import tqdm

from contrastax.core import UserError
from contrastax.files import make_folder, read_records, replace_damaged, write_text
from contrastax.training.health import Health


class Log:
  """The log of a run in `workdir`, from where it starts to `steps`.

  Args:
    workdir: the run's folder. What its files say of later steps than the restored one is cut off
      first: the run that wrote it was killed before it saved those steps.
    restored: the step of the checkpoint that the run goes on from; None for a run that starts.
    steps: the last step of the run.
    batch_size: the images of a step, for the rate.
    every: the steps between two lines of metrics.
  """

  def __init__(self, workdir, *, restored: int | None, steps: int, batch_size: int, every: int):
    from tensorboardX import SummaryWriter  # slow to import, and needed only here

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
    self._progress = _Bar(start, steps) if sys.stderr.isatty() else _Lines(steps)
    self._health = Health(steps)
    self._pending: list = []
    self._written, self._since = start, None

  def add(self, step: int, metrics) -> None:
    """Takes the metrics of a step; fetches what is due, once a newer step is on its way."""
    if self._since is None:  # only now, so that compiling the step does not count
      self._written, self._since = step, time.perf_counter()
    self._pending.append((step, metrics))
    if (step - 1) % self._every == 0:
      self._fetch(len(self._pending) - 1)

  @contextlib.contextmanager
  def aside(self):
    """For what is not training: all steps taken so far are fetched and checked before, and the
    time inside does not count for the rate."""
    self._fetch(len(self._pending))
    start = time.perf_counter()
    yield
    if self._since is not None:
      self._since += time.perf_counter() - start

  def write(self, step: int, values: dict[str, float]) -> None:
    """One line, of those values that are numbers (JSON has no NaN)."""
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    self._file.write(json.dumps({"step": step, **values}) + "\n")
    for name, value in values.items():
      self._board.add_scalar(name, value, step)

  def flush(self) -> None:
    """Puts metrics.jsonl on disk, so that no checkpoint is newer than the records before it."""
    self._file.flush()
    os.fsync(self._file.fileno())

  def close(self) -> None:
    self._progress.close()
    self._file.close()
    self._board.close()

  def _fetch(self, count):
    window, self._pending = self._pending[:count], self._pending[count:]
    for step, metrics in jax.device_get(window):
      values = {name: float(metrics[name]) for name in sorted(metrics, key=_loss_first)}
      for name, value in values.items():
        if not math.isfinite(value):
          raise UserError(
            f"step {step}: {name} is {value}, so the run stops; the checkpoints before it stand. "
            "Lower learning_rate, or raise the temperature, in a new workdir"
          )
      self._health.check(step, values)
      if step % self._every == 0:
        self._report(step, values)

  def _report(self, step, values):
    now = time.perf_counter()
    rate = None
    if step > self._written:
      rate = (step - self._written) * self._batch_size / (now - self._since)
    self._written, self._since = step, now
    self.write(step, {**values, **({"images_per_sec": rate} if rate else {})})
    pace = ""
    if rate:
      seconds = (self._steps - step) * self._batch_size / rate
      left = f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
      pace = f"  {rate:,.0f} images/s  {left} left"
    self._progress.show(step, f"loss {values['loss']:.3f}{pace}")
    for warning in self._health.warnings(step, values):
      say(f"warning: {warning}")


def say(text: str) -> None:
  """Prints a line, clear of the progress bar. A terminal that is closed does not stop the run."""
  with contextlib.suppress(OSError):
    tqdm.write(text)
    sys.stdout.flush()


def cut(path: pathlib.Path, step: int | None) -> None:
  """Drops the records of a metrics.jsonl that are of later steps than `step`, of None all.

  Damaged lines are dropped as well, and their number is printed. A file that cannot be read is set
  aside.
  """
  try:
    records, damaged = read_records(path)
  except OSError as error:
    replace_damaged(path, f"{path} cannot be read: {str(error.strerror).lower()}")
    return
  if damaged:
    say(f"warning: {path}: {damaged} damaged {'line' if damaged == 1 else 'lines'} dropped")
  kept = [record for record in records if step is not None and record["step"] <= step]
  if path.exists():
    write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


class _Bar:
  """A progress bar, on a terminal."""

  def __init__(self, start, steps):
    form = "{percentage:3.0f}%|{bar}| {n}/{total}{postfix}"
    self._bar = tqdm(total=steps, initial=start, bar_format=form, dynamic_ncols=True)

  def show(self, step, text):
    with contextlib.suppress(OSError):  # as in `say`
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(step - self._bar.n)

  def close(self):
    with contextlib.suppress(OSError):
      self._bar.close()


class _Lines:
  """At most twenty plain lines, anywhere else."""

  def __init__(self, steps):
    self._steps, self._next = steps, 0

  def show(self, step, text):
    if step >= self._next:
      self._next = step + self._steps / 20
      say(f"step {step}/{self._steps}  {text}")

  def close(self):
    pass


def _loss_first(name):
  return name != "loss", name
