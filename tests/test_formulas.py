"""Every public loss against its formula, written plainly; identities between them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from formulas import LOSSES
from mesh import public

from contrastax import losses

# Small and run once: compiling takes the time.
quick = functools.partial(
  jax.jit,
  compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)


def test_every_public_loss_is_listed():
  assert {name.split()[0] for name in LOSSES} == set(public(losses))


def differentiated(function, loss, x, tau):
  """Values, and the gradients of a sum that weighs each differently, by all that have one."""

  def total(moved, tau, fixed):
    values = function(moved | fixed, tau)
    return (jnp.cos(1.0 + jnp.arange(values.size)) * values.ravel()).sum(), values

  moved = {n: array for n, array in x.items() if array.dtype.kind == "f" and n not in loss.free}
  fixed = {n: array for n, array in x.items() if n not in moved}
  of = jax.grad(total, (0, 1), has_aux=True) if tau is not None else jax.grad(total, has_aux=True)
  gradients, values = quick(of)(moved, tau, fixed)
  return np.asarray(values), jax.tree.leaves(gradients)


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_the_formulas(float64, name):
  loss = LOSSES[name]
  for seed, tau in enumerate((0.07, 1.0) if loss.tempered else (None,)):
    x = loss.arrays(seed)
    found, of_found = differentiated(loss.ours, loss, x, tau)
    expected, of_expected = differentiated(loss.plain, loss, x, tau)
    assert found.dtype == np.float64 and np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(of_found, of_expected, strict=True):
      atol = 1e-9 * np.abs(theirs).max() + 1e-12
      np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol)
