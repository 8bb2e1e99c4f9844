"""SIGTERM and SIGINT: stop at a place where nothing is lost."""

from __future__ import annotations

import contextlib
import signal


class Interrupted(BaseException):
  """The process was asked to stop. `code` is the exit status that says so."""

  def __init__(self, signum: int):
    super().__init__(signal.Signals(signum).name)
    self.code = 128 + signum


class Stop:
  """Within this context the two signals raise `Interrupted`, or wait if `deferred`.

  A second signal finds the handlers that stood before, so it ends the process at once.
  """

  def __init__(self):
    self._asked: int | None = None
    self._deferred = False
    self._before: dict[int, object] = {}

  def __enter__(self):
    for signum in (signal.SIGTERM, signal.SIGINT):
      self._before[signum] = signal.signal(signum, self._on_signal)
    return self

  def __exit__(self, *_):
    self._restore()

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
    self._asked = signum
    self._restore()
    if not self._deferred:
      raise Interrupted(signum)

  def _restore(self):
    while self._before:
      signal.signal(*self._before.popitem())
