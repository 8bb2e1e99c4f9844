"""Densities known up to a factor, learned against samples of a known noise.

A score f is the logarithm of an unnormalized density: p(x) = e^f(x) / Z with Z = ∫ e^f. Samples x̃ of a
noise q, whose density is known, say how large Z is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax.core import UserError
from contrastax.criteria.moving import check_gamma, moving_average
from contrastax.losses.arrays import of_one_type, precision


def meco(data, noise, log_noise, *, memory, gamma=0.1):
  """MECO's loss: the negative log-likelihood, whose log Z is a moving average over the steps.

    g = mean_j exp(f(x̃_j) − log q(x̃_j))                  a batch's estimate of Z
    u ← (1 − γ) u + γ g,    u ← g the first time
    L_i = −f(x_i) + log u,    ∇ log u = ∇g / u

  With γ = 1 it is the likelihood with Z of the batch alone, whose gradient errs by the batch's size;
  u follows Z over all noise, as `sogclr`'s u_i does the mean over all negatives. Noise that does not
  reach where e^f is large cannot know Z, whatever γ, and f then drifts on past the data.

  Args:
    data: [n], f(x_i). noise: [m], f(x̃_j). log_noise: [m], log q(x̃_j), in nats.
    memory: of the step before; at first `criteria.sogclr().init(1)`.
    gamma: γ in (0, 1], or a schedule of the step.

  Returns:
    [n], and the next memory. The value is the likelihood itself once u has settled.

  Raises UserError for a γ outside, a memory of more than one row, and shapes that do not fit.

  Jiang et al. 2023, arXiv 2306.07485, where the gradient is averaged over the steps as well: that is
  an optimizer's momentum.
  """
  check_gamma(gamma, "meco")
  data, noise, log_noise = _scores(data=data, noise=noise, log_noise=log_noise)
  if memory["visited"].size != 1:
    raise UserError(
      f"meco keeps one average, and memory is of {memory['visited'].size:,}; begin with sogclr().init(1)"
    )
  log_g = jax.nn.logsumexp(noise - log_noise) - jnp.log(len(noise))
  every = jnp.zeros(1, int), jnp.ones(1, bool)
  log_z, _, memory = moving_average(memory, *every, log_g[None], gamma)
  return log_z - data, memory


def binary_nce(data, noise, data_log_noise, log_noise):
  """Noise-contrastive estimation: data told from noise by the logarithm of their odds.

    G(x) = f(x) − log q(x) − log ν,    ν = m/n
    L_i = −log σ(G(x_i)) + ν mean_j −log σ(−G(x̃_j))

  f is a log-density with its constant: at the minimum ∫ e^f = 1, so a learned constant is −log Z. Where
  data are far from the noise the odds saturate before f has reached them, and the gradient all but
  vanishes, which `meco` does not know.

  data: [n], f(x_i). noise: [m], f(x̃_j). data_log_noise: [n], log q(x_i). log_noise: [m],
  log q(x̃_j), in nats. Returns [n]. Raises UserError for shapes that do not fit.

  Gutmann & Hyvärinen 2010, "Noise-contrastive estimation: a new estimation principle for
  unnormalized statistical models"; Jiang et al. 2023, arXiv 2306.07485, whose baseline it is.
  """
  data, noise, log_noise, data_log_noise = _scores(
    data=data, noise=noise, log_noise=log_noise, data_log_noise=data_log_noise
  )
  if jnp.shape(data_log_noise) != jnp.shape(data):
    raise UserError(
      f"data_log_noise is one for each of data, not {jnp.shape(data_log_noise)} for {jnp.shape(data)}"
    )
  ratio = len(noise) / len(data)
  of_data = data - data_log_noise - jnp.log(ratio)
  of_noise = noise - log_noise - jnp.log(ratio)
  return jax.nn.softplus(-of_data) + ratio * jax.nn.softplus(of_noise).mean()


def _scores(**scores):
  """All in one type, float32 at least; refuses all but one number for each sample."""
  data, noise, log_noise, *others = of_one_type(**scores)
  if not (jnp.ndim(data) == jnp.ndim(noise) == 1 and len(data) and len(noise)):
    raise UserError(
      f"data and noise are scores [n] and [m], one for each sample, not {jnp.shape(data)} and {jnp.shape(noise)}"
    )
  if jnp.shape(log_noise) != jnp.shape(noise):
    raise UserError(
      f"log_noise is one for each of noise, not {jnp.shape(log_noise)} for {jnp.shape(noise)}"
    )
  return [jnp.asarray(x, precision(x)) for x in (data, noise, log_noise, *others)]
