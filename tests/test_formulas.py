"""Every public loss against its formula, written plainly; identities between them."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from formulas import LOSSES
from mesh import public

from benchmarks import numerics
from contrastax import losses
from contrastax.core import Group
from contrastax.pairwise import cosine, log_sum_exp, reduce


def test_every_public_loss_is_listed():
  assert {name.split()[0] for name in LOSSES} == set(public(losses))


@functools.cache
def compared(name):
  """A program of (arrays, τ): the values of our loss and of the formula, and the gradients of both.

  The gradients are of a sum that weighs each value differently, by all arrays that have one, and by τ.
  """
  loss = LOSSES[name]

  def differentiated(function, x, tau):
    def total(moved, tau):
      values = function(x | moved, tau)
      return (jnp.cos(1.0 + jnp.arange(values.size)) * values.ravel()).sum(), values

    moved = {n: array for n, array in x.items() if array.dtype.kind == "f" and n not in loss.free}
    by = (0, 1) if loss.tempered else 0
    gradients, values = jax.grad(total, by, has_aux=True)(moved, tau)
    return values, gradients

  @jax.jit
  def both(x, tau):
    return differentiated(loss.ours, x, tau), differentiated(loss.plain, x, tau)

  return both


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_the_formulas(float64, name):
  loss = LOSSES[name]
  for seed, tau in enumerate((0.07, 1.0) if loss.tempered else (None,)):
    ours, plain = jax.tree.map(np.asarray, compared(name)(loss.arrays(seed), tau))
    (found, found_gradients), (expected, expected_gradients) = ours, plain
    assert found.dtype == np.float64 and np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    chex.assert_trees_all_equal_structs(found_gradients, expected_gradients)
    for one, other in zip(
      *map(jax.tree.leaves, (found_gradients, expected_gradients)), strict=True
    ):
      atol = 1e-9 * np.abs(other).max() + 1e-12
      np.testing.assert_allclose(one, other, rtol=0, atol=atol)


# Identities.

N, D = 6, 8
rng = np.random.default_rng(3)
A, B, C = (rng.normal(size=(N, D)) for _ in range(3))
VIEWS = np.stack([A, B, C])
LABELS = np.array([0, 0, 1, 1, 2, 2])


def unit(z):
  return z / np.linalg.norm(z, axis=1, keepdims=True)


def jacobian(loss):
  """∂L_i/∂a_k of a loss of two sets, and its values."""
  return jax.tree.map(np.asarray, jax.jit(lambda a: (jax.jacobian(loss)(a), loss(a)))(A))


def of_pair(*calls):
  """The results of the calls on A and B, by one program."""
  return jax.tree.map(np.asarray, jax.jit(lambda a, b: [call(a, b) for call in calls])(A, B))


def close(found, expected, rtol=1e-9):
  np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-12)


def test_the_gradient_of_info_nce_is_that_of_dcl_times_what_the_negatives_have(float64):

  @jax.jit
  def of_both(tau):
    info_nce, dcl = (
      functools.partial(loss, z2=B, temperature=tau) for loss in (losses.nt_xent, losses.dcl)
    )
    return jax.jacobian(info_nce)(A), info_nce(A), jax.jacobian(dcl)(A)

  for tau in (0.07, 0.5):
    of_info_nce, values, of_dcl = map(np.asarray, of_both(tau))
    q = -np.expm1(-values)  # 1 − the positive's softmax mass, e^−L
    close(of_info_nce, q[:, None, None] * of_dcl)


def test_the_gradient_of_dual_temperature_is_that_of_dcl_times_what_negatives_have_at_the_other(
  float64,
):
  own, other = 0.1, 0.8
  of_simco, _ = jacobian(
    lambda a: losses.dual_temperature(a, B, temperature=own, inter_temperature=other)
  )

  def decoupled(a):
    s = (a / jnp.linalg.norm(a, axis=1, keepdims=True)) @ unit(B).T / own
    others = jnp.where(jnp.eye(N, dtype=bool), -jnp.inf, s)
    return jax.scipy.special.logsumexp(others, axis=1) - jnp.diagonal(s)

  of_dcl, _ = jacobian(decoupled)
  (info_nce,) = of_pair(functools.partial(losses.info_nce, temperature=other))
  share = -np.expm1(-info_nce)
  close(of_simco, share[:, None, None] * of_dcl)


def test_dual_temperature_of_equal_temperatures_is_info_nce(float64):
  twice = functools.partial(losses.dual_temperature, temperature=0.2, inter_temperature=0.2)
  of_simco, values = jacobian(lambda a: twice(a, B))
  of_info_nce, expected = jacobian(lambda a: losses.info_nce(a, B, temperature=0.2))
  close(values, expected)
  close(of_simco, of_info_nce)


def test_hard_negative_without_its_weights_is_debiased_and_without_its_correction_info_nce(float64):
  unweighted, debiased, uncorrected, info_nce = of_pair(
    functools.partial(losses.hard_negative, temperature=0.3, beta=0.0, tau_plus=0.1),
    functools.partial(losses.debiased, temperature=0.3, tau_plus=0.1),
    functools.partial(losses.hard_negative, temperature=0.3, beta=0.0, tau_plus=0.0),
    functools.partial(losses.nt_xent, temperature=0.3),
  )
  close(unweighted, debiased)
  close(uncorrected, info_nce)


def test_sup_con_of_one_positive_each_is_nt_xent(float64):
  labels = np.tile(np.arange(N), 2)
  sup_con, nt_xent = of_pair(
    lambda a, b: losses.sup_con(jnp.concatenate([a, b]), labels, temperature=0.2),
    functools.partial(losses.nt_xent, temperature=0.2),
  )
  close(sup_con, nt_xent)


def test_symile_of_two_is_clip(float64):
  close(
    *of_pair(*(functools.partial(loss, temperature=0.2) for loss in (losses.symile, losses.clip)))
  )


def test_of_two_views_mv_dhel_is_dhel_and_poly_view_nt_xent(float64):

  def of_two(loss, **more):
    return lambda a, b: loss(jnp.stack([a, b]), temperature=0.2, **more)

  mv_dhel, dhel, nt_xent, *poly_views = of_pair(
    of_two(losses.mv_dhel),
    functools.partial(losses.dhel, temperature=0.2),
    functools.partial(losses.nt_xent, temperature=0.2),
    *(
      of_two(losses.poly_view, aggregate=aggregate)
      for aggregate in ("geometric", "arithmetic", "sufficient statistics")
    ),
  )
  close(mv_dhel, dhel)
  for found in poly_views:
    close(found, nt_xent)


def test_arithmetic_poly_view_is_at_most_the_geometric(float64):
  """−log of a mean beside the mean of −log."""

  @jax.jit
  def of_views(views):
    return [
      losses.poly_view(views, temperature=0.2, aggregate=a) for a in ("geometric", "arithmetic")
    ]

  geometric, arithmetic = map(np.asarray, of_views(VIEWS))
  assert (arithmetic < geometric).all()


def test_the_hardest_of_all_are_all_and_fewer_cost_less(float64):
  nt_xent, *values = of_pair(
    functools.partial(losses.nt_xent, temperature=0.2),
    *(
      functools.partial(losses.hard_quantile, temperature=0.2, alpha=alpha)
      for alpha in (0.1, 0.3, 0.6, 1.0)
    ),
  )
  close(values[-1], nt_xent)
  for fewer, more in zip(values, values[1:], strict=False):
    assert (fewer < more).all()


def test_the_gradients_of_the_negatives_add_up_to_the_positives(float64):
  """By the similarities of an anchor: Wang & Liu 2021, eq. 6."""
  tau = 0.2

  def of_similarities(s):
    # Vectors whose products with the anchor e_1 are s.
    keys = jnp.stack([s, jnp.sqrt(1 - s**2)], 1)
    anchor = jnp.array([[1.0, 0.0]])
    return losses.info_nce(anchor, keys[:1], keys[1:], temperature=tau)[0]

  similarities = np.array([0.6, 0.1, -0.3, 0.5, 0.58])
  gradient = np.asarray(jax.jit(jax.grad(of_similarities))(similarities))
  assert gradient[0] < 0 < gradient[1:].min()
  close(gradient[1:].sum(), -gradient[0])


def test_the_weights_of_the_negatives_even_out_as_the_temperature_rises(float64):
  """dH/dτ = Var_w(s)/τ³ > 0: the weights are what DCL's gradient puts on the similarities."""
  s = np.array([0.1, -0.3, 0.5, 0.58])
  keys = np.stack([s, np.sqrt(1 - s**2)], 1)
  entropies = []
  for tau in (0.02, 0.05, 0.1, 0.3, 1.0, 10.0):

    def energy(s, tau=tau):
      group = Group(jnp.stack([s, jnp.sqrt(1 - s**2)], 1), {})
      anchor = Group(jnp.array([[1.0, 0.0]]), {"t": jnp.array([tau])})
      return reduce(_over_t, anchor, (group,), score=cosine(), reductions={"x": log_sum_exp})["x"][
        0
      ]

    w = tau * np.asarray(jax.grad(energy)(jnp.asarray(keys[:, 0])))
    close(w.sum(), 1)
    entropies.append(-(w * np.log(w)).sum())
  assert (np.diff(entropies) > 0).all() and entropies[-1] < np.log(4)


def _over_t(similarity, a, c, shared):
  return {"x": similarity / a["t"]}


# Invariances.

TWO = [
  name
  for name, loss in LOSSES.items()
  if set(loss.arrays()) == {"a", "b"} and name != "w_mse slices"  # its slices are runs of rows
]


@pytest.mark.parametrize("name", TWO)
def test_the_order_of_examples_does_not_matter(float64, name):
  loss = LOSSES[name]
  x, tau = loss.arrays(1), 0.2 if loss.tempered else None
  n = len(x["a"])
  order = np.random.default_rng(0).permutation(n)
  reordered = {key: array[order] for key, array in x.items()}
  values, moved = (np.asarray(compared(name)(arrays, tau)[0][0]) for arrays in (x, reordered))
  if values.ndim:
    values = values.reshape(-1, n)[:, order].ravel()
  np.testing.assert_allclose(moved, values, rtol=1e-9, atol=1e-12)


def test_sinkhorn_uses_every_prototype_alike(float64):
  q = losses.sinkhorn(np.random.default_rng(0).normal(size=(30, 5)), epsilon=0.5, iterations=50)
  close(q.sum(1), np.ones(30))
  close(q.sum(0), np.full(5, 6.0), rtol=1e-6)


def test_whitened_views_are_white(float64):
  """Of views that agree the loss is 0, of independent ones 2 on the average of all examples."""
  x = LOSSES["w_mse"].arrays()
  w_mse = jax.jit(losses.w_mse)
  close(w_mse(x["a"], x["a"]), np.zeros(24), rtol=0)
  mixed = w_mse(x["a"] @ rng.normal(size=(4, 4)), x["b"])
  assert np.isfinite(mixed).all()


# What cannot be meant, in one line with what was found.


@pytest.mark.parametrize(
  ("call", "parts"),
  [
    (lambda: losses.triplet(A, LABELS, margin=0.1, mining="hardest"), ["batch hard", "'hardest'"]),
    (lambda: losses.triplet(A, LABELS[:3], margin=0.1), ["(3,)", "[6]"]),
    (lambda: losses.n_pairs(A, B[:3]), ["(6, 8)", "(3, 8)"]),
    (lambda: losses.arcface(A, LABELS, C[:, :4]), ["(6, 4)", "(6, 8)"]),
    (lambda: losses.proxy_nca(A, LABELS, C, temperature=0.0), ["above 0", "0.0"]),
    (lambda: losses.mv_dhel(A, temperature=0.1), ["[v, n, d]", "(6, 8)"]),
    (lambda: losses.mv_dhel(VIEWS[:1], temperature=0.1), ["v ≥ 2", "(1, 6, 8)"]),
    (lambda: losses.poly_view(VIEWS, temperature=0.1, aggregate="mean"), ["geometric", "'mean'"]),
    (lambda: losses.cacr(A), ["[v, n, d]", "(6, 8)"]),
    (lambda: losses.uniformity(A[:1]), ["n ≥ 2", "(1, 8)"]),
    (lambda: losses.koleo(A[0]), ["[n, d]", "(8,)"]),
    (lambda: losses.soft_contrastive(A, B, C[:2], temperature=0.1), ["(6, 8)", "(2, 8)"]),
    (lambda: losses.symile(A, temperature=0.1), ["at least two modalities", "1"]),
    (lambda: losses.symile(A, B[:2], temperature=0.1), ["(6, 8)", "(2, 8)"]),
    (
      lambda: losses.symile(A, B, C, temperature=0.1, shuffles=np.zeros((3, 1, 6), int)),
      ["(3, 2, 6)", "(3, 1, 6)"],
    ),
    (lambda: losses.hard_quantile(A, B, temperature=0.1, alpha=0.0), ["alpha", "0.0"]),
    (lambda: losses.rince(A, B, temperature=0.1, q=2.0), ["(0, 1]", "2.0"]),
    (lambda: losses.group_ordering(A, B, k=0), ["at least 1", "0"]),
    (lambda: losses.vicreg(A[:1], B[:1]), ["at least 2 rows", "1"]),
    (lambda: losses.w_mse(A, B), ["6 rows", "8 dimensions", "shrinkage"]),
    (lambda: losses.w_mse(A, B, slices=4, shrinkage=0.1), ["6 rows", "4 slices"]),
    (lambda: losses.w_mse(np.ones((9, 2)), np.ones((9, 2))), ["fewer than their 2 dimensions"]),
    (lambda: losses.sinkhorn(VIEWS), ["[n, d]", "(3, 6, 8)"]),
    (lambda: losses.swapped_prediction(VIEWS, A), ["(6, 8)", "(3, 6, 8)"]),
    (
      lambda: losses.self_distillation(VIEWS[:2], VIEWS, center=0.0),
      ["(3, 6, 8)", "(2, 6, 8)"],
    ),
    (lambda: losses.negative_cosine(A, B[:2]), ["(6, 8)", "(2, 8)"]),
    (lambda: losses.dual_temperature(A, B, temperature=-1.0, inter_temperature=1.0), ["-1.0"]),
  ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_line(call, parts):
  with pytest.raises(ValueError) as error:
    call()
  message = str(error.value)
  assert "\n" not in message
  assert all(part in message for part in parts), message


# The certificate of docs/numerics.md.

SOME = ["nt_xent", "rince", "koleo", "triplet all", "arcface", "symile", "sinkhorn", "mv_dhel"]


@pytest.mark.parametrize(
  "name", [n if n in SOME else pytest.param(n, marks=pytest.mark.full) for n in LOSSES]
)
def test_the_numerical_certificate_holds(name):
  temperatures = (1e-3, 0.1, 10.0)
  found = list(numerics.findings([name], temperatures, dtypes=(jnp.float32,)))
  assert found
  assert [f"{f}: {f.problems}" for f in found if f.problems] == []


def test_a_planted_error_would_be_found_out(monkeypatch):
  def rounded(x, tau):
    x = {name: jnp.float32(jnp.bfloat16(array)) if array.dtype == np.float32 else array
         for name, array in x.items()}  # fmt: skip
    return LOSSES["clip"].ours(x, tau)

  def overflowing(x, tau):
    s = jnp.exp(LOSSES["clip"].ours(x, tau) / tau)
    return jnp.log(s)

  for ours in (rounded, overflowing):
    planted = dataclasses.replace(LOSSES["clip"], ours=ours)
    monkeypatch.setitem(numerics.LOSSES, "planted", planted)
    found = numerics.findings(["planted"], (1e-3,), (jnp.float32,), ("random",))
    assert any(f.problems for f in found)
