"""Your own criterion, focal InfoNCE, inside MoCo with MoCHi.

    L_i = (1 − e^{−v_i})^γ v_i,   v_i InfoNCE

From a config the loss is {"name": "own_criterion:focal", "gamma": 2.0}.
"""

import dataclasses

import jax.numpy as jnp
from parts import digits

from contrastax import criteria, data, encoders, methods, temperatures, views
from contrastax.core import Criterion
from contrastax.negatives import mochi, queue


@dataclasses.dataclass(frozen=True)
class focal(Criterion):
  """(1 − e^{−v})^γ v, where v is the value of InfoNCE. Anchors with a small loss get less weight."""

  gamma: float = 2.0

  def __call__(self, anchors, groups, compare, **options):
    outcome = criteria.info_nce()(anchors, groups, compare, **options)
    v = outcome.value
    return outcome._replace(value=(1 - jnp.exp(-v)) ** self.gamma * v)


method = methods.MoCo(
  encoder=encoders.mlp((64,)),
  projection=encoders.projection((32,), 16),
  views=views.affine_jitter(),
  momentum=0.9,
  temperature=temperatures.fixed(0.2),
  loss=focal(gamma=2.0),
  negatives=queue(256) + mochi(hard=32, mixed=16, with_anchor=8),
)


def source(**how):
  return data.Resident(digits, batch_size=64, **how)
