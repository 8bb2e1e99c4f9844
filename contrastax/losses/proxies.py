"""Losses that compare vectors with class proxies, one learned vector per class.

`proxies` [c, d] are parameters that are trained together with the encoder. They are the weights of
a classifier. `labels` [n] are row numbers of the proxies. The losses normalize vectors and proxies.
A vector with the label −1 has no label, and its loss is 0. Any other label without a proxy raises
an error. In traced code, where the values of labels are not known, the loss of such a vector is
NaN.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from contrastax.core import Array, Group, UserError
from contrastax.criteria.softmax_core import difference, norm
from contrastax.labels import class_numbers
from contrastax.losses.arrays import check_vectors, compute_dtype, to_common_dtype
from contrastax.pairwise import Plan, cosine, log_sum_exp, reduce, unit
from contrastax.pairwise.inputs import check_numbers, check_positive


def proxy_nca(
  z: ArrayLike,
  labels: ArrayLike,
  proxies: ArrayLike,
  *,
  temperature: ArrayLike,
  own_in_denominator: bool = False,
  plan: Plan = Plan(),
) -> Array:
  """Proxy-NCA: moves each vector closer to the proxy of its class than to the other proxies.

      L_i = ‖ẑ_i − ŵ_{y_i}‖²/τ + log Σ_{c ≠ y_i} exp(−‖ẑ_i − ŵ_c‖²/τ)

  ẑ and ŵ are unit vectors, and y_i is the label.

  Args:
    z: vectors [n, d].
    labels: class numbers [n]; −1 for a vector without a label.
    proxies: proxies w, [c, d].
    temperature: temperature τ > 0.
    own_in_denominator: whether the sum runs over all classes, as in ProxyNCA++. The loss is then a
      softmax cross-entropy.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [n]. It has no lower bound, unless `own_in_denominator` is True. With a
    single class it is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z, proxies = jax.random.normal(jax.random.key(0), (2, 4, 8))
    >>> losses.proxy_nca(z, jax.numpy.array([0, 0, 1, 3]), proxies, temperature=0.1).shape
    (4,)

  References:
    Movshovitz-Attias et al., "No Fuss Distance Metric Learning using Proxies", 2017, arXiv
    1703.07464, eq. 4.
    Teh et al., "ProxyNCA++", 2020, arXiv 2004.01113.

  In other libraries:
    pytorch-metric-learning includes the proxy of the vector's class in the denominator. Code that
    scales vectors and proxies to length 3 corresponds to τ = 1/9.
  """
  check_positive("a temperature", temperature)
  z, labels, proxies = _check_inputs(z, labels, proxies)
  # ‖ẑ − ŵ‖² = 2 − 2 cos, and the constant 2 cancels.
  own, others = _own_and_others(z, labels, proxies, 2 / temperature, plan)
  own = jnp.multiply(2 / temperature, own)
  if own_in_denominator:
    return _zero_unlabeled(labels, jax.nn.softplus(others - own))
  return _zero_unlabeled(labels, difference(others != -jnp.inf, others, own))


def cosface(
  z: ArrayLike,
  labels: ArrayLike,
  proxies: ArrayLike,
  *,
  margin: ArrayLike = 0.35,
  scale: ArrayLike = 64.0,
  plan: Plan = Plan(),
) -> Array:
  """CosFace: softmax cross-entropy with a margin on the cosine of the vector's class.

      L_i = −log( e^{s(cos θ_y − m)} / (e^{s(cos θ_y − m)} + Σ_{c ≠ y} e^{s cos θ_c}) )

  θ_c is the angle between the vector and the proxy of class c, and y is the label.

  Args:
    z: vectors [n, d].
    labels: class numbers [n]; −1 for a vector without a label.
    proxies: proxies, [c, d].
    margin: margin m, in units of the cosine.
    scale: scale s > 0, an inverse temperature.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [n].

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z, proxies = jax.random.normal(jax.random.key(0), (2, 4, 8))
    >>> losses.cosface(z, jax.numpy.array([0, 0, 1, 3]), proxies).shape
    (4,)

  References:
    Wang et al., "CosFace", 2018, arXiv 1801.09414, eq. 4.
  """
  z, labels, proxies = _check_inputs(z, labels, proxies)
  check_positive("scale", scale)
  check_numbers(margin=margin)
  own, others = _own_and_others(z, labels, proxies, scale, plan)
  return _zero_unlabeled(labels, jax.nn.softplus(others - scale * (own - margin)))


def arcface(
  z: ArrayLike,
  labels: ArrayLike,
  proxies: ArrayLike,
  *,
  margin: ArrayLike = 0.5,
  scale: ArrayLike = 64.0,
  plan: Plan = Plan(),
) -> Array:
  """ArcFace: softmax cross-entropy with a margin on the angle of the vector's class.

      L_i = −log( e^{s ψ(θ_y)} / (e^{s ψ(θ_y)} + Σ_{c ≠ y} e^{s cos θ_c}) )
      ψ(θ) = cos(θ + m) if θ ≤ π − m, else cos θ − m sin m

  θ_c is the angle between the vector and the proxy of class c, and y is the label. The second case
  of ψ makes ψ decrease on the whole range of θ.

  Args:
    z: vectors [n, d].
    labels: class numbers [n]; −1 for a vector without a label.
    proxies: proxies, [c, d].
    margin: margin m in radians, in [0, π).
    scale: scale s > 0, an inverse temperature.
    plan: how the pairs are evaluated. It does not change the result.

  Returns:
    The loss of each vector, [n]. At exactly θ = 0, no gradient flows through the sine of θ in the
    margin.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z, proxies = jax.random.normal(jax.random.key(0), (2, 4, 8))
    >>> losses.arcface(z, jax.numpy.array([0, 0, 1, 3]), proxies).shape
    (4,)

  References:
    Deng et al., "ArcFace", 2019, arXiv 1801.07698, eq. 3.

  In other libraries:
    pytorch-metric-learning takes the margin in degrees. fast-reid has no second case of ψ.
  """
  z, labels, proxies = _check_inputs(z, labels, proxies)
  check_positive("scale", scale)
  check_numbers(margin=margin)
  own, others = _own_and_others(z, labels, proxies, scale, plan)
  sine = _sine(unit(z), unit(_own_proxies(proxies, labels)))
  margin = jnp.asarray(margin, own.dtype)
  shifted = own * jnp.cos(margin) - sine * jnp.sin(margin)
  first_case = own > -jnp.cos(margin)  # if `own` is NaN, both cases are NaN
  psi = jnp.where(first_case, shifted, own - margin * jnp.sin(margin))
  return _zero_unlabeled(labels, jax.nn.softplus(others - scale * psi))


def _own_and_others(
  z: Array, labels: Array, proxies: Array, scale: ArrayLike, plan: Plan
) -> tuple[Array, Array]:
  """Returns the cosine of the proxy of class y and log Σ_{c ≠ y} e^{scale cos θ_c}, both [n]."""
  anchors = Group(z, {"label": labels})
  classes = Group(proxies, {"label": jnp.arange(len(proxies), dtype=labels.dtype)})
  reduced = reduce(
    _Others(),
    anchors,
    (classes,),
    score=cosine(),
    reductions={"others": log_sum_exp},
    shared=jnp.asarray(scale, compute_dtype(z)),
    plan=plan,
  )
  return (unit(z) * unit(_own_proxies(proxies, labels))).sum(1), reduced["others"]


def _check_inputs(
  z: ArrayLike, labels: ArrayLike, proxies: ArrayLike
) -> tuple[Array, Array, Array]:
  """Returns the arguments as JAX arrays. Raises UserError for a known label without a proxy."""
  (z,) = check_vectors(z=z)
  z, proxies = to_common_dtype(z=z, proxies=proxies)
  if proxies.ndim != 2 or not len(proxies) or proxies.shape[1:] != z.shape[1:]:
    raise UserError(
      "proxies must have the shape [c, d] with c ≥ 1 and the same d as z, "
      f"not {proxies.shape}; z has the shape {z.shape}"
    )
  if not isinstance(labels, Tracer):
    known = np.asarray(labels)
    if known.dtype.kind in "biu":
      wrong = known[(known < -1) | (known >= len(proxies))]
      if wrong.size:
        raise UserError(
          f"a label must be a row number of the proxies, 0 to {len(proxies) - 1:,}, or −1 for none, "
          f"not {wrong.flat[0]:,}"
        )
  return z, class_numbers(labels, len(z)), proxies


def _own_proxies(proxies: Array, labels: Array) -> Array:
  """Returns the proxy of each label, [n, d], and NaN for a label without a proxy."""
  valid = (labels >= -1) & (labels < len(proxies))
  own = proxies[jnp.where(valid, jnp.maximum(labels, 0), 0)]
  return jnp.where(valid[:, None], own, jnp.nan)


def _zero_unlabeled(labels: Array, values: Array) -> Array:
  """Returns the values, with 0 for a row without a label. NaN remains NaN."""
  return jnp.where((labels == -1) & ~jnp.isnan(values), 0, values)


@dataclasses.dataclass(frozen=True)
class _Others:
  def __call__(self, similarity, a, c, scale):
    return {"others": jnp.where(a["label"] == c["label"], -jnp.inf, scale * similarity)}


def _sine(u: Array, v: Array) -> Array:
  """Returns the sine of the angle between unit vectors.

  ‖u − v‖‖u + v‖/2 is accurate for angles near 0 and π, where √(1 − cos²) is not.
  """
  return norm(u - v) * norm(u + v) / 2
