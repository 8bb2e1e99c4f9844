"""A temperature and an average of each example: their tables, their rest points, what is refused."""

import dataclasses
import functools

import all_methods
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from formulas_arithmetic import cos

from contrastax import criteria, data, encoders, losses, methods, tables, training
from contrastax.core import Group, UserError
from contrastax.pairwise import Plan, adaptive_heads, multi_head
from contrastax.relations import same_example
from contrastax.temperatures import fixed, individual, learned

A, B = (np.random.default_rng(seed).normal(size=(12, 8)) for seed in (0, 1))
EVERY = np.arange(12)

# Each of them is one program for all tests of this file, and its values are read by NumPy.
read = jax.jit(tables.Table.read)


# Tables.


def test_equal_rows_are_joined_and_other_rows_are_not(float64):
  rng = np.random.default_rng(0)
  row, values = rng.integers(0, 7, 50), rng.normal(size=50)
  of_row = [values[row == r] for r in row]
  mean, log_mean_exp = jax.jit(lambda *x: (tables.mean(*x), tables.log_mean_exp(*x)))(row, values)
  np.testing.assert_allclose(mean, [x.mean() for x in of_row], rtol=1e-12)
  expected = [np.log(np.exp(x).mean()) for x in of_row]
  np.testing.assert_allclose(log_mean_exp, expected, rtol=1e-12)


def test_a_mean_of_logarithms_does_not_overflow():
  logs = np.float32([1000, 1000, -1000])
  np.testing.assert_allclose(jax.jit(tables.log_mean_exp)(np.array([3, 3, 1]), logs), logs)


def test_what_is_written_is_read_and_padding_is_not():
  table = tables.table(5, 0.5, of="a test")
  written = jax.jit(tables.Table.write)(table, jnp.array([4, 0, -1, 5]), jnp.array([1.0, 2, 3, 4]))
  np.testing.assert_array_equal(written.read(jnp.arange(5)), [2, 0.5, 0.5, 0.5, 1])
  assert len(written.values) % 1024 == 0
  np.testing.assert_array_equal(written.values[5:], 0.5)


@pytest.mark.parametrize("row", [5, -1, 2**30])
def test_a_row_outside_is_an_error_and_in_a_compiled_step_no_number(row):
  table = tables.table(5, 0.5, of="a test")
  with pytest.raises(
    UserError,
    match=f"an index must be the number of an example, 0 to 4, .*not {row:,}; give the method examples",
  ):
    table.read(jnp.array([1, row]))
  seen = jax.jit(tables.Table.read)(table, jnp.array([1, row]))
  assert seen[0] == 0.5 and jnp.isnan(seen[1])


# SogCLR.


def begun(size, **own):
  return criteria.sogclr(**own).init(size)


compiled = jax.jit(losses.sogclr, static_argnames=("gamma", "relative"))


def moving(a, b, memory=None, *, index=EVERY, tau=0.3, loss=compiled, **more):
  memory = begun(30) if memory is None else memory
  value, memory = loss(a, b, index=index, memory=memory, temperature=tau, **more)
  return value, memory


def test_with_gamma_1_the_minimized_gradient_is_tau_times_that_of_dcl(float64):
  tau, weigh = 0.3, individual(0.3).weigh
  _, visited = moving(B, A)  # γ = 1 forgets it

  def ours(a, b, memory):
    value, _ = moving(a, b, memory, gamma=1.0)
    return weigh(value, tau).mean(), value

  def dcl(a, b):
    value = losses.dcl(a, b, temperature=tau)
    return value.mean(), value

  ours, dcl = (jax.jit(jax.grad(loss, has_aux=True)) for loss in (ours, dcl))
  gradient, plain = dcl(A, B)
  for memory in (begun(30), visited):
    found, value = ours(A, B, memory)
    np.testing.assert_allclose(found, tau * np.asarray(gradient), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(value, plain - np.log(22), rtol=1e-12)


def test_of_a_space_that_rests_the_averages_are_those_of_all_data(float64):
  """Which a batch's own average misses by far more: what the moving average is for."""
  rng = np.random.default_rng(2)
  z = rng.normal(size=(2, 40, 6))
  _, memory = moving(*z, begun(40), index=np.arange(40), gamma=1.0)
  everything = np.exp(read(memory["log_mean"], np.arange(40)))

  def error(gamma):
    memory = begun(40)
    for _ in range(1000):
      index = rng.permutation(40)[:8]
      _, memory = moving(z[0][index], z[1][index], memory, index=index, gamma=gamma)
    return np.abs(np.exp(read(memory["log_mean"], np.arange(40))) / everything - 1).mean()

  assert error(0.02) < error(1.0) / 4  # √(γ/(2 − γ)) = 0.1 of it, of batches drawn alike


def test_a_first_visit_is_an_examples_own(float64):
  """In a batch of old and new examples the new begin with their own batch."""
  _, memory = moving(B, A)
  index = np.concatenate([np.arange(6), np.arange(20, 26)])
  value, after = moving(A, B, memory, index=index, gamma=0.1)
  fresh, _ = moving(A, B, gamma=1.0)
  value, fresh = np.asarray(value), np.asarray(fresh)
  new = np.tile(np.arange(12) >= 6, 2)
  np.testing.assert_allclose(value[new], fresh[new], rtol=1e-12)
  assert (np.abs(value[~new] - fresh[~new]) > 1e-3).all()
  visited = np.asarray(read(after["visited"], np.arange(30)))
  assert visited[index].all() and not visited[15]
  assert int(after["step"]) == 2


def test_a_state_of_zero_is_a_state(float64):
  """log u = 0 is a legal average, and not the sign of a first visit."""
  memory = begun(30)
  seen = dataclasses.replace(memory["visited"], values=jnp.ones(1024, bool))
  value, _ = moving(A, B, {**memory, "visited": seen}, gamma=0.5)
  fresh, _ = moving(A, B, gamma=1.0)
  np.testing.assert_allclose(value, np.log(0.5 + 0.5 * np.exp(fresh)), rtol=1e-12)


def test_an_example_twice_in_a_batch_leaves_the_mean_of_its_averages(float64):
  index = np.array([3, 3, *range(10, 20)])
  value, memory = moving(A, B, index=index)
  rows = np.tile(index, 2) == 3
  expected = np.log(np.exp(np.asarray(value))[rows].mean())
  found = np.asarray(read(memory["log_mean"], np.arange(30)))[3]
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_a_negative_the_value_is_0_and_nothing_is_kept():
  value, memory = moving(A[:1], B[:1], index=EVERY[:1])
  np.testing.assert_array_equal(value, 0)
  assert not memory["visited"].values.any()


@functools.partial(jax.jit, static_argnames="relative")
def mean_gradient(a, b, memory, tau, relative):
  def mean(a):
    value, after = moving(a, b, memory, tau=tau, relative=relative)
    return value.mean(), (value, after)

  return jax.grad(mean, has_aux=True)(a)


@pytest.mark.parametrize("tau", [1e-3, 1e-2])
@pytest.mark.parametrize("relative", [True, False])
def test_at_low_temperatures_all_is_finite(tau, relative):
  memory = begun(30)
  for _ in range(3):
    gradient, (value, memory) = mean_gradient(A.astype(np.float32), B, memory, tau, relative)
    chex.assert_tree_all_finite((value, gradient))
  gradient, _ = mean_gradient(A.astype(np.float32), B, memory, tau, relative)
  chex.assert_tree_all_finite(gradient)


def test_an_index_outside_the_table_gives_no_number_in_a_compiled_step():
  index = np.where(EVERY == 2, 30, EVERY)
  with pytest.raises(UserError, match="an index must be the number of an example, 0 to 29"):
    moving(A, B, index=jnp.asarray(index), loss=losses.sogclr)
  value, _ = moving(A, B, index=index)
  assert np.isnan(value[2]) and np.isfinite(np.delete(value, [2, 14])).all()


# Individual temperatures.


def at_rest(temperature, steps=3000):
  """(τ, KL) where the temperatures of fixed anchors settle, with DCL."""
  side = {
    "index": jnp.asarray(EVERY),
    "view": jnp.zeros(12, int),
    "as_positive": jnp.ones(12),
    "as_negative": jnp.ones(12),
  }
  anchors, keys = Group(A, side), Group(B, {**side, "view": side["view"] + 1})

  def step(state, _):
    tau = temperature.value((), state, side)
    stats = criteria.evaluate(
      criteria.dcl(),
      anchors,
      (keys,),
      relation=same_example(),
      temperature=tau,
      stats=("count", "divergence"),
    ).stats
    return temperature.advance(state, side, tau, stats), stats["divergence"]

  state, seen = jax.lax.scan(step, temperature.init(12)[1], length=steps)
  return temperature.value((), state, side), seen[-1]


def test_at_rest_the_weights_are_rho_from_uniform(float64):
  tau, divergence = at_rest(individual(0.5, rho=0.4, min_temperature=0.01, max_temperature=5.0))
  np.testing.assert_allclose(divergence, 0.4, rtol=1e-6)
  s = cos(A, B)
  for i in range(12):
    logits = np.delete(np.asarray(s[i]), i) / float(tau[i])
    p = np.exp(logits) / np.exp(logits).sum()
    assert (p * np.log(p * 11)).sum() == pytest.approx(0.4, rel=1e-6)


def test_a_rho_that_no_weights_reach_ends_at_the_bound():
  tau, _ = at_rest(
    individual(0.5, rho=5.0, min_temperature=0.05, max_temperature=1.0)
  )  # log 11 = 2.4
  np.testing.assert_allclose(tau, 0.05)


def test_what_is_minimized_falls_with_tau_as_its_update_says(float64):
  """G_i is the derivative of τ_i (log mean e^(s/τ) − s⁺/τ + ρ) by τ_i."""
  temperature = individual(0.3, rho=0.4)
  side = {
    "index": jnp.asarray(EVERY),
    "view": jnp.zeros(12, int),
    "as_positive": jnp.ones(12),
    "as_negative": jnp.ones(12),
  }
  anchors, keys = Group(A, side), Group(B, {**side, "view": side["view"] + 1})

  def minimized(tau):
    value, _, stats, _ = criteria.evaluate(
      criteria.dcl(),
      anchors,
      (keys,),
      relation=same_example(),
      temperature=tau,
      stats=("count", "divergence"),
    )
    return temperature.weigh(value - jnp.log(11), tau).sum(), stats

  tau = jnp.linspace(0.1, 0.9, 12)
  gradient, stats = jax.grad(minimized, has_aux=True)(tau)
  np.testing.assert_allclose(temperature.rho - stats["divergence"], gradient, rtol=1e-10)


def test_an_anchor_without_negatives_leaves_its_temperature():
  temperature = individual(0.3)
  _, state = temperature.init(12)
  stats = {"count": np.where(EVERY == 5, 0.0, 3.0), "divergence": np.zeros(12)}
  after = jax.jit(temperature.advance)(state, {"index": EVERY}, np.full(12, 0.3), stats)
  moved = np.asarray(read(after["temperature"], EVERY)) != np.float32(0.3)
  np.testing.assert_array_equal(moved, EVERY != 5)


@pytest.mark.parametrize(
  "own, said",
  [
    ({"temperature": 2.0}, "0 < min_temperature <= temperature <= max_temperature"),
    ({"min_temperature": 0.3}, "0 < min_temperature <= temperature <= max_temperature"),
    ({"min_temperature": 0.1, "max_temperature": 0.1}, "min_temperature < max_temperature"),
    ({"rho": 0}, "rho must be above 0, not 0"),
    ({"rho": -1.0}, "rho must be above 0, not -1.0"),
    ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ({"beta": 1.5}, "beta, the weight of the new"),
    ({"clip": -3.0}, "clip must be above 0, or None"),
  ],
)
def test_what_contradicts_is_refused(own, said):
  with pytest.raises(UserError, match=said):
    individual(**own)


@pytest.mark.parametrize("gamma", [0, 1.5, -0.1])
def test_a_weight_outside_0_to_1_is_refused(gamma):
  with pytest.raises(UserError, match="gamma, the weight of the new"):
    criteria.sogclr(gamma)


# In methods.


def digits():
  found = {name: values[:256] for name, values in data.load("digits").train.items()}
  return data.Resident(found, batch_size=128)


def simclr(**own):
  return dataclasses.replace(all_methods.parts()["SimCLR"], **{"examples": 256, **own})


def test_a_method_that_does_not_know_its_data_is_refused():
  for own in ({"temperature": individual()}, {"loss": criteria.sogclr()}):
    with pytest.raises(UserError, match="give the method examples="):
      training.init(simclr(examples=0, **own), optax.sgd(0.1), digits().batch(0))


def test_a_batch_of_more_examples_than_the_method_knows_is_refused():
  with pytest.raises(UserError, match="the method's examples are 100; give it examples="):
    training.init(simclr(examples=100), optax.sgd(0.1), digits().batch(0))


def test_of_two_modalities_each_has_its_own_rows():
  clip = all_methods.parts()["CLIP"]
  found = data.load("digits").train
  seen = all_methods.seen_by("CLIP", {name: x[:256] for name, x in found.items()})
  source = data.Resident(seen, batch_size=128)
  clip = dataclasses.replace(
    clip, examples=256, temperature=individual(0.2), loss=criteria.sogclr()
  )
  state = training.init(clip, optax.adamw(1e-3), source.batch(0))
  step = training.make_train_step(clip, optax.adamw(1e-3))
  for t in range(4):
    state, metrics = step(state, source.batch(t))
  contrast, rows = state.state["terms"]["contrast"], np.arange(512)
  tau = np.asarray(read(contrast["temperature"]["temperature"], rows))
  assert (tau != np.float32(0.2)).all() and (tau[:256] != tau[256:]).all()
  assert np.asarray(read(contrast["loss"]["visited"], rows)).all()
  assert np.isfinite(metrics["loss"])


def test_the_sigmoid_loss_learns_its_bias():
  clip = dataclasses.replace(
    all_methods.parts()["CLIP"], loss=criteria.siglip(), temperature=learned(0.1, bias=-10.0)
  )
  seen = all_methods.seen_by(
    "CLIP", {name: x[:256] for name, x in data.load("digits").train.items()}
  )
  source = data.Resident(seen, batch_size=128)
  state = training.init(clip, optax.adamw(1e-2), source.batch(0))
  state, _ = training.make_train_step(clip, optax.adamw(1e-2))(state, source.batch(0))
  assert float(state.params["terms"]["contrast"]["temperature"]["bias"]) != -10.0


def test_a_bias_beside_a_softmax_is_refused():
  with pytest.raises(UserError, match="a bias has no effect on a softmax"):
    training.init(simclr(temperature=learned(0.1, bias=-10.0)), optax.sgd(0.1), digits().batch(0))


@pytest.mark.parametrize("way", ["dense", "in tiles", "chunked"])
def test_the_gradient_of_a_learned_temperature_is_a_difference_quotient(way, float64):
  """Around a ring it is the same: tests/mesh.py."""
  wide = all_methods.widened(jnp.float64)
  encoder = wide(encoders.mlp((16,)))
  method = methods.SimCLR(
    encoder=encoders.chunked(encoder, 2, batch_norm="per chunk") if way == "chunked" else encoder,
    projection=wide(encoders.projection((16,), 8)),
    views=all_methods.noise,
    temperature=learned(0.2),
    plan=Plan((5, 3)) if way == "in tiles" else Plan("dense"),
  )
  batch = {"image": data.load("digits").train["image"][:16], "index": np.arange(16)}
  key = jax.random.key(0)
  params, state = jax.jit(method.init)(key, batch)

  @jax.jit
  @jax.value_and_grad
  def objective(log_scale):
    contrast = {**params["terms"]["contrast"], "temperature": {"log_scale": log_scale}}
    moved = {**params, "terms": {"contrast": contrast}}
    return method.objective(moved, state, batch, key)[0]

  s, h = params["terms"]["contrast"]["temperature"]["log_scale"], 1e-5
  s = np.asarray(s)
  above, below = (float(objective(s + step)[0]) for step in (h, -h))
  assert float(objective(s)[1]) == pytest.approx((above - below) / (2 * h), rel=1e-8)


# Several heads.


def test_adaptive_heads_are_their_formula(float64):
  score = adaptive_heads(heads=2, min_temperature=0.1, max_temperature=1.5, hidden=5)
  params = score.init(jax.random.key(0), 8)
  params = jax.tree.map(np.asarray, params)
  params["bias"] = np.linspace(-0.1, 0.1, 5)
  params["second"] = 20 * params["second"]
  penalized = jax.jit(score.penalized)

  def phi(x):
    return np.maximum(x @ params["first"] + params["bias"], 0) @ params["second"]

  for i, x in enumerate(A):
    for j, y in enumerate(B):
      heads = [
        (v / np.linalg.norm(v), w / np.linalg.norm(w))
        for v, w in zip(np.split(x, 2), np.split(y, 2), strict=True)
      ]
      tau = [0.1 + 1.4 / (1 + np.exp(phi(v) @ phi(w))) for v, w in heads]
      expected = sum(v @ w / t for (v, w), t in zip(heads, tau, strict=True))
      penalty = sum(2 * np.log(t) + 1 / t for t in tau)
      found = penalized(params, A[i : i + 1], B[None, j : j + 1])
      np.testing.assert_allclose(np.ravel(found), [expected, penalty], rtol=1e-9)
  shared, apart = jax.jit(lambda a, *keys: [score(params, a, b) for b in keys])(
    A, B, np.broadcast_to(B, (12, 12, 8))
  )
  np.testing.assert_allclose(shared, apart, rtol=1e-12)


def test_several_heads_without_their_own_temperatures_are_a_sum_of_cosines(float64):
  expected = sum(cos(a, b) for a, b in zip(np.split(A, 2, 1), np.split(B, 2, 1), strict=True))
  np.testing.assert_allclose(multi_head(2)((), A, B), expected, rtol=1e-12)


def test_the_penalty_is_minimized_beside_the_loss():
  score = adaptive_heads(heads=2, regularizer=0.5)
  method = simclr(score=score, temperature=fixed(1.0), views=all_methods.noise)
  source = digits()
  state = training.init(method, optax.sgd(0.1), source.batch(0))
  total, (_, metrics) = jax.jit(method.objective)(
    state.params, state.state, source.batch(0), jax.random.key(0)
  )
  np.testing.assert_allclose(total, metrics["loss"] + 0.5 * metrics["penalty"], rtol=1e-6)


def test_heads_that_do_not_fit_are_refused():
  for score, said in (
    (lambda: adaptive_heads(heads=0), "heads must be an integer"),
    (lambda: multi_head(0), "heads must be an integer"),
    (lambda: adaptive_heads(min_temperature=2.0), "0 < min_temperature < max_temperature"),
    (lambda: adaptive_heads(hidden=0), "hidden must be an integer"),
    (lambda: adaptive_heads(heads=3).init(jax.random.key(0), 8), "8 dimensions cannot be divided"),
  ):
    with pytest.raises(UserError, match=said):
      score()
  with pytest.raises(UserError, match="has temperatures of its own"):
    simclr(score=adaptive_heads(heads=2), temperature=fixed(0.1))
