"""Losses against one learned vector per class: proxies, or a classifier's weights.

All normalise vectors and proxies, and return one value per vector, [n]. `proxies` [c, d] are
parameters to be trained beside the encoder, `labels` [n] are rows of them.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from contrastax.core import Group, UserError
from contrastax.losses.arrays import check_labels, precision
from contrastax.losses.family import check_temperature, difference, length
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, unit


def proxy_nca(z, labels, proxies, *, temperature, own_in_denominator=False, plan=Plan()):
  """Proxy-NCA: nearer to the own class's proxy than to the others'.

    L_i = ‖ẑ_i − ŵ_{y_i}‖²/τ + log Σ_{c ≠ y_i} exp(−‖ẑ_i − ŵ_c‖²/τ)

  Args:
    z: [n, d].
    labels: [n], int.
    proxies: w, [c, d].
    temperature: τ > 0. A code that scales both to length 3 has τ = 1/9.
    own_in_denominator: the sum is over all classes: a softmax, as in ProxyNCA++.

  Returns:
    [n], unbounded below unless the own proxy is in the denominator. With a single class: 0.

  Movshovitz-Attias et al. 2017, arXiv 1703.07464, eq. 4; Teh et al. 2020, arXiv 2004.01113.
  pytorch-metric-learning has the own proxy in the denominator.
  """
  check_temperature(temperature)
  own, others = _own_and_others(z, labels, proxies, 2 / temperature, plan)
  # ‖ẑ − ŵ‖² = 2 − 2 cos, and the 2 is in every term.
  own = 2 / temperature * own
  if own_in_denominator:
    return jax.nn.softplus(others - own)
  return difference(others > -jnp.inf, others, own)


def cosface(z, labels, proxies, *, margin=0.35, scale=64.0, plan=Plan()):
  """CosFace: a softmax over classes whose own cosine is lowered by a margin.

    L_i = −log( e^{s(cos θ_y − m)} / (e^{s(cos θ_y − m)} + Σ_{c ≠ y} e^{s cos θ_c}) )

  Args:
    z: [n, d].
    labels: [n], int.
    proxies: the classifier's weights, [c, d].
    margin: m, in units of the cosine.
    scale: s, an inverse temperature.

  Returns:
    [n]. Wang et al. 2018, arXiv 1801.09414, eq. 4.
  """
  own, others = _own_and_others(z, labels, proxies, scale, plan)
  return jax.nn.softplus(others - scale * (own - margin))


def arcface(z, labels, proxies, *, margin=0.5, scale=64.0, plan=Plan()):
  """ArcFace: a softmax over classes whose own angle is widened by a margin.

    L_i = −log( e^{s ψ(θ_y)} / (e^{s ψ(θ_y)} + Σ_{c ≠ y} e^{s cos θ_c}) )
    ψ(θ) = cos(θ + m), and where θ > π − m, so that it keeps falling, cos θ − m sin m

  Args:
    z: [n, d].
    labels: [n], int.
    proxies: the classifier's weights, [c, d].
    margin: m, in radians, in [0, π).
    scale: s, an inverse temperature.

  Returns:
    [n]. At θ = 0 exactly the margin has no gradient.

  Deng et al. 2019, arXiv 1801.07698, eq. 3. pytorch-metric-learning takes the margin in degrees;
  fast-reid has no second case.
  """
  own, others = _own_and_others(z, labels, proxies, scale, plan)
  sine = _sine(unit(z), unit(proxies)[labels])
  margin = jnp.asarray(margin, own.dtype)
  widened = own * jnp.cos(margin) - sine * jnp.sin(margin)
  falling = own > -jnp.cos(margin)
  psi = jnp.where(falling, widened, own - margin * jnp.sin(margin))
  return jax.nn.softplus(others - scale * psi)


def _own_and_others(z, labels, proxies, scale, plan):
  """The own proxy's cosine, [n], and log Σ_{c ≠ y} e^{scale cos θ_c}."""
  check_labels(z, labels)
  if jnp.ndim(proxies) != 2 or jnp.shape(proxies)[1:] != jnp.shape(z)[1:]:
    raise UserError(
      f"proxies are [c, d], as many dimensions as z has: {jnp.shape(proxies)} and {jnp.shape(z)}"
    )
  labels = jnp.asarray(labels)
  anchors = Group(z, {"label": labels})
  classes = Group(proxies, {"label": jnp.arange(len(proxies), dtype=labels.dtype)})
  r = reduce(
    _Others(), anchors, (classes,), score=cosine(), shared=jnp.asarray(scale, precision(z)), plan=plan,
    rows={"others": log_sum_exp},
  )  # fmt: skip
  return (unit(z) * unit(proxies)[labels]).sum(1), r["others"]


@dataclasses.dataclass(frozen=True)
class _Others:
  def __call__(self, similarity, a, c, scale):
    return {"others": jnp.where(a["label"] == c["label"], -jnp.inf, scale * similarity)}


def _sine(u, v):
  """sin of the angle of unit vectors, ‖u − v‖‖u + v‖/2: exact near 0 and π, where √(1 − cos²) is not."""
  return length(u - v) * length(u + v) / 2
