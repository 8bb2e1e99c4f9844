"""The figures of docs/family.md: coefficients and weights, by the gradient of the losses themselves.

python docs/figures/family.py
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from contrastax import losses

HERE = pathlib.Path(__file__).parent
COLOR = {
  "nt_xent": "#1f77b4",
  "dcl": "#2ca02c",
  "dual_temperature": "#9467bd",
  "hard_negative": "#d62728",
  "hard_quantile": "#ff7f0e",
  "siglip": "#7f7f7f",
}
SHADES = ("#a6cfe6", "#4f9bcb", "#1764ab", "#06264f")  # of a series: light to dark


def slopes(loss, positive, negatives):
  """∂L/∂s⁺ and ∂L/∂s_j of one anchor, [2n − 2], whose similarities these are.

  All vectors lie on a circle, the anchor at angle 0, so a similarity is an abscissa. Of other
  anchors nothing is asked. A loss of one direction has the first view as its anchors, and
  is to be given by `one_way`.
  """

  def value(positive, negatives):
    s = jnp.concatenate([positive[None], negatives])
    points = jnp.stack([s, jnp.sqrt(1 - s**2)], 1)
    half = 1 + len(negatives) // 2
    anchor = jnp.array([[1.0, 0.0]])
    z1 = jnp.concatenate([anchor, points[half:]])
    z2 = points[:half]
    return loss(z1, z2)[0]

  return jax.grad(value, (0, 1))(jnp.asarray(positive), jnp.asarray(negatives))


def one_way(loss):
  """Of a loss (a, b): all candidates of the first anchor are in b."""

  def on_views(z1, z2):
    b = jnp.concatenate([z2, z1[1:]])
    a = jnp.concatenate([z1, z2[1:]])
    return loss(a, b)

  return on_views


def named(loss, **arguments):
  return functools.partial(loss, **arguments)


def weights(loss, negatives, positive=0.7):
  """N w_j: 1 where a negative has its equal share."""
  _, push = slopes(loss, positive, negatives)
  return np.asarray(push / push.mean())


def coefficient(loss, positives, negatives, temperature):
  """τ c for each similarity of the positive."""
  pull = jax.jit(lambda positive: slopes(loss, positive, negatives)[0])
  return -temperature * np.array([pull(positive) for positive in positives])


def cosines(n, dimension=64):
  """2n − 2 similarities, as random directions in so many dimensions have them."""
  return np.clip(np.random.default_rng(0).normal(size=2 * n - 2) / dimension**0.5, -0.99, 0.99)


def panels(*titles, width=3.7):
  figure = Figure(figsize=(width * len(titles), 3.3), layout="constrained")
  axes = figure.subplots(1, len(titles), squeeze=False)[0]
  for axis, title in zip(axes, titles, strict=True):
    axis.set_title(title, fontsize=10)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
  return figure, axes


def label(axis, x, y):
  axis.set_xlabel(x, fontsize=9)
  axis.set_ylabel(y, fontsize=9)


def label_negatives(axis):
  label(axis, "similarity of the negative", "weight, times N")
  axis.set_xticks([-1, -0.5, 0, 0.5, 1])


def save(figure, name):
  figure.savefig(HERE / f"family_{name}.png", dpi=120)


def draw_weights():
  s = np.linspace(-0.98, 0.98, 400).astype(np.float32)
  figure, (left, right) = panels("nt_xent: the temperature", "losses at τ = 0.5", width=4.6)
  for temperature, shade in zip((1.0, 0.5, 0.2, 0.07), SHADES, strict=True):
    w = weights(named(losses.nt_xent, temperature=temperature), s)
    left.plot(s, w, color=shade, label=f"τ = {temperature:g}")
  left.set_yscale("log")
  left.set_ylim(1e-4, 100)
  losses_here = {
    "nt_xent": ("nt_xent, dcl, debiased, dual", named(losses.nt_xent, temperature=0.5), "-"),
    "hard_negative": (
      "hard_negative, β = 1",
      named(losses.hard_negative, temperature=0.5, beta=1, tau_plus=0),
      "-",
    ),
    "hard_quantile": (
      "hard_quantile, α = 0.3",
      named(losses.hard_quantile, temperature=0.5, alpha=0.3),
      "-",
    ),
    "siglip": (
      "siglip, bias = 0",
      one_way(named(losses.siglip, temperature=0.5, bias=0.0)),
      "--",
    ),
  }
  for name, (text, loss, line) in losses_here.items():
    right.plot(s, weights(loss, s), line, color=COLOR[name], label=text)
  right.axhline(0, color="black", linewidth=0.8)
  for axis in (left, right):
    label_negatives(axis)
    axis.legend(fontsize=8, loc="upper left" if axis is right else "lower right")
  save(figure, "weights")


def draw_coupling():
  s = np.linspace(-0.2, 0.98, 40).astype(np.float32)
  figure, (left, right) = panels("batch size, at τ = 0.1", "temperature, at n = 256", width=4.6)
  for n, shade in zip((8, 32, 128, 512), SHADES, strict=True):
    q = coefficient(named(losses.nt_xent, temperature=0.1), s, cosines(n), 0.1)
    left.plot(s, q, color=shade, label=f"nt_xent, n = {n}")
  for temperature, shade in zip((0.5, 0.2, 0.1, 0.07), SHADES, strict=True):
    q = coefficient(named(losses.nt_xent, temperature=temperature), s, cosines(256), temperature)
    right.plot(s, q, color=shade, label=f"nt_xent, τ = {temperature:g}")
  dual = one_way(named(losses.dual_temperature, temperature=0.1, inter_temperature=1.0))
  for axis, n in ((left, 8), (right, 256)):
    c = coefficient(named(losses.dcl, temperature=0.1), s, cosines(n), 0.1)
    axis.plot(s, c, "--", color=COLOR["dcl"], label="dcl, any n and τ")
    c = coefficient(dual, s, cosines(n), 0.1)
    text = f"dual, τ = 0.1 and 1, n = {n}"
    axis.plot(s, c, "-.", color=COLOR["dual_temperature"], label=text)
    label(axis, "similarity of the positive", "coefficient, times τ")
    axis.set_ylim(-0.03, 1.08)
    axis.legend(fontsize=8, loc="lower left")
  save(figure, "coupling")


def draw_switches():
  s = np.linspace(-0.98, 0.98, 200).astype(np.float32)
  figure, (first, second, third) = panels(
    "hard_negative: β", "hard_quantile: α", "debiased: τ⁺, at τ = 0.2, N = 62"
  )
  for beta, shade in zip((0, 0.5, 1, 2), SHADES, strict=True):
    loss = named(losses.hard_negative, temperature=0.5, beta=beta, tau_plus=0)
    first.plot(s, weights(loss, s), color=shade, label=f"β = {beta:g}")
  for alpha, shade in zip((1.0, 0.5, 0.25, 0.1), SHADES, strict=True):
    loss = named(losses.hard_quantile, temperature=0.5, alpha=alpha)
    second.plot(s, weights(loss, s), color=shade, label=f"α = {alpha:g}")
  for axis in (first, second):
    axis.axhline(0, color="black", linewidth=0.8)
    label_negatives(axis)
  positives, negatives = np.linspace(-0.2, 0.98, 120).astype(np.float32), cosines(32)
  shares = {"0": 0.0, "1/(N + 1)": 1 / 63, "0.05": 0.05, "0.1": 0.1}
  for (text, share), shade in zip(shares.items(), SHADES, strict=True):
    loss = named(losses.debiased, temperature=0.2, tau_plus=share)
    third.plot(
      positives, coefficient(loss, positives, negatives, 0.2), color=shade, label=f"τ⁺ = {text}"
    )
  label(third, "similarity of the positive", "pull, times τ")
  for axis in (first, second, third):
    axis.legend(fontsize=8, loc="upper left")
  save(figure, "switches")


if __name__ == "__main__":
  draw_weights()
  draw_coupling()
  draw_switches()
