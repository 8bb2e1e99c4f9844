"""Every public loss against its formula, written plainly; identities between them."""

import dataclasses
import functools

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


def differentiated(function, loss, x, tau):
  """Values, and the gradients of a sum that weighs each differently, by all that have one."""

  def total(moved, tau, fixed):
    values = function(moved | fixed, tau)
    return (jnp.cos(1.0 + jnp.arange(values.size)) * values.ravel()).sum(), values

  moved = {n: array for n, array in x.items() if array.dtype.kind == "f" and n not in loss.free}
  fixed = {n: array for n, array in x.items() if n not in moved}
  of = jax.grad(total, (0, 1), has_aux=True) if tau is not None else jax.grad(total, has_aux=True)
  gradients, values = jax.jit(of)(moved, tau, fixed)
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
  with jax.enable_x64(True):
    return np.asarray(jax.jacobian(loss)(A)), np.asarray(loss(A))


def close(found, expected, rtol=1e-9):
  np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-12)


def test_the_gradient_of_info_nce_is_that_of_dcl_times_what_the_negatives_have(float64):
  for tau in (0.07, 0.5):
    info_nce, dcl = (
      functools.partial(loss, temperature=tau) for loss in (losses.nt_xent, losses.dcl)
    )
    of_info_nce, values = jacobian(lambda a, loss=info_nce: loss(a, B))
    of_dcl, _ = jacobian(lambda a, loss=dcl: loss(a, B))
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
  share = -np.expm1(-losses.info_nce(A, B, temperature=other))
  close(of_simco, share[:, None, None] * of_dcl)


def test_dual_temperature_of_equal_temperatures_is_info_nce(float64):
  twice = functools.partial(losses.dual_temperature, temperature=0.2, inter_temperature=0.2)
  of_simco, values = jacobian(lambda a: twice(a, B))
  of_info_nce, expected = jacobian(lambda a: losses.info_nce(a, B, temperature=0.2))
  close(values, expected)
  close(of_simco, of_info_nce)


def test_hard_negative_without_its_weights_is_debiased_and_without_its_correction_info_nce(float64):
  of = functools.partial(losses.hard_negative, A, B, temperature=0.3)
  close(of(beta=0.0, tau_plus=0.1), losses.debiased(A, B, temperature=0.3, tau_plus=0.1))
  close(of(beta=0.0, tau_plus=0.0), losses.nt_xent(A, B, temperature=0.3))


def test_sup_con_of_one_positive_each_is_nt_xent(float64):
  both = np.concatenate([A, B])
  found = losses.sup_con(both, np.tile(np.arange(N), 2), temperature=0.2)
  close(found, losses.nt_xent(A, B, temperature=0.2))


def test_symile_of_two_is_clip(float64):
  close(losses.symile(A, B, temperature=0.2), losses.clip(A, B, temperature=0.2))


def test_of_two_views_mv_dhel_is_dhel_and_poly_view_nt_xent(float64):
  two = np.stack([A, B])
  close(losses.mv_dhel(two, temperature=0.2), losses.dhel(A, B, temperature=0.2))
  for aggregate in ("geometric", "arithmetic", "sufficient statistics"):
    found = losses.poly_view(two, temperature=0.2, aggregate=aggregate)
    close(found, losses.nt_xent(A, B, temperature=0.2))


def test_arithmetic_poly_view_is_at_most_the_geometric(float64):
  """−log of a mean beside the mean of −log."""
  geometric, arithmetic = (
    losses.poly_view(VIEWS, temperature=0.2, aggregate=a) for a in ("geometric", "arithmetic")
  )
  assert (arithmetic < geometric).all()


def test_the_hardest_of_all_are_all_and_fewer_cost_less(float64):
  close(
    losses.hard_quantile(A, B, temperature=0.2, alpha=1.0), losses.nt_xent(A, B, temperature=0.2)
  )
  values = [losses.hard_quantile(A, B, temperature=0.2, alpha=a) for a in (0.1, 0.3, 0.6, 1.0)]
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

  gradient = np.asarray(jax.grad(of_similarities)(jnp.array([0.6, 0.1, -0.3, 0.5, 0.58])))
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
  values = np.asarray(loss.ours(x, tau))
  moved = np.asarray(loss.ours({key: array[order] for key, array in x.items()}, tau))
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
  close(losses.w_mse(x["a"], x["a"]), np.zeros(24), rtol=0)
  mixed = losses.w_mse(x["a"] @ rng.normal(size=(4, 4)), x["b"])
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
