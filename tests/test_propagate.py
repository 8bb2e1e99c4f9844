"""NaN survives the compiler: in maxima, in units, and in the encoders of this library."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import encoders, propagate
from contrastax.pairwise import unit

NAN = np.full((512, 64), np.nan, np.float32)
FUNCTIONS = {
  "relu": propagate.relu,
  "maximum": lambda x: propagate.maximum(x, 0),
  "minimum": lambda x: propagate.minimum(0, x),
  "clip": lambda x: propagate.clip(x, -1, 1),
  "unit": lambda x: unit(x) ** 2,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_is_kept_in_a_compiled_sum(name):
  """jax.nn.relu, jnp.maximum and jnp.clip do not keep it on a CPU."""
  for axis in (0, 1, None):
    assert np.isnan(jax.jit(lambda x: FUNCTIONS[name](x).sum(axis))(NAN)).all()  # noqa: B023


def test_values_and_gradients_are_those_of_jax():
  x = jnp.asarray([-2.0, -1.0, 0.0, 0.5, 3.0, jnp.inf, -jnp.inf])
  np.testing.assert_array_equal(propagate.relu(x), jax.nn.relu(x))
  np.testing.assert_array_equal(propagate.maximum(x, 0.25), jnp.maximum(x, 0.25))
  np.testing.assert_array_equal(propagate.minimum(x, 0.25), jnp.minimum(x, 0.25))
  np.testing.assert_array_equal(propagate.clip(x, -1.0, 1.0), jnp.clip(x, -1.0, 1.0))
  for ours, theirs in ((propagate.relu, jax.nn.relu),):
    np.testing.assert_array_equal(jax.vmap(jax.grad(ours))(x), jax.vmap(jax.grad(theirs))(x))


ENCODERS = {
  "convnet": (encoders.convnet((8, 16)), (64, 8, 8, 1)),
  "mlp": (encoders.mlp((64, 32)), (64, 64)),
  "resnet": (encoders.resnet(18), (8, 32, 32, 3)),
}


@functools.cache
def begun(name):
  """The inputs, parameters and state of an encoder."""
  encoder, shape = ENCODERS[name]
  x = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
  return x, *jax.jit(encoder.init)(jax.random.key(0), x)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("train", [False, True])
def test_a_compiled_encoder_of_nan_gives_nan(name, train):
  encoder, _ = ENCODERS[name]
  x, params, state = begun(name)
  apply = jax.jit(lambda p, s, x: encoder.apply(p, s, x, key=None, train=train)[0])
  broken = jax.tree.map(lambda leaf: np.asarray(leaf) * np.float32(np.nan), params)
  assert np.isnan(apply(broken, state, x)).all()
  x = x.copy()
  x[3] = np.nan
  assert np.isnan(np.asarray(apply(params, state, x))[3]).all()
