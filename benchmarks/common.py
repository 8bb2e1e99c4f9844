"""What several benchmarks share: timing in turn, processes of their own, and summaries."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

import jax

from contrastax.core import UserError


def in_turn(arms: Mapping[str, Callable], rounds: int, *, skip: int = 0) -> dict[str, list[float]]:
  """Times one call of every arm in each round, so that a busy machine slows all arms alike.

  Args:
    arms: Each is called with the number of the round; its result is waited for.
    rounds: The number of timed rounds.
    skip: The number of rounds before them, which compile and warm up.
  """
  seconds: dict[str, list[float]] = {name: [] for name in arms}
  for number in range(skip + rounds):
    for name, call in arms.items():
      start = time.perf_counter()
      jax.block_until_ready(call(number))
      if number >= skip:
        seconds[name].append(time.perf_counter() - start)
  return seconds


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
  """Divides round by round."""
  return [a / b for a, b in zip(ours, theirs, strict=True)]


def quartiles(values: Sequence[float], form: str) -> str:
  """Writes the median, and the quartiles in brackets."""
  low, middle, high = statistics.quantiles(values, n=4)
  return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def versions(*names: str) -> dict[str, str]:
  """Returns the versions of those packages that are installed."""
  found = {}
  for name in names:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found


def in_a_process(module: str, *arguments: object, **environment: str) -> dict:
  """Runs `python -m MODULE ARGUMENTS` and returns the last line that it prints, which is JSON.

  Where it fails, {"stopped": the last line of its errors} is returned.
  """
  command = [sys.executable, "-m", module, *map(str, arguments)]
  done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
  if done.returncode:
    return {"stopped": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
  return json.loads(done.stdout.splitlines()[-1])


class Worker:
  """A process that answers each line with a line of JSON, and waits in between."""

  def __init__(self, command: Sequence[str], *, python: str = sys.executable, **environment: str):
    self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
    self._process = subprocess.Popen(
      [python, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
      stderr=self._errors, text=True, bufsize=1, env=os.environ | environment,
    )  # fmt: skip

  def ask(self, line: str):
    """Returns the answer.

    Raises:
      UserError: The process has ended; the message is the last line of its errors.
    """
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write(line + "\n")
    answer = self._process.stdout.readline()
    if not answer:
      code = self._process.wait()
      self._errors.seek(0)
      raise UserError((self._errors.read().strip().splitlines() or [f"exit {code}"])[-1])
    return json.loads(answer)

  def end(self) -> None:
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    try:
      self._process.wait(30)
    except subprocess.TimeoutExpired:
      self._process.kill()
