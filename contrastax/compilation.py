"""Compilation of programs that run only a few times."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

OPTION = "xla_backend_optimization_level"


def quick_jit(*, static_argnums: int | tuple[int, ...] = ()) -> Callable[[Callable], Callable]:
  """Decorates a function as `jax.jit` does, for a program that runs only a few times.

  On the CPU such a program takes longer to compile than to run. It is therefore compiled at XLA's
  optimization level 1 instead of 3, unless `XLA_FLAGS` contains a level, and may run slower. On other
  devices the decorator is equivalent to `jax.jit`.

  Args:
    static_argnums: the positions of the static arguments, as in `jax.jit`.

  Returns:
    A decorator. A decorated function must not be called inside another jitted function, because JAX
    accepts compiler options for outermost programs only.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastax.compilation import quick_jit
    >>> @quick_jit(static_argnums=0)
    ... def repeated(count, x):
    ...   return jnp.tile(x, count)
    >>> repeated(3, jnp.ones(2)).shape
    (6,)
  """

  def decorate(function: Callable) -> Callable:
    @functools.cache
    def compiled(quick: bool) -> jax.stages.Wrapped:
      options = {OPTION: 1} if quick else None
      return jax.jit(function, static_argnums=static_argnums, compiler_options=options)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
      has_level = OPTION in os.environ.get("XLA_FLAGS", "")
      return compiled(jax.default_backend() == "cpu" and not has_level)(*args)

    return call

  return decorate
