"""DINO: the student predicts the distribution of the teacher for another view."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from typing_extensions import override

from contrastax import schedules
from contrastax.core import Array, Batch, Encoder, Metrics, Recipe, Schedule
from contrastax.losses import self_distillation
from contrastax.methods.base import BaseMethod, check_first_two, summary
from contrastax.networks import Net, ema
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class DINO(BaseMethod):
  """DINO: self-distillation without labels.

      s_a = student(x_a) for all views a;   t_a = teacher(x_a) for the first two, without gradient
      L = mean over examples, a and b ≠ a of −Σ_k softmax_k((t_a − c)/τ_t) log softmax_k(s_b/τ_s)
      c ← m_c c + (1 − m_c) mean t;   teacher ← m teacher + (1 − m) student

  The paper uses 65,536 prototypes on a bottleneck of 256 dimensions, τ_s = 0.1, τ_t from 0.04 to 0.07
  in 30 epochs, m_c = 0.9, m from 0.996 to 1 with `schedules.cosine`, frozen prototypes in the first
  epoch, two large and eight small views, and AdamW.

  The paper evaluates the teacher. This library evaluates the encoder of the student,
  `params["encoder"]`. The encoder of the teacher is `state["target"]["params"]["encoder"]`.

  Args:
    encoder: the encoder of the student.
    projection: the projection of the student.
    prototypes: the output layer, see `encoders.prototypes`.
    views: a recipe that draws two views, or a tuple of recipes. The first two have the same size.
    momentum: m, a number or a schedule.
    student_temperature: τ_s.
    teacher_temperature: τ_t, a number or a schedule.
    center_momentum: m_c.
    frozen_steps: the prototypes are not trained in the first `frozen_steps` steps.

  Example:
    >>> from contrastax import encoders, methods, views
    >>> method = methods.DINO(
    ...   encoder=encoders.convnet(),
    ...   projection=encoders.projection(),
    ...   prototypes=encoders.prototypes(64),
    ...   views=views.simclr(32),
    ... )

  References:
    Caron et al., "Emerging properties in self-supervised vision transformers", 2021, arXiv
    2104.14294, Algorithm 1.
  """

  encoder: Encoder
  projection: Encoder
  prototypes: Encoder
  views: Recipe | tuple[Recipe, ...]
  momentum: float | Schedule = 0.996
  student_temperature: float = 0.1
  teacher_temperature: float | Schedule = 0.04
  center_momentum: float = 0.9
  frozen_steps: int = 0

  @override
  def see(self, net: Net, batch: Batch) -> tuple[Array, Metrics] | None:
    x = net.views(self.views, batch, self.input)
    check_first_two(self, x)
    z = net("projection", embedding(net("encoder", x)))
    net.freeze("prototypes", net.step < self.frozen_steps)
    student = net("prototypes", z)
    target_embedding = embedding(net.target("encoder", {0: x[0], 1: x[1]}))
    teacher = net.target("prototypes", net.target("projection", target_embedding))
    teacher = jnp.stack([teacher[0], teacher[1]])
    center = net.begun("center", lambda: jnp.zeros(teacher.shape[-1]))
    loss = self_distillation(
      jnp.stack(list(student.values())),
      teacher,
      center=center,
      temperature=self.student_temperature,
      teacher_temperature=schedules.at(self.teacher_temperature, net.step),
    )
    net.keep("center", ema(center, teacher.mean((0, 1)), self.center_momentum))
    return loss, summary(student[0], teacher[1])
