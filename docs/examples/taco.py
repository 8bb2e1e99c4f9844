"""TACO (Zheng et al. 2023, arXiv 2306.13229): a state and actions find the state that follows.

The states are those of a pendulum that is pushed at random.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from contrastax import data, encoders, methods, temperatures
from contrastax.core import Encoder
from contrastax.methods import Evaluated
from contrastax.pairwise import bilinear
from contrastax.paths import embedding
from contrastax.terms import Contrast


@dataclasses.dataclass(frozen=True, kw_only=True)
class TACO(methods.BaseMethod):
  """z_t = f(s_t), u = g(a_t … a_{t+K−1}), h(z_t, u) finds z_{t+K} among those of the batch."""

  state: Encoder
  actions: Encoder
  transition: Encoder

  @property
  def evaluated(self):
    return Evaluated("state", "state", ())

  def see(self, net, batch):
    states, actions = batch["state"], batch["action"][:, :-1]
    z = embedding(net("state", {0: states[:, 0], 1: states[:, -1]}))
    u = embedding(net("actions", actions.reshape(len(actions), -1)))
    net.record("future", {1: z[1]})
    net("transition", jnp.concatenate([z[0], u], -1))


method = TACO(
  state=encoders.mlp((32,)),
  actions=encoders.mlp((32,)),
  transition=encoders.projection((32,), 32),
  terms=(
    Contrast(
      anchors="transition", keys="future", score=bilinear(), temperature=temperatures.fixed(1.0)
    ),
  ),
)


def pendulum(episodes=32, length=20):
  draw = np.random.default_rng(0)
  angle, speed = draw.uniform(-3, 3, episodes), np.zeros(episodes)
  states, actions = [], []
  for _ in range(length):
    push = draw.uniform(-2, 2, episodes)
    states.append(np.stack([np.cos(angle), np.sin(angle), speed], -1))
    actions.append(push[:, None])
    speed = speed + 0.1 * (9.8 * np.sin(angle) + push)
    angle = angle + 0.1 * speed
  swap = [np.float32(np.stack(x, 1)).reshape(episodes * length, -1) for x in (states, actions)]
  return {"state": swap[0], "action": swap[1]}, np.repeat(np.arange(episodes), length)


def source(**how):
  fields, episode = pendulum()
  return data.Resident(fields, order=data.windows(episode, length=4, batch_size=64), **how)
