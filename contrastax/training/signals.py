"""Handling of SIGTERM, SIGINT and SIGHUP, so that a run stops after a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, Self


class Interrupted(BaseException):
  """The process received a signal to stop.

  `training.train` raises it after it has saved a checkpoint. The same call resumes the run.

  Args:
    signum: number of the signal.

  Attributes:
    code: the exit status, 128 + `signum`.
  """

  def __init__(self, signum: int):
    super().__init__(signal.Signals(signum).name)
    self.code = 128 + signum


class Stop:
  """A context in which SIGTERM, SIGINT and SIGHUP raise `Interrupted`.

  Within `deferred()` a signal only makes `bool(stop)` true, and `Interrupted` is raised at the end.

  After the first signal the previous handlers of SIGTERM and SIGINT are restored, so a second
  signal ends the process immediately. A second SIGHUP is ignored, because closing a terminal sends
  several of them. If SIGHUP was ignored before (`nohup`), it stays ignored. Only the main thread of a
  process can handle signals, so in another thread nothing is changed.

  Example:
    >>> from contrastax import training
    >>> with training.Stop() as stop, stop.deferred():
    ...   for step in range(3):
    ...     if stop:
    ...       break
    >>> step
    2
  """

  def __init__(self):
    self._signum: int | None = None
    self._deferred = False
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> Self:
    if threading.current_thread() is not threading.main_thread():
      return self
    hangup = getattr(signal, "SIGHUP", None)  # Windows has no SIGHUP.
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
      self._previous[hangup] = signal.signal(hangup, self._on_signal)
    for signum in (signal.SIGTERM, signal.SIGINT):
      self._previous[signum] = signal.signal(signum, self._on_signal)
    return self

  def __exit__(self, *_: object) -> None:
    self._restore([*self._previous])

  def __bool__(self) -> bool:
    """Returns whether a signal was received. Check this where deferred work can stop."""
    return self._signum is not None

  @contextlib.contextmanager
  def deferred(self) -> Iterator[Self]:
    """Returns a context in which a signal raises only at the end.

    Raises:
      Interrupted: a signal was received. It is raised at the end of the context.
    """
    self._deferred = True
    try:
      yield self
    finally:
      self._deferred = False
    if self._signum is not None:
      raise Interrupted(self._signum)

  def _on_signal(self, signum: int, frame: object) -> None:
    if self._signum is not None:  # This is a further SIGHUP; the other handlers are restored.
      return
    self._signum = signum
    self._restore([other for other in self._previous if other in (signal.SIGTERM, signal.SIGINT)])
    if not self._deferred:
      raise Interrupted(signum)

  def _restore(self, signums: list[int]) -> None:
    for signum in signums:
      signal.signal(signum, self._previous.pop(signum))
