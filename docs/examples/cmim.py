"""cMIM (Livne 2025, arXiv 2502.19642): a probabilistic autoencoder and a contrast of its samples."""

import dataclasses

import jax
import jax.numpy as jnp
from parts import digits

from contrastax import data, encoders, methods, temperatures, views
from contrastax.core import Encoder, Recipe, named, per_example
from contrastax.paths import embedding
from contrastax.terms import Contrast, Measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class CMIM(methods.BaseMethod):
  """x → q(z | x) = N(μ, σ²); two samples z₀, z₁ of each example."""

  encoder: Encoder
  gaussian: Encoder  # [n, 2 d]: μ and log σ
  views: Recipe = views.unchanged()

  def see(self, net, batch):
    x = net.views((self.views,), batch, self.input)
    mean, log_scale = jnp.split(net("gaussian", embedding(net("encoder", x)))[0], 2, -1)
    for sample in (0, 1):
      keys = per_example(named(net.key, f"sample {sample}"), batch["index"])
      noise = jax.vmap(lambda k: jax.random.normal(k, mean.shape[1:], mean.dtype))(keys)
      net.record("z", {sample: mean + jnp.exp(log_scale) * noise})
    net.record("posterior", {"mean": mean, "log_scale": log_scale})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction(Measured):
  """½ ‖x − decoder(z)‖², and KL(q(z | x) ‖ N(0, 1)) times `prior`."""

  decoder: Encoder
  prior: float = 0.01
  weight: float = 1.0
  tag: str = "reconstruction"

  def measure(self, net, seen):
    x, decoded = seen["view"][0], net("decoder", seen["z"])
    error = sum(((y - x.reshape(len(x), -1)) ** 2).sum(-1) / 2 for y in decoded.values())
    mean, log_scale = seen["posterior"]["mean"], seen["posterior"]["log_scale"]
    kl = ((mean**2 + jnp.exp(2 * log_scale) - 1) / 2 - log_scale).sum(-1)
    return error / len(decoded) + self.prior * kl, {"kl": kl}


method = CMIM(
  encoder=encoders.mlp((64,)),
  gaussian=encoders.projection((32,), 16),
  terms=(
    Contrast(anchors="z", temperature=temperatures.fixed(0.1)),
    Reconstruction(decoder=encoders.projection((64,), 64)),
  ),
)


def source(**how):
  return data.Resident(digits, batch_size=64, **how)
