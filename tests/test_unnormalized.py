"""Densities known up to a factor: where the two losses lead, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm

from contrastax import criteria, losses
from contrastax.core import UserError

MEMORY = criteria.sogclr().init(1)
LOG_Z = 0.5 * np.log(2 * np.pi)


def score(params, x):
  """exp of it integrates to e^constant · √(2π)."""
  return params["constant"] - (x - params["mean"]) ** 2 / 2


def learned(loss, *, begin, data, noise, rate=0.02, steps=2000):
  """Mean and constant after SGD on N(data, 1) against N(0, noise²), 256 fresh samples of each a step."""
  optimizer = optax.sgd(rate)

  def objective(params, memory, x, z):
    of_data, of_noise = norm.logpdf(x, 0, noise), norm.logpdf(z, 0, noise)
    value, memory = loss(score(params, x), score(params, z), of_data, of_noise, memory)
    return value.mean(), memory

  def step(carry, key):
    params, opt_state, memory = carry
    x = data + jax.random.normal(key, (256,))
    z = noise * jax.random.normal(jax.random.fold_in(key, 1), (256,))
    grads, memory = jax.grad(objective, has_aux=True)(params, memory, x, z)
    updates, opt_state = optimizer.update(grads, opt_state)
    return (optax.apply_updates(params, updates), opt_state, memory), None

  params = {"mean": jnp.asarray(begin), "constant": jnp.asarray(0.0)}
  carry = params, optimizer.init(params), MEMORY
  keys = jax.random.split(jax.random.key(0), steps)
  (params, *_), _ = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys))(carry, keys)
  return float(params["mean"]), float(params["constant"])


def meco(data, noise, data_log_noise, log_noise, memory, gamma=0.1):
  return losses.meco(data, noise, log_noise, memory=memory, gamma=gamma)


def nce(data, noise, data_log_noise, log_noise, memory):
  return losses.binary_nce(data, noise, data_log_noise, log_noise), memory


@pytest.mark.parametrize("loss", [meco, nce])
def test_both_find_the_mean(loss):
  mean, constant = learned(loss, begin=1.0, data=0.0, noise=3.0, rate=0.2)
  assert abs(mean) < 0.1
  if loss is nce:  # the score that it learns is the density itself
    assert abs(constant + LOG_Z) < 0.1


def test_towards_data_far_from_the_noise_nce_stalls_and_meco_does_not():
  """The paper's claim. The odds saturate long before the model has arrived."""
  to_the_data = {"begin": 0.0, "data": 16.0, "noise": 1.0, "steps": 500}
  assert abs(learned(meco, **to_the_data)[0] - 16) < 1
  assert learned(nce, **to_the_data)[0] < 1


def test_the_average_settles_at_the_integral(float64):
  memory, rng, of_batch, followed = MEMORY, np.random.default_rng(0), [], []
  params = {"mean": 0.5, "constant": 1.0}

  @jax.jit
  def both(z, memory):
    given = jnp.zeros(1), score(params, z), norm.logpdf(z, 0, 3)
    value, memory = losses.meco(*given, memory=memory, gamma=0.02)
    return value[0], losses.meco(*given, memory=MEMORY)[0][0], memory

  for _ in range(600):
    here, alone, memory = both(3 * rng.normal(size=32), memory)
    followed.append(float(here))
    of_batch.append(float(alone))
  errors = [np.abs(np.array(x[300:]) - (1.0 + LOG_Z)).mean() for x in (followed, of_batch)]
  assert errors[0] < 0.05 and errors[0] < errors[1] / 3


def test_with_gamma_1_it_is_the_likelihood_of_the_batch(float64):
  rng = np.random.default_rng(0)
  f, noise, log_q = rng.normal(size=5), rng.normal(size=9), rng.normal(size=9)
  _, visited = losses.meco(f, noise + 3, log_q, memory=MEMORY)
  for memory in (MEMORY, visited):

    def ours(f, noise, memory=memory):
      return losses.meco(f, noise, log_q, memory=memory, gamma=1.0)[0].sum()

    def plain(f, noise):
      return (jnp.log(jnp.exp(noise - log_q).mean()) - f).sum()

    np.testing.assert_allclose(ours(f, noise), plain(f, noise), rtol=1e-12)
    for mine, theirs in zip(
      jax.grad(ours, (0, 1))(f, noise), jax.grad(plain, (0, 1))(f, noise), strict=True
    ):
      np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_large_scores_are_finite():
  value, memory = losses.meco(jnp.array([1e3]), jnp.array([1e3, -1e3]), jnp.zeros(2), memory=MEMORY)
  assert np.isfinite(value).all() and np.isfinite(memory["log_mean"].values).all()
  value = losses.binary_nce(jnp.array([-1e3]), jnp.array([1e3]), jnp.zeros(1), jnp.zeros(1))
  assert np.isfinite(value).all()


ONE = jnp.zeros(1)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: losses.meco(ONE, ONE, jnp.zeros(2), memory=MEMORY), r"log_noise must have the shape of noise, \(1,\), not \(2,\)"),
    (lambda: losses.meco(ONE[None], ONE, ONE, memory=MEMORY), r"data and noise must have the shapes \[n\] and \[m\]"),
    (lambda: losses.meco(ONE, ONE[:0], ONE[:0], memory=MEMORY), r"data and noise must have the shapes"),
    (lambda: losses.meco(ONE, ONE, ONE, memory=criteria.sogclr().init(7)), r"must have one row, not 7; start with criteria.sogclr\(\).init\(1\)"),
    (lambda: losses.meco(ONE, ONE, ONE, memory=MEMORY, gamma=0.0), "meco: gamma, the weight of the new"),
    (lambda: losses.binary_nce(ONE, ONE, jnp.zeros(3), ONE), "data_log_noise must have the shape of data"),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_said(call, message):
  with pytest.raises(UserError, match=message):
    call()
