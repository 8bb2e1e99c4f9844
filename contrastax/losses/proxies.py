"""Losses against one learned vector per class: proxies, or a classifier's weights.

All normalize vectors and proxies, and return one value per vector, [n]. `proxies` [c, d] are
parameters to be trained beside the encoder, `labels` [n] are rows of them. A vector of the label −1,
without a label, has value 0. Another label without a proxy is refused; traced, its value is NaN.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from contrastax.core import Group, UserError
from contrastax.criteria.softmax_core import difference, length
from contrastax.labels import class_numbers
from contrastax.losses.arrays import of_one_type, precision, vectors
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, unit
from contrastax.pairwise.inputs import check_numbers, check_positive


def proxy_nca(z, labels, proxies, *, temperature, own_in_denominator=False, plan=Plan()):
  """Proxy-NCA: nearer to the own class's proxy than to the others'.

    L_i = ‖ẑ_i − ŵ_{y_i}‖²/τ + log Σ_{c ≠ y_i} exp(−‖ẑ_i − ŵ_c‖²/τ)

  Args:
    z: [n, d].
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    proxies: w, [c, d].
    temperature: τ > 0. A code that scales both to length 3 has τ = 1/9.
    own_in_denominator: the sum is over all classes: a softmax, as in ProxyNCA++.

  Returns:
    [n], unbounded below unless the own proxy is in the denominator. With a single class: 0.

  Movshovitz-Attias et al. 2017, arXiv 1703.07464, eq. 4; Teh et al. 2020, arXiv 2004.01113.
  pytorch-metric-learning has the own proxy in the denominator.
  """
  check_positive("a temperature", temperature)
  z, labels, proxies = _checked(z, labels, proxies)
  own, others = _own_and_others(z, labels, proxies, 2 / temperature, plan)
  # ‖ẑ − ŵ‖² = 2 − 2 cos, and the 2 is in every term.
  own = 2 / temperature * own
  if own_in_denominator:
    return _of_labeled(labels, jax.nn.softplus(others - own))
  return _of_labeled(labels, difference(others != -jnp.inf, others, own))


def cosface(z, labels, proxies, *, margin=0.35, scale=64.0, plan=Plan()):
  """CosFace: a softmax over classes whose own cosine is lowered by a margin.

    L_i = −log( e^{s(cos θ_y − m)} / (e^{s(cos θ_y − m)} + Σ_{c ≠ y} e^{s cos θ_c}) )

  Args:
    z: [n, d].
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    proxies: the classifier's weights, [c, d].
    margin: m, in units of the cosine.
    scale: s, an inverse temperature.

  Returns:
    [n]. Wang et al. 2018, arXiv 1801.09414, eq. 4.
  """
  z, labels, proxies = _checked(z, labels, proxies)
  check_positive("scale", scale)
  check_numbers(margin=margin)
  own, others = _own_and_others(z, labels, proxies, scale, plan)
  return _of_labeled(labels, jax.nn.softplus(others - scale * (own - margin)))


def arcface(z, labels, proxies, *, margin=0.5, scale=64.0, plan=Plan()):
  """ArcFace: a softmax over classes whose own angle is widened by a margin.

    L_i = −log( e^{s ψ(θ_y)} / (e^{s ψ(θ_y)} + Σ_{c ≠ y} e^{s cos θ_c}) )
    ψ(θ) = cos(θ + m), and where θ > π − m, so that it keeps falling, cos θ − m sin m

  Args:
    z: [n, d].
    labels: [n], the numbers of classes; −1: no label (`contrastax.labels`).
    proxies: the classifier's weights, [c, d].
    margin: m, in radians, in [0, π).
    scale: s, an inverse temperature.

  Returns:
    [n]. At θ = 0 exactly the margin has no gradient.

  Deng et al. 2019, arXiv 1801.07698, eq. 3. pytorch-metric-learning takes the margin in degrees;
  fast-reid has no second case.
  """
  z, labels, proxies = _checked(z, labels, proxies)
  check_positive("scale", scale)
  check_numbers(margin=margin)
  own, others = _own_and_others(z, labels, proxies, scale, plan)
  sine = _sine(unit(z), unit(_own(proxies, labels)))
  margin = jnp.asarray(margin, own.dtype)
  widened = own * jnp.cos(margin) - sine * jnp.sin(margin)
  falling = own > -jnp.cos(margin)  # both cases are NaN where own is
  psi = jnp.where(falling, widened, own - margin * jnp.sin(margin))
  return _of_labeled(labels, jax.nn.softplus(others - scale * psi))


def _own_and_others(z, labels, proxies, scale, plan):
  """The own proxy's cosine, [n], and log Σ_{c ≠ y} e^{scale cos θ_c}."""
  anchors = Group(z, {"label": labels})
  classes = Group(proxies, {"label": jnp.arange(len(proxies), dtype=labels.dtype)})
  r = reduce(
    _Others(), anchors, (classes,), score=cosine(), shared=jnp.asarray(scale, precision(z)), plan=plan,
    reductions={"others": log_sum_exp},
  )  # fmt: skip
  return (unit(z) * unit(_own(proxies, labels))).sum(1), r["others"]


def _checked(z, labels, proxies):
  """(z, the labels, the proxies), as arrays of JAX; refuses known labels that have no proxy."""
  (z,) = vectors(z=z)
  z, proxies = of_one_type(z=z, proxies=proxies)
  if proxies.ndim != 2 or not len(proxies) or proxies.shape[1:] != z.shape[1:]:
    raise UserError(
      f"proxies are [c, d], as many dimensions as z has: {proxies.shape} and {z.shape}"
    )
  if not isinstance(labels, jax.core.Tracer):
    known = np.asarray(labels)
    if known.dtype.kind in "biu":
      wrong = known[(known < -1) | (known >= len(proxies))]
      if wrong.size:
        raise UserError(
          f"a label is 0 to {len(proxies) - 1:,}, a row of the proxies, or −1 for none, "
          f"not {wrong.flat[0]:,}"
        )
  return z, class_numbers(labels, len(z)), proxies


def _own(proxies, labels):
  """[n, d], each row's own proxy; NaN for a label that has none, so that a compiled step shows it."""
  inside = (labels >= -1) & (labels < len(proxies))
  own = proxies[jnp.where(inside, jnp.maximum(labels, 0), 0)]
  return jnp.where(inside[:, None], own, jnp.nan)


def _of_labeled(labels, values):
  """The values, 0 for a row without a label, −1; NaN stays NaN."""
  return jnp.where((labels == -1) & ~jnp.isnan(values), 0, values)


@dataclasses.dataclass(frozen=True)
class _Others:
  def __call__(self, similarity, a, c, scale):
    return {"others": jnp.where(a["label"] == c["label"], -jnp.inf, scale * similarity)}


def _sine(u, v):
  """sin of the angle of unit vectors, ‖u − v‖‖u + v‖/2: exact near 0 and π, where √(1 − cos²) is not."""
  return length(u - v) * length(u + v) / 2
