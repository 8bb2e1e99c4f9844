"""DINO: the student's distribution of a view follows the teacher's of another."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from contrastax import schedules
from contrastax.core import Encoder, Recipe, Schedule
from contrastax.losses import self_distillation
from contrastax.methods.base import BaseMethod, check_first_two, summary
from contrastax.networks import ema
from contrastax.paths import embedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class DINO(BaseMethod):
  """DINO (Caron et al. 2021, arXiv 2104.14294, Algorithm 1).

    s_a = student(x_a) for all views;   t_a = teacher(x_a) for the first two, without gradient
    L = mean over examples, a and b ≠ a of −Σ_k softmax_k((t_a − c)/τ_t) log softmax_k(s_b/τ_s)
    c ← m_c c + (1 − m_c) mean t;   teacher ← m teacher + (1 − m) student

  The paper's: 65,536 prototypes behind a bottleneck of 256 dimensions, τ_s = 0.1, τ_t from 0.04
  to 0.07 in 30 epochs, m_c = 0.9, m from 0.996 to 1 by `schedules.cosine`, prototypes frozen for
  the first epoch, two large views and eight small ones, AdamW. It evaluates the teacher, this
  library's reports the student's encoder, `params["encoder"]`; the teacher's is
  `state["target"]["params"]["encoder"]`.

  Fields: `encoder`, `projection`; `prototypes`, as `encoders.prototypes` gives them; `views`, a
  recipe for two views or a tuple of recipes, the first two of one size; `momentum` m and
  `teacher_temperature` τ_t, numbers or schedules; `student_temperature` τ_s;
  `center_momentum` m_c; `frozen_steps`, for which prototypes are not trained.
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

  def see(self, net, batch):
    x = net.views(self.views, batch, self.input)
    check_first_two(self, x)
    z = net("projection", embedding(net("encoder", x)))
    net.freeze("prototypes", net.step < self.frozen_steps)
    student = net("prototypes", z)
    of_two = embedding(net.target("encoder", {0: x[0], 1: x[1]}))
    teacher = net.target("prototypes", net.target("projection", of_two))
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
