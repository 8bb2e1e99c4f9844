"""The first training step of a method, for the tests of terms."""

from collections.abc import Mapping

import all_methods
import jax

from contrastax import data, encoders

DIGITS = {name: values[:256] for name, values in data.load("digits").train.items()}
SOURCE = data.Resident(DIGITS, batch_size=32)
PARTS = {
  "encoder": encoders.mlp((16,)),
  "projection": encoders.projection((16,), 8),
  "views": all_methods.noise,
}
KEY = jax.random.key(3)


def dicts(tree):
  """The same, of dicts, which a compiled function can return; those of `seen` are read-only."""
  return {k: dicts(x) for k, x in tree.items()} if isinstance(tree, Mapping) else tree


def ran(method, batch=None):
  """(value, metrics, what the networks returned) of the first step."""
  batch = SOURCE.batch(0) if batch is None else batch
  params, state = jax.jit(method.init)(jax.random.key(0), batch)

  @jax.jit
  def first_step(params, state, batch):
    value, (_, metrics) = method.objective(params, state, batch, KEY)
    return value, metrics, dicts(method.seen(params, state, batch, KEY))

  value, metrics, seen = first_step(params, state, batch)
  return float(value), metrics, seen
