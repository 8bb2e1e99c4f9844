"""Derivatives of losses beyond the gradient: forward mode, and second derivatives.

Dense they all work, in half precision too. In tiles forward mode over reverse works, and the others
are refused in one line; `test_mesh.py` has the ring.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastax import losses
from contrastax.core import UserError
from contrastax.pairwise import Plan
from contrastax.pairwise.scores.precision import half_product

Z = jnp.asarray(np.random.default_rng(0).normal(size=(12, 4)), jnp.float32)
W, V = jnp.roll(Z, 1, 0) + 0.1, jnp.cos(Z)
LOSSES = {
  "nt_xent": lambda plan: lambda z: losses.nt_xent(z, W, temperature=0.3, plan=plan).mean(),
  "clip": lambda plan: lambda z: losses.clip(z, W, temperature=0.3, plan=plan).mean(),
  "siglip": lambda plan: (
    lambda z: losses.siglip(z, W, temperature=0.3, bias=-1.0, plan=plan).mean()
  ),
}
DENSE, TILES = Plan("dense"), Plan(5)
WAYS = {"": lambda f: f, "in jit": jax.jit}


@pytest.mark.parametrize("name", LOSSES)
def test_all_second_derivatives_of_a_dense_loss_agree(name):
  f = LOSSES[name](DENSE)

  @jax.jit
  def derivatives(z):
    forward = jax.jvp(jax.grad(f), (z,), (V,))[1]
    twice = jax.grad(lambda z: (jax.grad(f)(z) * V).sum())(z)
    return forward, twice, jax.jvp(f, (z,), (V,))[1], (jax.grad(f)(z) * V).sum()

  forward, twice, along, projected = derivatives(Z)
  chex.assert_trees_all_close(forward, twice, rtol=1e-3, atol=1e-5)
  chex.assert_trees_all_close(along, projected, rtol=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_forward_mode_over_reverse_is_the_same_in_tiles(name):
  found, expected = (
    jax.jit(lambda z, f=LOSSES[name](plan): jax.jvp(jax.grad(f), (z,), (V,))[1])(Z)
    for plan in (TILES, DENSE)
  )
  chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.full
def test_the_hessian_is_the_same_in_tiles():
  found, expected = (jax.hessian(LOSSES["clip"](plan))(Z) for plan in (TILES, DENSE))
  chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LOSSES)
def test_what_tiles_cannot_derive_is_refused_in_one_line(name, way):
  f = LOSSES[name](TILES)
  calls = {
    "forward-mode": lambda z: jax.jvp(f, (z,), (V,))[1],
    "reverse-mode derivative of their gradient": jax.grad(lambda z: (jax.grad(f)(z) * V).sum()),
  }
  for kind, call in calls.items():
    with pytest.raises(UserError) as caught:
      WAYS[way](call)(Z)
    message = str(caught.value)
    assert kind in message and 'Plan(block="dense")' in message and "\n" not in message


def test_the_gradient_in_tiles_passes_through_all_that_jax_makes_of_a_function():
  f, g = LOSSES["clip"](TILES), LOSSES["clip"](DENSE)

  @jax.jit
  def gradients(stacked):
    _, scanned = jax.lax.scan(lambda c, z: (c, jax.grad(f)(z)), 0, stacked)
    mapped, expected = (jax.vmap(jax.grad(h))(stacked) for h in (f, g))
    return (
      mapped,
      scanned,
      expected,
      jax.grad(jax.checkpoint(f))(stacked[0]),
      jax.grad(g)(stacked[0]),
    )

  mapped, scanned, expected, kept, expected_of_one = gradients(np.stack([Z, W, V]))
  chex.assert_trees_all_close(mapped, expected, rtol=1e-4, atol=1e-6)
  chex.assert_trees_all_close(kept, expected_of_one, rtol=1e-4, atol=1e-6)
  chex.assert_trees_all_close(scanned, expected, rtol=1e-4, atol=1e-6)


# Half precision.

# As outside of `jax.jit`: every result of bfloat16 is rounded.
ROUNDED = {"xla_allow_excess_precision": False}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_derivatives_of_half_precision_vectors_are_those_of_float32_but_for_rounding(dtype):
  z, v, w = Z.astype(dtype), V.astype(dtype), W.astype(dtype)

  def of(plan, w):
    return lambda z: losses.nt_xent(z, w, temperature=0.3, plan=plan).mean()

  f, g = of(DENSE, w), of(DENSE, w.astype(jnp.float32))
  exact = z.astype(jnp.float32), v.astype(jnp.float32)

  @functools.partial(jax.jit, compiler_options=ROUNDED)
  def derivatives(z, v):
    first = jax.jvp(f, (z,), (v,))[1]
    second = (
      jax.jvp(jax.grad(f), (z,), (v,))[1],
      jax.jvp(jax.grad(of(TILES, w)), (z,), (v,))[1],
      jax.grad(lambda z: (jax.grad(f)(z).astype(jnp.float32) * exact[1]).sum())(z),
    )
    return first, second

  @jax.jit
  def exactly(z, v):
    return jax.jvp(g, (z,), (v,))[1], jax.jvp(jax.grad(g), (z,), (v,))[1]

  (first, second), (expected_first, expected) = derivatives(z, v), exactly(*exact)
  close = {"rtol": 3e-2, "atol": 3e-2}
  chex.assert_trees_all_close(first, expected_first, **close)
  for found in second:
    assert found.dtype == dtype
    chex.assert_trees_all_close(np.asarray(found).astype(np.float32), expected, **close)


def test_the_product_of_half_precision_is_linear_in_every_mode():
  """Against the product of the rounded vectors, of which all derivatives are JAX's own."""
  a, c = (x.astype(jnp.bfloat16).astype(jnp.float32) for x in (Z, W[:7]))

  def ours(a, c):
    return half_product(jnp.bfloat16, a, c)

  def exact(a, c):
    return jnp.matmul(a, c.T, precision="highest")

  chex.assert_trees_all_close(ours(a, c), exact(a, c), rtol=1e-6)
  tangents = a[::-1], c[::-1]
  chex.assert_trees_all_close(
    jax.jvp(ours, (a, c), tangents)[1], jax.jvp(exact, (a, c), tangents)[1], rtol=1e-5, atol=1e-5
  )
  whole = jnp.round(ours(a, c))  # a cotangent that bfloat16 has
  found, expected = (jax.vjp(f, a, c)[1](whole) for f in (ours, exact))
  chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)
  batched = jax.vmap(ours, (0, None))(jnp.stack([a, 2 * a]), c)
  chex.assert_trees_all_close(batched, jnp.stack([ours(a, c), ours(2 * a, c)]), rtol=1e-6)
  sets = jnp.stack([c] * len(a))
  twice = jax.vmap(jax.vmap(ours, (None, 0)), (0, None))(jnp.stack([a, a]), jnp.stack([sets] * 3))
  assert twice.shape == (2, 3, 12, 7)


# Calls that share a trace.


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_does_not_depend_on_what_another_call_is_differentiated_by(way):
  """JAX traces a loss of one shape once, whatever its calls are differentiated by."""

  def both(plan):
    def loss(a):
      there = losses.info_nce(a, W, temperature=0.3, plan=plan)
      return (there + 2 * losses.info_nce(W, a, temperature=0.3, plan=plan)).mean()

    return loss

  def only(plan, first):
    def loss(a):
      pair = (a, W) if first else (W, a)
      return losses.info_nce(*pair, temperature=0.3, plan=plan).mean()

    return loss

  for make in (both, lambda plan: only(plan, True), lambda plan: only(plan, False), both):
    found, expected = (WAYS[way](jax.grad(make(plan)))(Z) for plan in (Plan((5, 4)), DENSE))
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)


def test_symile_with_one_modality_trained_is_the_same_in_tiles():
  def loss(plan):
    return lambda a: losses.symile(a, W, V, temperature=0.3, plan=plan).mean()

  @jax.jit
  def gradients(z):
    return [jax.grad(loss(plan))(z) for plan in (Plan((5, 20)), DENSE)]

  found, expected = gradients(Z)
  chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)


PAIRED = {
  "clip": losses.clip,
  "info_nce": losses.info_nce,
  "nt_xent": losses.nt_xent,
  "mv_info_nce": lambda a, b, **how: losses.mv_info_nce(jnp.stack([a, b]), **how),
  "poly_view": lambda a, b, **how: losses.poly_view(jnp.stack([a, b]), **how),
  "info_nce, a queue": lambda a, b, **how: losses.info_nce(a, b, 0 * a + 1, **how),
}


@pytest.mark.parametrize("name", PAIRED)
def test_the_gradient_of_pairs_that_nearly_agree_is_that_of_float32_but_for_rounding(name):
  """It is a small difference of a pull and a push, which are to be rounded together."""
  rng = np.random.default_rng(0)
  a = rng.normal(size=(64, 32))
  pair = [x.astype(jnp.bfloat16) for x in (a, a + 0.3 * rng.normal(size=a.shape))]

  @functools.partial(jax.jit, compiler_options=ROUNDED)
  def gradient(a, b):
    return jax.grad(lambda a: PAIRED[name](a, b, temperature=0.05).mean())(a)

  exact = np.asarray(gradient(*(x.astype(np.float32) for x in pair)))
  found = np.asarray(gradient(*pair)).astype(np.float32)
  assert np.linalg.norm(found - exact) < 0.01 * np.linalg.norm(exact)
