"""The train step's arguments: what is refused, and which meshes it serves."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import processes
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastax import (
  criteria,
  data,
  encoders,
  methods,
  negatives,
  temperatures,
  training,
  views,
)
from contrastax.core import UserError

PARTS = {
  "encoder": encoders.mlp((8,)),
  "projection": encoders.projection((8,), out=8),
  "views": views.affine_jitter(),
}
METHOD = methods.SimCLR(**PARTS)
SGD = optax.sgd(0.1)


def digits(**options):
  return data.Resident(data.load("digits").train, batch_size=16, **options)


@functools.cache
def batch():
  return digits().batch(0)


def refused(words, call):
  with pytest.raises(UserError, match=words) as error:
    call()
  assert "\n" not in str(error.value)


# Gradient accumulation.


def every_other_step():
  return optax.MultiSteps(optax.sgd(0.1), 2)


ACCUMULATING = {
  "MultiSteps": every_other_step,
  "a transformation": lambda: every_other_step().gradient_transformation(),
  "in a chain": lambda: optax.chain(
    optax.clip(1.0), every_other_step().gradient_transformation(), optax.scale(1.0)
  ),
  "if finite": lambda: optax.apply_if_finite(every_other_step().gradient_transformation(), 3),
  "masked": lambda: optax.masked(every_other_step().gradient_transformation(), True),
  "in a partition": lambda: optax.partition(
    {"a": every_other_step().gradient_transformation(), "b": optax.sgd(0.1)},
    lambda params: {name: "a" if name == "encoder" else "b" for name in params},
  ),
  "with hyperparameters": lambda: optax.inject_hyperparams(
    lambda rate: optax.MultiSteps(optax.sgd(rate), 2).gradient_transformation()
  )(0.1),
  "apply_every": lambda: optax.chain(optax.sgd(0.1), optax.apply_every(2)),
}
METHODS = {
  "SimCLR": METHOD,
  "MoCo": methods.MoCo(**PARTS, momentum=0.9, negatives=negatives.queue(64)),
}


@pytest.mark.parametrize("how", ACCUMULATING)
@pytest.mark.parametrize("name", METHODS)
def test_accumulated_gradients_are_refused_and_chunked_is_named(how, name):
  """A micro-batch sees its own negatives only, and a target, a queue or a schedule would move in it."""
  method, optimizer = METHODS[name], ACCUMULATING[how]()
  words = r"accumulates gradients, .* encoder=encoders.chunked\(encoder, n\)"
  refused(words, lambda: training.init(method, optimizer, batch()))
  # A state that was made otherwise, such as one from a checkpoint, is refused by the step.
  state = training.init(method, SGD, batch())
  state = state._replace(opt_state=optimizer.init(state.params))
  refused(words, lambda: training.make_train_step(method, optimizer)(state, batch()))


@pytest.mark.parametrize(
  "optimizer",
  [optax.adamw(1e-3), optax.chain(optax.clip(1.0), SGD), optax.apply_if_finite(SGD, 3)],
  ids=["adamw", "chain", "if finite"],
)
def test_an_optimizer_that_moves_in_each_step_is_taken(optimizer):
  state = training.init(METHOD, optimizer, batch())
  before = jax.tree.map(np.asarray, state.params)
  after, _ = training.make_train_step(METHOD, optimizer)(state, batch())
  moved = optax.tree.norm(optax.tree.sub(after.params, before))
  assert int(after.step) == 1 and float(moved) > 0


# Other arguments.

WRONG = {
  "a class": ({"method": methods.SimCLR}, "method must be an instance .*, not the class SimCLR"),
  "no method": (
    {"method": encoders.mlp((8,))},
    "method must be an instance with init, .* not Encoder",
  ),
  "a list in a method": (
    {"method": methods.SimCLR(**{**PARTS, "views": [views.affine_jitter()] * 2})},
    "method must be hashable .*; give its parts tuples instead of lists",
  ),
  "no optimizer": ({"optimizer": 0.1}, "optimizer must be an optax.Gradient.*, not float"),
  "an optimizer's maker": ({"optimizer": optax.sgd}, "optimizer must be an optax.*, not sgd"),
  "a mesh of another axis": (
    {"mesh": jax.make_mesh((1,), ("x",))},
    r"must have an axis 'data' .*training.make_mesh\(\), but has \('x',\)",
  ),
  "no mesh": (
    {"mesh": 8},
    r"mesh must be a jax.sharding.Mesh, such as training.make_mesh\(\), not int",
  ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_argument_is_refused_in_one_line(mistake):
  given, words = WRONG[mistake]
  arguments = {"method": METHOD, "optimizer": SGD, "mesh": None, **given}
  refused(words, lambda: training.init(batch=batch(), **arguments))
  refused(words, lambda: training.make_train_step(**arguments))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, None, "1"])
def test_a_seed_is_an_integer_of_32_bits(seed):
  words = "seed must be "
  refused(words, lambda: training.init(METHOD, SGD, batch(), seed=seed))


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(7), jnp.int32(7)])
def test_a_seed_may_be_of_any_integer_type(seed):
  assert int(training.init(METHOD, SGD, batch(), seed=seed).seed) == int(seed)


@pytest.mark.parametrize("wrong", [{"image": np.zeros((2, 8, 8, 1))}, {}, np.zeros(3), None])
def test_a_batch_has_an_index(wrong):
  refused(
    "batch must be a dict .* includes 'index', not", lambda: training.init(METHOD, SGD, wrong)
  )


@pytest.mark.parametrize("make", [training.sharded, training.replicated])
@pytest.mark.parametrize("mistake", ["a mesh of another axis", "no mesh"])
def test_a_layout_is_of_a_mesh_with_an_axis_for_data(make, mistake):
  given, words = WRONG[mistake]
  refused(words, lambda: make(given["mesh"]))


# Meshes, in a process with four devices.

SHAPES = {
  "data": ((4,), ("data",)),
  "data, a further axis of 1": ((4, 1), ("data", "model")),
  "1 before data": ((1, 4), ("model", "data")),
  "data and model": ((2, 2), ("data", "model")),
}


def with_a_table():
  """A method that keeps something of each example, so that its state is divided."""
  return methods.SimCLR(
    **PARTS,
    temperature=temperatures.individual(0.2),
    loss=criteria.sogclr(0.9),
    examples=1297,
  )


def loss_after_two_steps(mesh, sharding=None):
  source = digits(sharding=sharding or training.sharded(mesh))
  method = with_a_table()
  state = training.init(method, SGD, source.batch(0), mesh=mesh)
  step = training.make_train_step(method, SGD, mesh)
  for t in range(2):
    state, metrics = training.block_on_virtual_devices(
      step(state, training.block_on_virtual_devices(source.batch(t), mesh)), mesh
    )
  return float(metrics["loss"])


def error_of(call):
  try:
    call()
  except UserError as error:
    return str(error)
  return "no error"


def measure():
  alone = training.make_mesh(jax.devices()[:1])
  found = {"apart": {}, "errors": {}}
  expected = loss_after_two_steps(alone)
  for name, (shape, axes) in SHAPES.items():
    mesh = jax.make_mesh(shape, axes)  # of explicit axes
    assert mesh.axis_types == (AxisType.Explicit,) * len(axes)
    found["apart"][name] = abs(loss_after_two_steps(mesh) - expected)
  automatic = jax.make_mesh(shape, axes, axis_types=(AxisType.Auto,) * len(axes))
  found["apart"]["automatic axes"] = abs(loss_after_two_steps(automatic) - expected)
  own = NamedSharding(mesh, PartitionSpec("data"))
  found["apart"]["a sharding of explicit axes"] = abs(loss_after_two_steps(mesh, own) - expected)
  mesh = jax.make_mesh((4,), ("data",))
  layout = NamedSharding(mesh, PartitionSpec("data"))
  placed = {k: jax.device_put(np.asarray(v), layout) for k, v in digits().batch(0).items()}
  found["errors"]["a batch"] = error_of(lambda: training.init(METHOD, SGD, placed, mesh=mesh))
  state = training.init(METHOD, SGD, digits(sharding=training.sharded(mesh)).batch(0), mesh=mesh)
  step = training.make_train_step(METHOD, SGD, mesh)
  found["errors"]["a batch of a step"] = error_of(lambda: step(state, placed))
  with jax.set_mesh(mesh):
    found["errors"]["set_mesh"] = error_of(lambda: loss_after_two_steps(mesh))
  return found


@pytest.fixture(scope="module")
def on_four_devices():
  return processes.measured(pathlib.Path(__file__), devices=4)


def test_any_mesh_with_an_axis_for_data_gives_the_same_step(on_four_devices):
  """Of automatic or explicit axes, with further ones of any size; in float64."""
  assert len(on_four_devices["apart"]) == len(SHAPES) + 2
  for case, apart in on_four_devices["apart"].items():
    assert apart < 1e-10, case


def test_arrays_on_explicit_axes_are_refused_and_make_mesh_is_named(on_four_devices):
  for case, message in on_four_devices["errors"].items():
    assert "training.make_mesh()" in message and "xplicit" in message, case
    assert "\n" not in message, case


if __name__ == "__main__":
  print(json.dumps(measure()))
