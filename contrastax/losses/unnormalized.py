"""Losses that learn an unnormalized density from data and from noise of a known density.

A score f is the logarithm of an unnormalized density: p(x) = e^f(x) / Z with Z = ∫ e^f. Samples x̃
of the noise, whose density is q, are used to estimate Z.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array, Schedule, State, UserError
from contrastax.criteria.moving import check_gamma, moving_average
from contrastax.losses.arrays import compute_dtype, to_common_dtype


def meco(
  data: ArrayLike,
  noise: ArrayLike,
  log_noise: ArrayLike,
  *,
  memory: State,
  gamma: float | Schedule = 0.1,
) -> tuple[Array, State]:
  """MECO loss: the negative log-likelihood with a moving average over the steps in place of Z.

      g = mean_j exp(f(x̃_j) − log q(x̃_j)),  the estimate of Z from one batch
      u ← (1 − γ) u + γ g,    u ← g in the first step
      L_i = −f(x_i) + log u,    ∇ log u = ∇g / u

  With γ = 1, Z is estimated from the batch alone, and the gradient has a bias that depends on the
  batch size. With γ < 1, u estimates Z from the noise of many steps, as u_i of `sogclr` estimates
  the mean over all negatives. If the noise has no samples where e^f is large, no γ gives a good
  estimate of Z, and f increases without limit outside the data.

  Args:
    data: scores f(x_i) of the data, [n].
    noise: scores f(x̃_j) of the noise, [m].
    log_noise: log-densities log q(x̃_j) of the noise, [m], in nats.
    memory: memory that the previous step returned. In the first step, pass
      `criteria.sogclr().init(1)`.
    gamma: weight γ of the new value in the average, in (0, 1]; or a schedule of the step.

  Returns:
    The loss of each sample of the data, [n]; and the memory for the next step. The loss is the
    negative log-likelihood once u has converged.

  Raises:
    UserError: γ is out of range, the memory has more than one row, or the shapes do not agree.

  Example:
    >>> import jax
    >>> from contrastax import criteria, losses
    >>> data, noise, log_noise = jax.random.normal(jax.random.key(0), (3, 8))
    >>> memory = criteria.sogclr().init(1)
    >>> loss, memory = losses.meco(data, noise, log_noise, memory=memory)
    >>> loss.shape
    (8,)

  References:
    Jiang et al., "Learning Unnormalized Statistical Models via Compositional Optimization", 2023,
    arXiv 2306.07485.

  In other libraries:
    The paper also averages the gradient over the steps, as the momentum of an optimizer does.
  """
  check_gamma(gamma, "meco")
  data, noise, log_noise = _check_scores(data=data, noise=noise, log_noise=log_noise)
  if memory["visited"].size != 1:
    raise UserError(
      f"the memory of meco must have one row, not {memory['visited'].size:,}; "
      "start with criteria.sogclr().init(1)"
    )
  log_g = jax.nn.logsumexp(noise - log_noise) - jnp.log(len(noise))
  row, defined = jnp.zeros(1, int), jnp.ones(1, bool)
  log_z, _, memory = moving_average(memory, row, defined, log_g[None], gamma)
  return log_z - data, memory


def binary_nce(
  data: ArrayLike, noise: ArrayLike, data_log_noise: ArrayLike, log_noise: ArrayLike
) -> Array:
  """Noise-contrastive estimation: logistic regression that separates data from noise.

      G(x) = f(x) − log q(x) − log ν,    ν = m/n
      L_i = −log σ(G(x_i)) + ν mean_j −log σ(−G(x̃_j))

  f includes a learned constant that takes the place of −log Z. At the minimum ∫ e^f = 1. If the
  data are far from the noise, the sigmoids saturate before f is learned, and the gradient is close
  to 0. `meco` does not have this problem.

  Args:
    data: scores f(x_i) of the data, [n].
    noise: scores f(x̃_j) of the noise, [m].
    data_log_noise: log-densities log q(x_i) of the data under the noise, [n], in nats.
    log_noise: log-densities log q(x̃_j) of the noise, [m], in nats.

  Returns:
    The loss of each sample of the data, [n].

  Raises:
    UserError: the shapes do not agree.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> data, noise, data_log_noise, log_noise = jax.random.normal(jax.random.key(0), (4, 8))
    >>> losses.binary_nce(data, noise, data_log_noise, log_noise).shape
    (8,)

  References:
    Gutmann & Hyvärinen, "Noise-contrastive estimation: A new estimation principle for unnormalized
    statistical models", 2010.
    Jiang et al., "Learning Unnormalized Statistical Models via Compositional Optimization", 2023,
    arXiv 2306.07485, where this loss is the baseline.
  """
  data, noise, log_noise, data_log_noise = _check_scores(
    data=data, noise=noise, log_noise=log_noise, data_log_noise=data_log_noise
  )
  if jnp.shape(data_log_noise) != jnp.shape(data):
    raise UserError(
      f"data_log_noise must have the shape of data, {jnp.shape(data)}, "
      f"not {jnp.shape(data_log_noise)}"
    )
  ratio = len(noise) / len(data)
  data_logits = data - data_log_noise - jnp.log(ratio)
  noise_logits = noise - log_noise - jnp.log(ratio)
  return jax.nn.softplus(-data_logits) + ratio * jax.nn.softplus(noise_logits).mean()


def _check_scores(**scores: ArrayLike) -> list[Array]:
  """Returns the scores [n] and [m] in one type, at least float32."""
  data, noise, log_noise, *others = to_common_dtype(**scores)
  if not (jnp.ndim(data) == jnp.ndim(noise) == 1 and len(data) and len(noise)):
    raise UserError(
      "data and noise must have the shapes [n] and [m], one score for each sample, "
      f"not {jnp.shape(data)} and {jnp.shape(noise)}"
    )
  if jnp.shape(log_noise) != jnp.shape(noise):
    raise UserError(
      f"log_noise must have the shape of noise, {jnp.shape(noise)}, not {jnp.shape(log_noise)}"
    )
  return [jnp.asarray(x, compute_dtype(x)) for x in (data, noise, log_noise, *others)]
