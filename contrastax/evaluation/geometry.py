"""Measures of the geometry of an embedding space. Each measure is a scalar for a set of vectors.

All but `effective_rank` and `lidar` normalize the vectors. Vectors are anything that converts to an
array; integers, bools and half precision become float32. All measures may be used inside `jax.jit`.
There the result is NaN if a vector is not finite. Outside `jax.jit` such vectors raise UserError,
as does a wrong number of axes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from numpy.typing import ArrayLike

from contrastax import losses
from contrastax.core import Array, Group, UserError
from contrastax.evaluation.inputs import check_positive_number, class_numbers, vectors
from contrastax.pairwise import dot, reduce, sum_, unit


def alignment(x: ArrayLike, y: ArrayLike, *, alpha: float = 2.0) -> Array:
  """Measures how close positives are, as the mean of ‖x_i − y_i‖^α (`losses.alignment`).

  Args:
    x: [n, d].
    y: [n, d]. Row i belongs to the same example as row i of x.
    alpha: α > 0.

  Returns:
    A scalar in [0, 2^α]. 0 is the best value.

  Raises:
    UserError: the vectors or α are invalid.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> print(evaluation.alignment(np.eye(2), np.eye(2)[::-1]).round(3))
    2.0

  References:
    Wang and Isola, 2020, arXiv 2005.10242.
  """
  check_positive_number("alpha", alpha)
  x, y = vectors(x, "x"), vectors(y, "y")
  return _finite(losses.alignment(x, y, alpha=alpha).mean(), x, y)


def uniformity(x: ArrayLike, *, t: float = 2.0) -> Array:
  """Measures how evenly the vectors cover the sphere, with `losses.uniformity`.

  Args:
    x: [n, d], n ≥ 2.
    t: t > 0, the factor of the squared distances.

  Returns:
    A scalar in [−4t, 0]. Lower values are more even.

  Raises:
    UserError: the vectors or t are invalid.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> print(evaluation.uniformity(np.eye(2)).round(3))
    -4.0

  References:
    Wang and Isola, 2020, arXiv 2005.10242.
  """
  check_positive_number("t", t)
  x = _at_least_two(vectors(x))
  return _finite(losses.uniformity(x, t=t), x)


def tolerance(x: ArrayLike, label: ArrayLike) -> Array:
  """Measures how close examples of the same class are, as the mean cosine over their pairs.

  A high value means that semantically similar examples are close. It does not depend on other
  classes.

  Args:
    x: [n, d], n ≥ 2.
    label: [n], names of classes: any integers, bools or strings. Traced labels must be integers or
      bools.

  Returns:
    A scalar in [−1, 1], or NaN if no class has two examples.

  Raises:
    UserError: the vectors or labels are invalid.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> print(evaluation.tolerance(np.array([[1.0, 0], [1, 0], [0, 1]]), [0, 0, 1]).round(3))
    1.0

  References:
    Wang and Liu, 2021, arXiv 2012.09740, equation 14. The equation is an expectation over all pairs,
    but the paper's values can only be means over pairs of one class, as here.
  """
  x = _at_least_two(vectors(x))
  points = Group(unit(x), {"place": jnp.arange(len(x)), "label": _class_of_each(label, len(x))})
  sums: Any = reduce(
    _SameClass(), points, (points,), score=dot(), same_set=True,
    reductions={"cosine": sum_, "pairs": sum_},
  )  # fmt: skip
  return _finite(sums["cosine"].sum() / sums["pairs"].sum(), x)


def effective_rank(x: ArrayLike) -> Array:
  """Measures the effective rank (RankMe), the exponential of an entropy.

      exp(−Σ_i p_i log p_i),   p = σ / ‖σ‖₁ + 1e-7, divided by its sum

  Here σ are the singular values of x, which is neither centered nor normalized.

  Args:
    x: [n, d].

  Returns:
    A scalar in [1, min(n, d)]. If all vectors are 0, it is min(n, d).

  Raises:
    UserError: the vectors are invalid.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> print(evaluation.effective_rank(np.eye(4)).round(3))
    4.0

  References:
    Roy and Vetterli, 2007. Garrido et al., RankMe, 2023, arXiv 2210.02885, equation 1.

  In other libraries:
    Public implementations differ in the small constant and in whether p is divided by its sum
    again.
  """
  x = vectors(x)
  # Without the division by the largest entry, the sum of the singular values could overflow.
  largest = jnp.abs(x).max()
  values = jnp.linalg.svd(x / jnp.where(largest > 0, largest, 1), compute_uv=False)
  return _finite(_number_of(values), x)


def lidar(x: ArrayLike, *, delta: float = 1e-4) -> Array:
  """Measures how many directions distinguish images rather than views of one image (LiDAR).

      Σ_b = Σ_i (μ_i − μ)(μ_i − μ)ᵀ / (n − 1)
      Σ_w = Σ_iv (x_iv − μ_i)(x_iv − μ_i)ᵀ / (n (q − 1)) + δ I

  The result is the effective rank of Σ_w^(−1/2) Σ_b Σ_w^(−1/2), computed from its eigenvalues. It
  is the rank in a linear discriminant analysis in which every image is a class. For n ≤ d it is at
  most n − 1.

  Args:
    x: [n, q, d], the embeddings of q random views of each of n images. μ_i is the mean of an
      image's views, μ the mean of all μ_i.
    delta: δ > 0. It is a variance, so the result depends on the scale of x.

  Returns:
    A scalar in [1, d]. If all vectors are equal, it is d.

  Raises:
    UserError: the vectors or δ are invalid, or there are fewer than two images or views.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> two_equal_views = np.repeat(np.eye(3)[:, None], 2, axis=1)
    >>> print(evaluation.lidar(two_equal_views).round(3))
    2.0

  References:
    Thilak et al., LiDAR, 2023, arXiv 2312.04000, who use 1,000 images or more, with 50 views each.

  In other libraries:
    Public implementations use δ between 1e-6 and 1e-3.
  """
  check_positive_number("delta", delta)
  x = vectors(x, axes="[n, q, d]")
  n, q, d = x.shape
  if min(n, q) < 2:
    raise UserError(f"LiDAR needs at least 2 views of at least 2 images [n, q, d], not {[n, q, d]}")
  means = x.mean(1)
  between, within = means - means.mean(0), (x - means[:, None]).reshape(n * q, d)
  scatter = jnp.matmul(within.T, within, precision="highest") / (n * (q - 1))
  scatter = scatter + delta * jnp.eye(d, dtype=x.dtype)
  # With Σ_w = LLᵀ, L⁻¹ Σ_b L⁻ᵀ has the same eigenvalues: the squares of these singular values.
  whitened = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(scatter), between.T, lower=True)
  values = jnp.linalg.svd(whitened, compute_uv=False) ** 2
  return _finite(_number_of(jnp.pad(values, (0, d - len(values)))), x)


def embedding_std(x: ArrayLike) -> Array:
  """Measures the spread of the directions, to detect collapse.

  The result is the standard deviation of the unit vectors, averaged over dimensions, times √d.

  Args:
    x: [n, d].

  Returns:
    A scalar. 1 means that the vectors are spread over the sphere, and 0 that they are equal.

  Raises:
    UserError: the vectors are invalid.

  Example:
    >>> import numpy as np
    >>> from contrastax import evaluation
    >>> print(evaluation.embedding_std(np.ones((3, 2))))
    0.0

  References:
    Chen and He, SimSiam, 2020, arXiv 2011.10566, section 4.1, who compare the standard deviation
    with 1/√d.
  """
  x = vectors(x)
  return unit(x).std(0).mean() * x.shape[1] ** 0.5


def _at_least_two(x: Array) -> Array:
  if len(x) < 2:
    raise UserError(f"x must be at least two vectors [n, d], not {list(x.shape)}")
  return x


def _class_of_each(label: Any, count: int) -> Array:
  """Returns class numbers [n] of known labels, and traced labels unchanged."""
  if not isinstance(label, Tracer):
    return jnp.asarray(class_numbers(label, count, "label")[1])
  whole = label.dtype == bool or jnp.issubdtype(label.dtype, jnp.integer)
  if label.shape != (count,) or not whole:
    raise UserError(
      f"label must be [{count}] integers or bools, not {list(label.shape)} of {label.dtype}"
    )
  return label


def _finite(value: Array, *inputs: Array) -> Array:
  """Returns the value, or NaN if an input is not finite."""
  finite = jnp.all(jnp.array([jnp.isfinite(x).all() for x in inputs]))
  return value + jnp.where(finite, 0, jnp.nan)


def _number_of(values: Array) -> Array:
  """Returns exp of the entropy of values ≥ 0, divided by their sum.

  The constant 1e-7 keeps the logarithm finite.
  """
  total = values.sum()
  p = values / jnp.where(total > 0, total, 1) + 1e-7
  p = p / p.sum()
  return jnp.exp(-(p * jnp.log(p)).sum())


@dataclasses.dataclass(frozen=True)
class _SameClass:
  def __call__(
    self, similarity: Array, a: Mapping[str, Array], c: Mapping[str, Array], shared: Any
  ) -> dict[str, Array]:
    pair = (a["label"] == c["label"]) & (a["place"] != c["place"])
    return {"cosine": jnp.where(pair, similarity, 0), "pairs": jnp.where(pair, 1.0, 0.0)}
