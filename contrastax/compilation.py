"""Compilation of programs that run only a few times."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

LEVEL = "xla_backend_optimization_level"


def quick_jit(*, static_argnums: int | tuple[int, ...] = ()) -> Callable[[Callable], Callable]:
  """Decorates a function as `jax.jit` does, for a program that runs only a few times.

  On the CPU such a program takes longer to compile than to run. There it is compiled at level 1 of
  XLA's optimization in place of 3, unless `XLA_FLAGS` states a level. The program may run slower.
  On other devices this is `jax.jit`.

  Args:
    static_argnums: those of `jax.jit`.

  Returns:
    A decorator. The decorated function must not be called inside another jitted function, because
    JAX takes options of the compiler for outermost programs only.
  """

  def decorate(function: Callable) -> Callable:
    @functools.cache
    def program(quick: bool) -> Any:
      options = {LEVEL: 1} if quick else None
      return jax.jit(function, static_argnums=static_argnums, compiler_options=options)

    @functools.wraps(function)
    def call(*args):
      stated = LEVEL in os.environ.get("XLA_FLAGS", "")
      return program(jax.default_backend() == "cpu" and not stated)(*args)

    return call

  return decorate
