"""Losses that predict another view's output, which carries no gradient; no negatives.

`negative_cosine` compares vectors; the others compare distributions over K prototypes, given as
scores [v, n, K] of v views of each example. All return one value per example, [n].
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from contrastax.core import UserError, check_integer
from contrastax.losses.arrays import of_one_type, precision, vectors, views_of
from contrastax.pairwise import unit
from contrastax.pairwise.inputs import check_numbers, check_positive, numbers


def negative_cosine(predictions, targets):
  """What BYOL and SimSiam minimize: L_i = −cos(p_i, z_i), z without gradient.

  Args:
    predictions: p, [n, d], of one view.
    targets: z, [n, d], of the other; no gradient flows into them.

  Returns:
    [n], in [−1, 1]. A zero vector has cosine 0.

  Chen & He 2021, arXiv 2011.10566, eq. 1, whose loss is the mean of both directions. BYOL (Grill
  et al. 2020, arXiv 2006.07733, eq. 2) is 2 + 2 times this, summed over both directions.
  """
  predictions, targets = vectors(predictions=predictions, targets=targets)
  return -(unit(predictions) * unit(jax.lax.stop_gradient(targets))).sum(1)


def sinkhorn(scores, *, epsilon=0.05, iterations=3):
  """SwAV's assignments: the rows' distributions over prototypes that use all prototypes equally.

  Of exp(scores/ε), columns are scaled to a sum of n/K and rows to 1, in turn, `iterations`
  times, rows last. With more iterations this is the optimal transport plan with entropy ε.

  Args:
    scores: [n, K], of all examples on all devices.
    epsilon: ε > 0, in units of the scores.
    iterations: at least 1.

  Returns:
    [n, K], rows of sum 1, without gradient.

  Caron et al. 2020, arXiv 2006.09882, eq. 3; Cuturi 2013. In logarithms: the authors' exp
  overflows in float32 where a score is above 88 ε.
  """
  (scores,) = vectors(scores=scores)
  check_integer("iterations", iterations, 1)
  check_positive("epsilon", epsilon)
  n, k = scores.shape
  log_q = scores.astype(precision(scores)) / epsilon
  for _ in range(iterations):
    log_q = log_q - jax.nn.logsumexp(log_q, 0) + jnp.log(n / k)
    log_q = log_q - jax.nn.logsumexp(log_q, 1, keepdims=True)
  return jax.lax.stop_gradient(jnp.exp(log_q))


def swapped_prediction(scores, assignments, *, temperature=0.1):
  """SwAV: every view predicts the assignments of the others.

    L_i = mean over a and b ≠ a of −Σ_k q_iak log softmax_k(s_ib/τ)

  Args:
    scores: s, [v, n, K], with prototypes, v ≥ 2; both normalized by the caller.
    assignments: q, [a, n, K], of the first a ≤ v views, as `sinkhorn` gives them.
    temperature: τ > 0.

  Returns:
    [n]. Caron et al. 2020, arXiv 2006.09882, eq. 2.
  """
  scores, (assignments,) = views_of(scores=scores), of_one_type(assignments=assignments)
  check_positive("a temperature", temperature)
  return _across_views(assignments, scores.astype(precision(scores)) / temperature)


def self_distillation(student, teacher, *, center, temperature=0.1, teacher_temperature=0.04):
  """DINO: the student's distribution of one view follows the teacher's of another.

    L_i = mean over a and b ≠ a of −Σ_k softmax_k((t_ia − c)/τ_t) log softmax_k(s_ib/τ_s)

  Args:
    student: s, [v, n, K], logits of all views, v ≥ 2.
    teacher: t, [a, n, K], logits of the first a ≤ v of them; no gradient flows into them.
    center: c, [K] or broadcast to it, the teacher's moving mean before this step.
    temperature, teacher_temperature: τ_s, τ_t > 0.

  Returns:
    [n]. Caron et al. 2021, arXiv 2104.14294, eq. 2 and algorithm 1. DINOv2 sums over the pairs.
  """
  student = views_of(student=student)
  teacher = jax.lax.stop_gradient(views_of(least=1, teacher=teacher))
  if hasattr(center, "dtype"):  # broadcast to [K]
    center = numbers("center", center)
  else:
    check_numbers(center=center)
  check_positive("a temperature", temperature)
  check_positive("teacher_temperature", teacher_temperature)
  targets = jax.nn.softmax((teacher.astype(precision(teacher)) - center) / teacher_temperature)
  return _across_views(targets, student.astype(precision(student)) / temperature)


def _across_views(targets, logits):
  """The mean cross-entropy of targets [a, n, K] and logits [v, n, K] over pairs of unlike views."""
  a, v = len(targets), len(logits)
  if a > v or jnp.shape(targets)[1:] != jnp.shape(logits)[1:]:
    raise UserError(
      f"targets are of the first of the views: shapes {jnp.shape(targets)} and {jnp.shape(logits)}"
    )
  log_p = jax.nn.log_softmax(logits)
  entropies = -jnp.einsum("ank,bnk->abn", targets, log_p, precision="highest")
  unlike = ~jnp.eye(a, v, dtype=bool)[:, :, None]
  return jnp.where(unlike, entropies, 0).sum((0, 1)) / (a * (v - 1))
