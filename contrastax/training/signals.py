"""SIGTERM, SIGINT and SIGHUP: stop at a place where nothing is lost."""

from __future__ import annotations

import contextlib
import signal
from typing import Any


class Interrupted(BaseException):
  """The process was asked to stop by a signal. `code` is the exit status, 128 plus its number.

  `training.train` raises it after the checkpoint is saved. The same call resumes the run.
  """

  def __init__(self, signum: int):
    super().__init__(signal.Signals(signum).name)
    self.code = 128 + signum


class Stop:
  """Within this context SIGTERM, SIGINT and SIGHUP raise `Interrupted`, or wait if `deferred`.

  A second SIGTERM or SIGINT finds the handlers that were there before, so it ends the process at
  once. A second SIGHUP is ignored, because a terminal that is closed sends several. Where SIGHUP was
  ignored before (`nohup`), it stays so.
  """

  def __init__(self):
    self._asked: int | None = None
    self._deferred = False
    self._before: dict[int, Any] = {}

  def __enter__(self):
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
      self._before[hangup] = signal.signal(hangup, self._on_signal)
    for signum in (signal.SIGTERM, signal.SIGINT):
      self._before[signum] = signal.signal(signum, self._on_signal)
    return self

  def __exit__(self, *_):
    self._restore([*self._before])

  def __bool__(self):
    """Whether to stop; to be asked at every safe place of a deferred stretch."""
    return self._asked is not None

  @contextlib.contextmanager
  def deferred(self):
    """Inside, a signal only makes this true; afterwards it raises."""
    self._deferred = True
    try:
      yield self
    finally:
      self._deferred = False
    if self._asked is not None:
      raise Interrupted(self._asked)

  def _on_signal(self, signum, frame):
    if self._asked is not None:  # a SIGHUP, the only one that is still handled
      return
    self._asked = signum
    self._restore([other for other in self._before if other in (signal.SIGTERM, signal.SIGINT)])
    if not self._deferred:
      raise Interrupted(signum)

  def _restore(self, signums):
    for signum in signums:
      signal.signal(signum, self._before.pop(signum))
