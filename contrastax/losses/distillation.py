"""Losses without negatives: the output for one view predicts the output for another view.

No gradient flows into the output that is predicted. `negative_cosine` compares vectors. The other
losses compare distributions over K prototypes and take scores [v, n, K] of v views of n examples.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from contrastax.core import Array, UserError, check_integer
from contrastax.losses.arrays import check_vectors, check_views, compute_dtype, to_common_dtype
from contrastax.pairwise import unit
from contrastax.pairwise.inputs import check_numbers, check_positive, numbers


def negative_cosine(predictions: ArrayLike, targets: ArrayLike) -> Array:
  """Negative cosine similarity, the loss of BYOL and SimSiam.

      L_i = −cos(p_i, z_i)

  Args:
    predictions: predictions p of one view, [n, d].
    targets: outputs z of the other view, [n, d]. No gradient flows into them.

  Returns:
    The loss of each example, [n], between −1 and 1. The cosine of a zero vector is 0.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> z = jax.random.normal(jax.random.key(0), (2, 4))
    >>> losses.negative_cosine(z, z).round(4)
    Array([-1., -1.], dtype=float32)

  References:
    Chen & He, "Exploring Simple Siamese Representation Learning", 2021, arXiv 2011.10566, eq. 1.
    Grill et al., "Bootstrap Your Own Latent", 2020, arXiv 2006.07733, eq. 2.

  In other libraries:
    SimSiam averages this loss over both directions. BYOL sums 2 + 2 L over both directions.
  """
  predictions, targets = check_vectors(predictions=predictions, targets=targets)
  return -(unit(predictions) * unit(jax.lax.stop_gradient(targets))).sum(1)


def sinkhorn(scores: ArrayLike, *, epsilon: ArrayLike = 0.05, iterations: int = 3) -> Array:
  """Computes soft assignments of examples to prototypes that use all prototypes equally (SwAV).

  The assignments start as exp(scores/ε). Each iteration scales the columns to the sum n/K and then
  the rows to the sum 1. With many iterations the result is the optimal transport plan with entropy
  regularization ε.

  Args:
    scores: scores [n, K] of all examples on all devices.
    epsilon: regularization ε > 0, in units of the scores.
    iterations: number of iterations, at least 1.

  Returns:
    One distribution over the prototypes per example, [n, K], without gradient.

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> scores = jax.random.normal(jax.random.key(0), (6, 3)) / 10
    >>> losses.sinkhorn(scores, iterations=20).sum(0).round(2)
    Array([2., 2., 2.], dtype=float32)

  References:
    Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
    2020, arXiv 2006.09882, eq. 3.
    Cuturi, "Sinkhorn Distances", 2013, arXiv 1306.0895.

  In other libraries:
    The authors' code computes exp(scores/ε), which overflows in float32 for scores above 88 ε. This
    function computes with logarithms and does not overflow.
  """
  (scores,) = check_vectors(scores=scores)
  check_integer("iterations", iterations, 1)
  check_positive("epsilon", epsilon)
  n, k = scores.shape
  log_q = scores.astype(compute_dtype(scores)) / epsilon
  for _ in range(iterations):
    log_q = log_q - jax.nn.logsumexp(log_q, 0) + jnp.log(n / k)
    log_q = log_q - jax.nn.logsumexp(log_q, 1, keepdims=True)
  return jax.lax.stop_gradient(jnp.exp(log_q))


def swapped_prediction(
  scores: ArrayLike, assignments: ArrayLike, *, temperature: ArrayLike = 0.1
) -> Array:
  """SwAV loss: each view predicts the prototype assignments of the other views.

      L_i = mean over a and b ≠ a of −Σ_k q_iak log softmax_k(s_ib/τ)

  Args:
    scores: scores s of v ≥ 2 views, [v, n, K]: the dot products of vectors and prototypes. The
      caller normalizes both.
    assignments: assignments q of the first u ≤ v views, [u, n, K], such as the results of
      `sinkhorn`.
    temperature: temperature τ > 0.

  Returns:
    The loss of each example, [n].

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> scores = jax.random.normal(jax.random.key(0), (2, 6, 3)) / 10
    >>> assignments = jax.vmap(losses.sinkhorn)(scores)
    >>> losses.swapped_prediction(scores, assignments).shape
    (6,)

  References:
    Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
    2020, arXiv 2006.09882, eq. 2.
  """
  scores, (assignments,) = check_views(scores=scores), to_common_dtype(assignments=assignments)
  check_positive("a temperature", temperature)
  return _cross_entropy(assignments, scores.astype(compute_dtype(scores)) / temperature)


def self_distillation(
  student: ArrayLike,
  teacher: ArrayLike,
  *,
  center: ArrayLike,
  temperature: ArrayLike = 0.1,
  teacher_temperature: ArrayLike = 0.04,
) -> Array:
  """DINO loss: the student predicts the distribution that the teacher gives for another view.

      L_i = mean over a and b ≠ a of −Σ_k softmax_k((t_ia − c)/τ_t) log softmax_k(s_ib/τ_s)

  Args:
    student: logits s of v ≥ 2 views, [v, n, K].
    teacher: logits t of the first u ≤ v views, [u, n, K]. No gradient flows into them.
    center: moving average c of the teacher's logits before this step, [K] or a shape that
      broadcasts to [K].
    temperature: temperature τ_s > 0 of the student.
    teacher_temperature: temperature τ_t > 0 of the teacher.

  Returns:
    The loss of each example, [n].

  Example:
    >>> import jax
    >>> from contrastax import losses
    >>> student, teacher = jax.random.normal(jax.random.key(0), (2, 2, 6, 3))
    >>> losses.self_distillation(student, teacher, center=0.0).shape
    (6,)

  References:
    Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", 2021, arXiv
    2104.14294, eq. 2 and algorithm 1.

  In other libraries:
    DINOv2 sums over the pairs of views instead of averaging.
  """
  student = check_views(student=student)
  teacher = jax.lax.stop_gradient(check_views(1, teacher=teacher))
  if hasattr(center, "dtype"):
    center = numbers("center", center)
  else:
    check_numbers(center=center)
  check_positive("a temperature", temperature)
  check_positive("teacher_temperature", teacher_temperature)
  targets = jax.nn.softmax((teacher.astype(compute_dtype(teacher)) - center) / teacher_temperature)
  return _cross_entropy(targets, student.astype(compute_dtype(student)) / temperature)


def _cross_entropy(targets: Array, logits: Array) -> Array:
  """Returns the mean cross-entropy of targets [u, n, K] and logits [v, n, K] of different views."""
  a, v = len(targets), len(logits)
  if a > v or jnp.shape(targets)[1:] != jnp.shape(logits)[1:]:
    raise UserError(
      "the assignments or teacher logits must have the shape [u, n, K] with u ≤ v if the scores or "
      "student logits have the shape [v, n, K]; "
      f"the shapes are {jnp.shape(targets)} and {jnp.shape(logits)}"
    )
  log_p = jax.nn.log_softmax(logits)
  entropies = -jnp.einsum("ank,bnk->abn", targets, log_p, precision="highest")
  different = ~jnp.eye(a, v, dtype=bool)[:, :, None]
  return jnp.where(different, entropies, 0).sum((0, 1)) / (a * (v - 1))
