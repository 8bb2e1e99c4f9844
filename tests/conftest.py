"""Fixtures of all tests."""

import jax
import pytest


@pytest.fixture
def float64():
  """float64 within one test; everything else runs in JAX's default, float32."""
  with jax.enable_x64(True):
    yield
