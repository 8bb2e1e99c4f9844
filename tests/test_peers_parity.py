"""Five training steps beside lightly's: parameters, moving averages and losses, in float64.

benchmarks/peers_parity.py makes the golden values and says what they are. Its conventions are in
the file's `meta`; what they ask of ours is said at each of METHODS.
"""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastax import methods, networks, temperatures, training
from contrastax.core import Encoder, Group
from contrastax.negatives import queue

GOLDEN = dict(np.load(pathlib.Path(__file__).parent / "golden" / "methods_lightly.npz"))
META = json.loads(str(GOLDEN.pop("meta")))
PARAMS = {record["method"]: record["params"] for record in META["records"]}


def linear(name):
  """x W.T + b, from the weights from which lightly's began."""

  def init(key, x):
    return {leaf: GOLDEN[f"initial.{name}.{leaf}"] for leaf in ("weight", "bias")}, ()

  def apply(params, state, x, *, key, train):
    return x @ params["weight"].T + params["bias"], state

  return Encoder(init, apply)


def stored(view):
  """A recipe: one of the views that the batch carries."""
  return lambda key, images, index: images[..., view]


COMMON = {
  "encoder": linear("encoder"), "projection": linear("projection"), "views": (stored(0), stored(1)),
}  # fmt: skip


def simclr(p):
  return methods.SimCLR(temperature=temperatures.fixed(p["temperature"]), **COMMON)


def moco(p):
  """lightly's queue begins full, and so must ours: see `with_bank`."""
  return methods.MoCo(
    temperature=temperatures.fixed(p["temperature"]), momentum=p["momentum"],
    negatives=queue(len(GOLDEN["moco.bank"])), **COMMON,
  )  # fmt: skip


def byol(p):
  """Ours is 4 + 4 times lightly's loss, so its rate is divided by 4: see FACTOR."""
  return methods.BYOL(predictor=linear("predictor"), momentum=p["momentum"], **COMMON)


def barlow_twins(p):
  """lightly's λ is not the paper's, which is our default."""
  return methods.BarlowTwins(redundancy_weight=p["redundancy_weight"], **COMMON)


def vicreg(p):
  weights = {name: value for name, value in p.items() if name != "rate"}
  return methods.VICReg(**weights, **COMMON)


METHODS = {make.__name__: make for make in (simclr, moco, byol, barlow_twins, vicreg)}
# Our loss: a constant, and how many times lightly's.
CONSTANT, FACTOR = {"byol": 4.0}, {"byol": 4.0}


def with_bank(state, vectors):
  """The state of a queue that holds these vectors, each of an example that no batch has."""
  index = jnp.arange(10_000, 10_000 + len(vectors), dtype=jnp.int32)
  side = {**state["keys"].side, "index": index}
  return {**state, "keys": Group(jnp.asarray(vectors), side)}


def batch_of(step):
  """Both views of each example on the last axis; no example comes twice."""
  views = GOLDEN["views"][step]
  n = views.shape[1]
  return {
    "image": jnp.asarray(np.moveaxis(views, 0, -1)),
    "index": jnp.arange(step * n, (step + 1) * n, dtype=jnp.int32),
  }


def named_leaves(prefix, params):
  return {
    f"{prefix}.{name}.{leaf}": np.asarray(value)
    for name in ("encoder", "projection", "predictor")
    for leaf, value in params.get(name, {}).items()
  }


def steps_of(name, method):
  """After each step, all of ours by the names of the golden arrays."""
  factor = FACTOR.get(name, 1.0)
  optimizer = optax.sgd(PARAMS[name]["rate"] / factor, META["optimizer"]["momentum"])
  now = training.init(method, optimizer, batch_of(0))
  if name == "moco":
    contrast = now.state["terms"]["contrast"]
    filled = with_bank(contrast["negatives"], GOLDEN["moco.bank"])
    terms = {"contrast": {**contrast, "negatives": filled}}
    now = now._replace(state={**now.state, "terms": terms})
  step = training.make_train_step(method, optimizer)
  for t in range(len(GOLDEN["views"])):
    now, metrics = step(now, batch_of(t))
    target = now.state.get("target", {"params": {}})
    loss = (np.asarray(metrics["loss"]) - CONSTANT.get(name, 0)) / factor
    yield {
      **named_leaves(name, now.params),
      **named_leaves(f"{name}.target", target["params"]),
      f"{name}.loss": loss,
    }


def compare(name, method):
  """Every step of every array, to 1e-8 of its largest entry."""
  own = {array for array in GOLDEN if array.startswith(f"{name}.")} - {"moco.bank"}
  for t, found in enumerate(steps_of(name, method)):
    assert found.keys() == own
    for array, value in found.items():
      expected = GOLDEN[array][t]
      assert value.dtype == np.float64, array
      np.testing.assert_allclose(
        value, expected, rtol=0, atol=1e-8 * np.abs(expected).max(), err_msg=f"{array}, step {t}"
      )


@pytest.mark.parametrize("name", METHODS)
def test_five_steps_are_lightlys(float64, name):
  compare(name, METHODS[name](PARAMS[name]))


# The same comparison of methods that are a little wrong.


class FollowsTooEarly(methods.BYOL):
  """Its targets follow the parameters of before the optimizer's step."""

  def objective(self, params, state, batch, key):
    loss, (state, metrics) = super().objective(params, state, batch, key)
    return loss, (networks.advance(self, params, state, state["step"]), metrics)

  def advance(self, params, state, step):
    return {**state, "step": step + 1}


def changed(**changes):
  return lambda method: dataclasses.replace(method, **changes)


# What is wrong, and where that shows first.
MUTANTS = {
  "simclr": (changed(temperature=temperatures.fixed(0.5 + 1e-6)), "encoder"),
  "moco": (changed(temperature=temperatures.fixed(0.2 + 1e-6)), "encoder"),
  "byol": (lambda method: FollowsTooEarly(**vars(method)), "target.encoder"),
  "barlow_twins": (changed(redundancy_weight=0.0051), "encoder"),
  "vicreg": (changed(covariance_weight=1 + 1e-6), "encoder"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_small_difference_is_seen(float64, name):
  mutate, where = MUTANTS[name]
  with pytest.raises(AssertionError, match=rf"{name}\.{where}\.\w+, step 0"):
    compare(name, mutate(METHODS[name](PARAMS[name])))
