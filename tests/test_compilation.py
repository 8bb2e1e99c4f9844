"""A program that is compiled quickly computes what any other program does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax.compilation import OPTION, quick_jit


@pytest.mark.parametrize("flags", ["", f"--{OPTION}=0"], ids=["quick", "the user's level"])
def test_the_values_are_those_of_jit(monkeypatch, flags):
  monkeypatch.setenv("XLA_FLAGS", flags)

  def function(power, x, rng):
    return {"y": jax.nn.softmax(x**power @ x.T), "noise": jax.random.normal(rng, (100,))}

  x, rng = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32), jax.random.key(0)
  found = quick_jit(static_argnums=0)(function)(2, x, rng)
  expected = jax.jit(function, static_argnums=0)(2, x, rng)
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-7)


def test_it_is_traced_once_for_each_static_argument_and_shape(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "")
  traced = []

  @quick_jit(static_argnums=0)
  def add(number, x):
    traced.append((number, x.shape))
    return x + number

  for number, size in ((1, 3), (1, 3), (2, 3), (1, 4)):
    np.testing.assert_array_equal(add(number, jnp.ones(size)), np.full(size, 1 + number))
  assert traced == [(1, (3,)), (2, (3,)), (1, (4,))]
