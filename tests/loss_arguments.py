"""What the tests of a loss's inputs are given: every loss on its arrays, and the arguments of each by name."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mesh_cases import LOSSES, ON_GROUPS

from contrastax import criteria, losses
from contrastax.core import UserError
from contrastax.pairwise import Plan

DENSE, TILES = Plan("dense"), Plan((7, 6))
CASES = {
  prefix + name + (f", {form}" if form else ""): (*case, name)
  for prefix, table in (("", LOSSES), ("groups ", ON_GROUPS))
  for name, forms in table.items()
  for form, case in forms.items()
}


VECTORS = {
  "a", "b", "c", "x", "z", "q", "qx", "qz", "negatives", "proxies", "guide", "views", "teacher",
  "assignments",
}  # fmt: skip


def float32(arrays):
  """The arrays in JAX's default types."""
  return jax.tree.map(jnp.asarray, arrays)


def refused(call, *fragments):
  with pytest.raises(UserError) as caught:
    call()
  message = str(caught.value)
  assert "\n" not in message
  assert all(fragment in message for fragment in fragments), message


Z = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
Y = np.arange(8) % 3
W = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)), jnp.float32)
W_LIKE = jnp.roll(Z, 1, 0)


NUMBERS = {
  "alignment": ["alpha"],
  "arcface": ["margin", "scale"],
  "barlow_twins": ["redundancy_weight", "eps"],
  "cacr": ["t_plus", "t_minus"],
  "circle": ["margin", "scale"],
  "cosface": ["margin", "scale"],
  "dclw": ["sigma"],
  "debiased": ["tau_plus"],
  "dual_temperature": ["inter_temperature"],
  "group_ordering": ["k", "steepness"],
  "hard_negative": ["beta", "tau_plus"],
  "hard_quantile": ["alpha"],
  "meco": ["gamma"],
  "multi_similarity": ["alpha", "beta", "base", "margin"],
  "n_pairs": ["l2_weight"],
  "rince": ["q", "weight"],
  "self_distillation": ["center", "teacher_temperature"],
  "sinkhorn": ["epsilon", "iterations"],
  "soft_contrastive": ["guide_temperature"],
  "sogclr": ["gamma"],
  "spectral": ["max_length"],
  "triplet": ["margin"],
  "uniformity": ["t"],
  "vicreg": ["invariance_weight", "variance_weight", "covariance_weight", "eps"],
  "w_mse": ["slices", "shrinkage"],
}
"""The options of each loss that are numbers; all others are arrays, temperatures or flags."""
OTHER_OPTIONS = {
  "temperature", "plan", "bias", "negatives", "labels", "mining", "aggregate", "detach_weights",
  "detach_candidates", "own_in_denominator", "shuffles", "index", "memory", "relative", "bimodal",
}  # fmt: skip
FLOATS = (
  "z1", "z2", "a", "b", "x", "y", "z", "anchors", "positives", "proxies", "guide", "predictions",
  "targets", "views", "student", "teacher", "scores", "assignments", "data", "noise", "log_noise",
  "data_log_noise",
)  # fmt: skip
"""The arguments of losses that are arrays of floats; `modalities` are those of `symile`."""


def arguments(n, d):
  """An argument of each name."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  def of(name):
    if name in ("views", "student", "teacher", "assignments"):
      return normal(2, n, d)
    if name in ("data", "noise", "log_noise", "data_log_noise"):
      return normal(n)
    return normal(3, d) if name == "proxies" else normal(n, d)

  others = {
    "labels": np.arange(n) % 3, "temperature": 0.1, "index": np.arange(n), "margin": 0.1,
    "center": 0.0, "inter_temperature": 1.0, "tau_plus": 0.1, "beta": 1.0, "alpha": 0.5,
    "bias": -1.0,
  }  # fmt: skip
  return {name: of(name) for name in FLOATS} | others


def options_of(name, made, *more):
  """The arguments that a loss needs, and `more` of its options, by name."""
  parameters = inspect.signature(getattr(losses, name)).parameters.values()
  given = {
    p.name: made[p.name]
    for p in parameters
    if p.name in made and (p.default is p.empty or p.name in more)
  }
  if name == "swapped_prediction":
    given["scores"] = made["views"]
  if name == "symile":
    given |= {key: made[key] for key in ("a", "b", "x")}
  if "memory" in (p.name for p in parameters):
    given["memory"] = criteria.sogclr().init(1 if name == "meco" else len(made["a"]))
  return given


def symile(arrays, rest):
  return losses.symile(*arrays.values(), **rest)
